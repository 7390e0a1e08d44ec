"""Rating: what a month costs, line by line, and what stays true of it whatever the plan."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import RefusedError
from kernel.money import CURRENCIES
from kernel.usage import rating, verify
from kernel.usage.verify import Adjustment, Lines, Plan

MONTH = "2026-01"
PRICES = st.decimals(0, 10_000, places=6, allow_nan=False, allow_infinity=False)
UNITS = st.integers(0, 10**12)


@st.composite
def plans(draw: st.DrawFn, currency: str | None = None) -> Plan:
    ends = sorted(draw(st.sets(st.integers(1, 10**7), max_size=4)))
    tiers: list[tuple[int | None, Decimal]] = [(end, draw(PRICES)) for end in ends]
    if draw(st.booleans()):
        tiers.append((None, draw(PRICES)))
    return Plan(
        currency or draw(st.sampled_from(["EUR", "USD", "JPY", "KWD"])),
        draw(PRICES),
        draw(st.integers(0, 10**6)),
        tuple(tiers),
        draw(st.none() | PRICES),
        draw(PRICES),
    )


def plan(**fields: Any) -> Plan:
    whole: dict[str, Any] = {
        "currency": "EUR",
        "base_price": Decimal("49.00"),
        "monthly_limit": 1000,
        "tiers": (),
        "overage_price_per_1k": Decimal("2.50"),
        "minimum": Decimal(0),
        **fields,
    }
    return Plan(**whole)


def told(lines: Lines) -> list[tuple[str, int, str]]:
    return [(line.kind, line.quantity, f"{line.amount:f}") for line in lines.lines]


def price_of(each: Plan, number: int) -> Decimal:
    """What one event costs by its number, times 1,000: the rule in one line per case."""
    if number <= each.monthly_limit:
        return Decimal(0)
    for up_to, price in each.tiers:
        if up_to is None or number <= up_to:
            return price
    return each.overage_price_per_1k or Decimal(0)


TIERS = ((5_000, Decimal("3")), (10_000, Decimal("2")), (None, Decimal("1.5")))


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (0, [("base", 1, "49.00")]),
        (1, [("base", 1, "49.00"), ("included", 1, "0.00")]),
        (1000, [("base", 1, "49.00"), ("included", 1000, "0.00")]),
        (1001, [("base", 1, "49.00"), ("included", 1000, "0.00"), ("overage", 1, "0.00")]),
        (1500, [("base", 1, "49.00"), ("included", 1000, "0.00"), ("overage", 500, "1.25")]),
        (3000, [("base", 1, "49.00"), ("included", 1000, "0.00"), ("overage", 2000, "5.00")]),
    ],
)
def test_overage_is_charged_by_the_event_and_not_by_the_thousand_begun(units: int, expected: list[Any]):
    assert told(rating_of(plan(), units)) == expected


def rating_of(each: Plan, units: int, *adjustments: Adjustment) -> Lines:
    return verify.rate(each, units, MONTH, adjustments)


def test_tiers_are_graduated_and_begin_beyond_what_is_included():
    assert told(rating_of(plan(tiers=TIERS), 12_000)) == [
        ("base", 1, "49.00"),
        ("included", 1000, "0.00"),
        ("tier", 4000, "12.00"),
        ("tier", 5000, "10.00"),
        ("tier", 2000, "3.00"),
    ]


def test_beyond_tiers_that_end_the_price_of_overage_holds():
    lines = rating_of(plan(tiers=TIERS[:1], overage_price_per_1k=Decimal("10")), 6_000)
    assert told(lines)[2:] == [("tier", 4000, "12.00"), ("overage", 1000, "10.00")]


def test_a_tier_within_what_is_included_charges_nothing():
    assert told(rating_of(plan(tiers=((1000, Decimal(9)),)), 1001))[2:] == [("overage", 1, "0.00")]


def test_without_a_price_overage_costs_nothing_and_is_told():
    (*_, last) = rating_of(plan(overage_price_per_1k=None), 1500).lines
    assert (last.kind, last.quantity, last.price_per_1k, last.amount) == (
        "overage",
        500,
        None,
        Decimal("0.00"),
    )
    assert last.told == "events 1,001 to 1,500 at no charge"


@pytest.mark.parametrize(("units", "minimum"), [(0, "1.00"), (1400, None), (1399, None)])
def test_a_month_below_the_minimum_is_raised_to_it(units: int, minimum: str | None):
    lines = rating_of(plan(minimum=Decimal(50)), units)
    assert [f"{line.amount:f}" for line in lines.lines if line.kind == "minimum"] == (
        [minimum] if minimum else []
    )
    assert lines.total >= 50


@pytest.mark.parametrize(
    ("units", "amount"),
    [(1001, "0.00"), (1002, "0.00"), (1003, "0.01"), (1005, "0.01"), (1006, "0.02"), (1007, "0.02")],
)
def test_half_a_cent_goes_to_the_even_one(units: int, amount: str):
    # 0.25 cents an event: 2 events are half a cent, 6 events one and a half.
    assert told(rating_of(plan(), units))[-1] == ("overage", units - 1000, amount)


@pytest.mark.parametrize(
    ("currency", "total"), [("JPY", "1235"), ("EUR", "1234.57"), ("KWD", "1234.568"), ("CLP", "1235")]
)
def test_an_amount_has_the_digits_of_its_currency(currency: str, total: str):
    assert f"{rating_of(plan(currency=currency, base_price=Decimal('1234.5678')), 0).total:f}" == total


def test_the_currencies_with_other_digits_are_ones_the_platform_knows():
    assert verify._MINOR_UNITS.keys() <= CURRENCIES


def test_counts_and_prices_of_any_size_are_exact():
    huge = plan(monthly_limit=0, overage_price_per_1k=Decimal("999999999999999999.999999999999"))
    exact = Fraction("999999999999999999.999999999999") * (2**63 - 1) / 1000
    amount = rating_of(huge, 2**63 - 1).lines[-1].amount
    assert abs(Fraction(amount) - exact) <= Fraction(1, 200)


@given(plans(), st.integers(0, 300_000))
def test_lines_come_to_what_the_events_cost_one_by_one(each: Plan, units: int):
    # The sum over events, without walking through them: between two ends the price is one.
    ends = sorted({0, units, each.monthly_limit, *(up_to for up_to, _ in each.tiers if up_to)})
    exact = sum(
        (
            Fraction(price_of(each, end)) * (end - begin) / 1000
            for begin, end in pairwise(ends)
            if end <= units
        ),
        Fraction(each.base_price),
    )
    lines = [line for line in rating_of(each, units).lines if line.kind != "minimum"]
    smallest = Fraction(10) ** int(verify.rounded(Decimal(0), each.currency).as_tuple().exponent)
    assert abs(Fraction(sum(line.amount for line in lines)) - exact) <= len(lines) * smallest / 2
    assert sum(line.quantity for line in lines if line.kind != "base") == units


@given(plans(), UNITS, UNITS)
def test_more_events_never_cost_less(each: Plan, some: int, more: int):
    low, high = sorted((some, more))
    assert rating_of(each, low).total <= rating_of(each, high).total


@given(plans(), UNITS)
def test_no_line_is_below_nothing_and_the_total_is_their_sum(each: Plan, units: int):
    lines = rating_of(each, units)
    assert all(line.amount >= 0 and line.quantity >= 0 for line in lines.lines)
    assert lines.total == sum(line.amount for line in lines.lines)
    assert lines.total >= verify.rounded(each.minimum, each.currency)


@given(plans(), UNITS)
def test_each_line_is_rounded_once_from_its_exact_amount(each: Plan, units: int):
    for line in rating_of(each, units).lines:
        assert line.amount == verify.rounded(line.amount, each.currency)
        if line.price_per_1k is not None:
            exact = Fraction(line.price_per_1k) * line.quantity / 1000
            digits = -int(verify.rounded(Decimal(0), each.currency).as_tuple().exponent)
            assert Fraction(line.amount) == Fraction(round(exact * 10**digits), 10**digits)


@given(plans(), UNITS, st.lists(st.integers(-10_000, 10_000).filter(bool), max_size=5))
def test_a_month_and_its_adjustments_come_to_the_month_as_it_should_have_been(
    each: Plan, units: int, steps: list[int]
):
    first, adjustments, count = rating_of(each, units), [], units
    for step in steps:
        if count + step >= 0:
            adjustments.append(Adjustment(MONTH, step, count, each, "late"))
            count += step
    later = verify.rate(plan(currency=each.currency), 0, "2026-02", adjustments)
    adjusted = [line for line in later.lines if line.kind == "adjustment"]
    assert [line.of_year_month for line in adjusted] == [MONTH] * len(adjustments)
    assert first.total + sum(line.amount for line in adjusted) == rating_of(each, count).total


@given(plans("EUR"), UNITS, st.integers(1, 10_000))
def test_only_a_credit_is_below_nothing(each: Plan, units: int, quantity: int):
    late, credit = (
        rating_of(plan(), 0, Adjustment("2025-12", sign * quantity, units + quantity, each, "x")).lines[-1]
        for sign in (1, -1)
    )
    assert late.amount >= 0 >= credit.amount


def test_an_adjustment_in_another_currency_is_refused():
    with pytest.raises(verify.PackError, match="2025-12 is in USD"):
        rating_of(plan(), 0, Adjustment("2025-12", 1, 0, plan(currency="USD"), "late"))


def test_more_cannot_be_taken_back_than_there_was():
    with pytest.raises(verify.PackError, match="would leave -1 events"):
        rating_of(plan(), 0, Adjustment("2025-12", -3, 2, plan(), "void"))


STORED: dict[str, Any] = {
    "tenant_id": UUID(int=1),
    "id": UUID(int=2),
    "plan_tier": "pro",
    "monthly_limit": 1000,
    "soft_limit_enabled": True,
    "hard_cap_multiplier": Decimal("2"),
    "overage_price_per_1k": Decimal("1E+1"),
    "base_price": Decimal("49.00"),
    "tiers": [{"up_to": 5000, "per_1k": "3"}, {"up_to": None, "per_1k": "2.5"}],
    "minimum": Decimal("0"),
    "currency": "EUR",
    "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
    "billing_rule": "every_event",
}


def test_a_stored_plan_becomes_terms_that_rate():
    terms = rating.terms_of(STORED)
    assert terms == {**{name: STORED[name] for name in verify.PLAN}, "id": str(UUID(int=2)), "hard_cap_multiplier": "2",
        "overage_price_per_1k": "10", "base_price": "49.00", "minimum": "0", "valid_from": "2026-01-01T00:00:00.000000Z"}  # fmt: skip
    assert f"{rating.rate(terms, 6000, MONTH).total:f}" == "63.50"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"base_price": Decimal("-1")}, "plan.base_price"),
        ({"minimum": Decimal("NaN")}, "plan.minimum"),
        ({"overage_price_per_1k": 2.5}, "plan.overage_price_per_1k"),
        ({"tiers": [{"up_to": 10, "per_1k": 2.5}]}, r"plan.tiers\[0\].per_1k"),
        ({"tiers": [{"up_to": 10}]}, r"plan.tiers\[0\].per_1k"),
        ({"tiers": [{"up_to": 10, "per_1k": "1"}, {"up_to": 10, "per_1k": "1"}]}, "do not rise"),
        ({"tiers": [{"up_to": None, "per_1k": "1"}, {"up_to": 10, "per_1k": "1"}]}, "do not rise"),
        ({"currency": "euro"}, "plan.currency"),
        ({"monthly_limit": True}, "plan.monthly_limit"),
    ],
)
def test_a_plan_that_cannot_rate_is_refused_with_the_field(fields: dict[str, Any], wrong: str):
    with pytest.raises(RefusedError, match=wrong):
        rating.terms_of({**STORED, **fields})
