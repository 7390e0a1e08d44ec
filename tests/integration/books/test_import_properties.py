"""However statements overlap and in whatever order they come, the same transactions are stored."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.books import bookkeeping
from tests.integration.books.importing import importer

_DAYS = 6
_BOUGHT = st.tuples(
    st.integers(0, _DAYS - 1), st.sampled_from(["Coffee", "Tea"]), st.sampled_from(["-4.50", "-1.00"])
)


@pytest.mark.parametrize("examples", [25, pytest.param(400, marks=pytest.mark.slow)])
def test_statements_of_whole_days_leave_what_happened(
    books_engine: sa.Engine, tmp_path: Path, examples: int
) -> None:
    books = bookkeeping.books(books_engine)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(_BOUGHT, min_size=1, max_size=12), st.lists(st.integers(1, _DAYS - 1), max_size=3), st.data()
    )
    def holds(bought: list[tuple[int, str, str]], cuts: list[int], data: st.DataObject) -> None:
        into = importer(books, tmp_path)
        # Statements without gaps, some of which begin before the last one ended; and one that repeats some days.
        ends = sorted({*cuts, _DAYS})
        begins = [max(0, begin - data.draw(st.integers(0, 2))) for begin in [0, *ends[:-1]]]
        spans = [
            *zip(begins, ends, strict=True),
            (data.draw(st.integers(0, 2)), data.draw(st.integers(3, _DAYS))),
        ]
        for begin, end in data.draw(st.permutations(spans)):
            told = data.draw(st.permutations([each for each in bought if begin <= each[0] < end]))
            into.lines(
                *(f"{date(2026, 1, 5) + timedelta(days=day)},{what},{cost}" for day, what, cost in told)
            )
        stored = into.stored()
        found = sorted(
            ((row.post_date - date(2026, 1, 5)).days, row.description, f"{row.amount_minor / 100:.2f}")
            for row in into.rows("select * from books.transactions where bank_account_id = :account_id")
        )
        assert found == sorted(bought)
        whole = into.lines(
            *(f"{date(2026, 1, 5) + timedelta(days=day)},{what},{cost}" for day, what, cost in bought), " "
        )
        assert whole.new == 0
        assert into.stored() == stored

    holds()
