"""Prices of language models: by model and day, rounded up to the millionth of a dollar, never guessed."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from kernel.books.prices import Price, listed, price
from kernel.errors import RefusedError

OLD = Price("a", date(2025, 1, 1), Decimal("2.50"), Decimal(10))
NEW = Price("a", date(2026, 1, 1), Decimal(1), Decimal(4))


@pytest.mark.parametrize(("on", "found"), [(date(2025, 12, 31), OLD), (date(2026, 1, 1), NEW)])
def test_a_price_holds_from_its_day_on(on: date, found: Price) -> None:
    assert price("a", on, [NEW, OLD]) == found


@pytest.mark.parametrize(("model", "on"), [("a", date(2024, 12, 31)), ("b", date(2026, 1, 1))])
def test_a_model_without_a_price_is_not_asked(model: str, on: date) -> None:
    with pytest.raises(RefusedError, match=f"'{model}' has no price on {on}"):
        price(model, on, [OLD, NEW])


def test_a_cost_is_rounded_up_to_a_millionth() -> None:
    assert OLD.cost(1, 0) == 3
    assert OLD.cost(1000, 100) == 3500
    assert NEW.cost(0, 0) == 0


def test_the_prices_that_are_shipped_are_read_as_numbers() -> None:
    assert len({(each.model, each.starts) for each in listed()}) == len(listed())
    assert price("gpt-4o-mini", date(2026, 1, 1)).cost(1_000_000, 1_000_000) == 750_000
