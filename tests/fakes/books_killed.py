"""Decisions and postings in a process that is killed at a chosen step: the program that `killed` runs."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel.books import decide, journal, review, rules, transfers
from kernel.books.contract import BankLine
from tests.fakes.killed import serve
from tests.integration.books.deciding import as_it_is, scored


def _book(engine: sa.Engine, *, tenant_id: str, ids: list[str], waiting: list[str], at: str, by: str) -> None:
    """Decides, books what was decided, and has a person approve what waits: three transactions."""
    tenant, instant = UUID(tenant_id), datetime.fromisoformat(at)
    with engine.begin() as connection:
        lines = transfers.read(connection, tenant, [UUID(each) for each in ids])
        decide.decide(
            connection, tenant, lines, [scored(line.id, "6300", 0.97) for line in lines], run_id="run", at=instant,
            surety=as_it_is,
        )  # fmt: skip
    with engine.begin() as connection:
        journal.book(connection, tenant, at=instant)
    with engine.begin() as connection:
        review.approve(connection, tenant, [UUID(each) for each in waiting], by=by, at=instant)


def _warm() -> None:
    """What is costly the first time, once for all children."""
    line = BankLine(uuid4(), uuid4(), date(2026, 1, 1), -1, "USD", "x", "", "x")
    rules.evaluate(rules.ruleset(rules.everybodys({})), [line])


if __name__ == "__main__":
    _warm()
    serve({"book": _book})
