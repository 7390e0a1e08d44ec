"""A process that dies between any two steps of deciding and posting: nothing is lost, nothing doubled, all balances."""

from __future__ import annotations

from decimal import Decimal
from itertools import count

import pytest
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import journal
from models.books import books_audit
from models.books_learning import decisions
from tests.fakes import books_killed
from tests.fakes.killed import Killing
from tests.integration.books.deciding import AT, Deciding, deciding


def _rounds(engine: sa.Engine, url: str, stride: int) -> int:
    """Killed at one step after another until there are no more, and done to the end by the run after each; how often."""
    books = deciding(engine)
    books.known()
    books.certify()
    books.enable()
    with Killing(books_killed.__name__, url) as killing:
        for round, step in enumerate(count(1, stride)):
            alike = books.lines(-1000, -1001)
            odd = books.lines(-70_000, 300)
            given = {
                "tenant_id": books.tenant_id,
                "ids": [*alike, *odd],
                "waiting": odd,
                "at": AT,
                "by": "ann",
            }
            was_killed = killing.at(step, "book", **given)
            _balances(books)
            assert not killing.at(0, "book", **given), "the next run was killed"
            _balances(books)
            assert books.balances()["1000"] == Decimal("-717.01") * (round + 1)
            rows = books.pinned("select txn_id, count(*) as n from books.labels where txn_id = any(:ids) group by 1", ids=odd)  # fmt: skip
            assert {row.txn_id: row.n for row in rows} == dict.fromkeys(odd, 1)
            assert {row.status for row in books.entries() if row.is_live} == {"posted"}
            if not was_killed:
                return round


def _balances(books: Deciding) -> None:
    assert sum(books.balances().values()) == 0
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        assert journal.booked_twice(connection, books.tenant_id) == []
        assert chain.broken(connection, decisions, books.tenant_id) is None
        assert chain.broken(connection, books_audit, books.tenant_id) is None


def test_a_killed_run_is_finished_by_the_next_one(books_engine: sa.Engine, module_database_url: str) -> None:
    assert _rounds(books_engine, module_database_url, 8) > 10


@pytest.mark.slow
def test_a_killed_run_is_finished_by_the_next_one_at_every_step(
    books_engine: sa.Engine, module_database_url: str
) -> None:
    assert _rounds(books_engine, module_database_url, 1) > 60
