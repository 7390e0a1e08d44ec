"""What is unusual about an amount, by the usual ones of its vendor."""

from __future__ import annotations

import math
import statistics
from datetime import date
from decimal import Decimal
from uuid import uuid4

import pytest

from kernel.books import anomaly
from kernel.books.anomaly import Usual
from kernel.books.contract import BankLine

ON = date(2026, 1, 1)


def usual(*amounts: int, first_on: date = ON) -> Usual:
    sizes = [math.log(each) for each in amounts]
    middle = statistics.median(sizes)
    return Usual(len(sizes), first_on, middle, statistics.median(abs(each - middle) for each in sizes))


def look(minor: int, given: Usual | None, *, currency: str = "USD", suspected: bool = False) -> str | None:
    line = BankLine(uuid4(), uuid4(), ON, minor, currency, "x", "", "acme")
    found = anomaly.look(line, given, large_amount=Decimal(5000), is_suspected=suspected)
    return found and found.why


def test_the_score_is_robust() -> None:
    given = usual(100, 110, 121, 133, 146, 10_000_000)
    assert abs(anomaly.z(127, given)) < 0.5
    assert anomaly.z(10_000_000, given) > 20


@pytest.mark.parametrize(("minor", "is_unusual"), [(-1000, False), (-1001, False), (-1150, False), (-1170, True), (-850, True)])  # fmt: skip
def test_a_vendor_that_always_charges_the_same_deviates_from_a_sixth_on(minor: int, is_unusual: bool) -> None:
    assert (look(minor, usual(*[1000] * 12)) is not None) is is_unusual


def test_fewer_than_five_lines_tell_nothing_usual() -> None:
    earlier = date(2025, 1, 1)
    assert look(-499_999_99, usual(*[1000] * 4, first_on=earlier)) is None
    assert look(-499_999_99, usual(*[1000] * 5, first_on=earlier)) is not None


@pytest.mark.parametrize(
    ("minor", "currency", "is_unusual"),
    [(-500_000, "USD", False), (-500_001, "USD", True), (500_001, "USD", True), (-5001, "JPY", True), (-5000, "JPY", False)],
)  # fmt: skip
def test_a_vendor_seen_for_the_first_time_is_unusual_above_the_limit_in_the_lines_currency(
    minor: int, currency: str, is_unusual: bool
) -> None:
    assert (look(minor, None, currency=currency) is not None) is is_unusual
    assert (look(minor, usual(abs(minor)), currency=currency) is not None) is is_unusual


def test_a_line_that_may_be_another_one_is_unusual_whatever_its_amount() -> None:
    assert look(-1, usual(*[1] * 9), suspected=True) == "may be another line told twice"
