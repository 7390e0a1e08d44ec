"""Months: where one begins and ends, whatever the year and the clock's zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import RefusedError
from kernel.usage import periods

_MONTHS = st.builds(lambda year, month: f"{year:04}-{month:02}", st.integers(1, 9998), st.integers(1, 12))
_LAST = "9998-12"


@given(_MONTHS)
def test_a_month_ends_where_the_next_one_begins(month: str) -> None:
    begins, ends = periods.bounds(month)
    assert (periods.month_of(begins), periods.month_of(ends - timedelta(microseconds=1))) == (month, month)
    if month != _LAST:
        assert periods.bounds(periods.month_of(ends))[0] == ends
        assert periods.before(periods.month_of(ends)) == month


def test_a_month_is_that_of_utc() -> None:
    there = datetime(2026, 2, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert periods.month_of(there) == "2026-01"
    assert periods.bounds("2024-02")[1] == datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["2026-1", "2026-13", "2026-00", "26-01", "2026-01-01", "", "2026-99", "0000-01", "٢٠٢٦-01"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="is no month"):
        periods.bounds(text)
