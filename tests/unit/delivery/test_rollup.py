"""What a run's counts make of it, in the order of the specification."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.delivery.rollup import Counts, status_of
from models.delivery import FINAL_RUN_STATUSES, ITEM_STATUSES, RUN_STATUSES

COUNTS = st.builds(Counts, **{name: st.integers(0, 3) for name in asdict(Counts())})


@given(COUNTS, st.booleans())
def test_every_combination_of_counts_has_exactly_one_status(counts: Counts, cancelled: bool) -> None:
    result = status_of(counts, cancel_requested=cancelled)
    assert result.status in RUN_STATUSES
    assert counts.intended == sum(asdict(counts).values())
    assert (result.status in FINAL_RUN_STATUSES) == (not counts.open and not counts.unknown)


@given(COUNTS, st.booleans())
def test_a_run_that_is_not_simply_complete_says_why(counts: Counts, cancelled: bool) -> None:
    result = status_of(counts, cancel_requested=cancelled)
    assert result.code or result.status in ("completed", "running")
    assert (result.code is None) == (result.message is None)


# Each line also holds what a later rule would have looked at.
IN_ORDER = {
    "open comes first": (Counts(open=1, unknown=1, rejected=1, cancelled=1), True, "running"),
    "then unknown": (Counts(unknown=1, cancelled=1, rejected=1), True, "needs_reconciliation"),
    "then cancelled": (Counts(cancelled=1, accepted=1, rejected=1), True, "cancelled"),
    "a cancellation that held nobody back is none": (Counts(accepted=2), True, "completed"),
    "all but the suppressed accepted": (Counts(accepted=2, suppressed=1), False, "completed"),
    "some rejected": (Counts(accepted=1, rejected=1), False, "partial"),
    "all rejected": (Counts(rejected=2, suppressed=1), False, "failed"),
    "expired counts as rejected": (Counts(accepted=1, expired=1), False, "partial"),
    "abandoned counts as rejected": (Counts(abandoned=1), False, "failed"),
    "all suppressed": (Counts(suppressed=3), False, "completed"),
    "nobody intended": (Counts(), False, "failed"),
}


@pytest.mark.parametrize("case", IN_ORDER)
def test_rules_are_asked_in_the_order_of_the_specification(case: str) -> None:
    counts, cancel_requested, status = IN_ORDER[case]
    assert status_of(counts, cancel_requested=cancel_requested).status == status


def test_an_audience_of_suppressed_people_is_named() -> None:
    assert status_of(Counts(suppressed=3), cancel_requested=False).code == "no_eligible_recipients"


def test_every_status_of_an_item_is_counted() -> None:
    from kernel.delivery.rollup import _COUNTED

    assert set(_COUNTED) == set(ITEM_STATUSES)
    assert set(_COUNTED.values()) == set(asdict(Counts()))
