"""What is off between the ledger and those who counted it, and when that is an alarm."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from kernel.usage.matrix import Matrix


def _matrix(ledger: int, counted: int | None, **other: Any) -> Matrix:
    counts = None if counted is None else {"billable": counted, "overage": 0, "rejected": 0}
    return Matrix(
        {"rows": ledger, "billable": ledger, "overage": 0, "rejected": 0},
        {"counters": counts, "delivered": {"rows": ledger}, **other},
    )


def test_what_everybody_counts_the_same_is_not_off() -> None:
    matrix = _matrix(5, 5, usage_ledger_daily=None)
    assert (matrix.off, matrix.share, matrix.alarms) == ({}, 0, [])
    assert matrix.as_json()["usage_ledger_daily"] is None


@pytest.mark.parametrize(
    ("ledger", "counted", "is_alarm"),
    [(50, 49, False), (1000, 1010, False), (1000, 1011, True), (10_000, 10_100, False), (10_000, 10_101, True),
     (0, 10, False), (0, 11, True), (11, 0, True)],
)  # fmt: skip
def test_an_alarm_needs_more_than_ten_and_more_than_one_in_a_hundred(
    ledger: int, counted: int, is_alarm: bool
) -> None:
    matrix = _matrix(ledger, counted)
    assert matrix.off == {"counters.billable": counted - ledger}
    assert matrix.alarms == (["counters.billable"] if is_alarm else [])


def test_what_is_counted_where_there_is_nothing_is_all_too_much() -> None:
    assert _matrix(0, 3).share == 3
    assert _matrix(4, 3).share == Decimal("0.25")


def test_what_was_refused_is_handed_on_by_nobody() -> None:
    ledger = {"rows": 5, "billable": 3, "overage": 0, "rejected": 2}
    assert Matrix(ledger, {"delivered": {"rows": 3}}).off == {}
    assert Matrix(ledger, {"delivered": {"rows": 5}}).off == {"delivered.rows": 2}


def test_a_counter_that_was_never_made_is_not_off() -> None:
    assert _matrix(3, None).off == {}
