"""From decisions to the journal: a proposal for each decided line, and what passed is posted where a tenant has earned it.

One entry for each line, between the account that its statement is of and the one that was decided; one for both lines
of a transfer. What people decide stands in `review`, how entries are kept in `ledger`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import (
    autopost,
    facts,
    ledger,
    llm_budget,
    people,
    plans,
    stages,
    transfers,
)
from kernel.books.contract import BankLine, Reason
from kernel.books.holding import hold
from kernel.books.ledger import Entry, Line
from kernel.errors import RefusedError
from kernel.money import major
from models.statements import array, statements

_LONGEST_MEMO = 200
# It is tomorrow already where some of the people are.
_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Booked:
    """`replaced`: proposals whose line was decided otherwise since. `held_back`: why what passed was not posted, counted."""

    proposed: int
    replaced: int
    posted: int
    held_back: Mapping[str, int] = field(default_factory=dict)


def book(connection: sa.Connection, tenant_id: UUID, *, at: datetime) -> Booked:
    """Proposes what was decided, and posts what may be posted, in this transaction. Again it changes nothing.

    Whatever a decision says: nothing is posted unless the tenant is in P3 now, by an approval that was there when it was
    decided, for the part of lines that is posted so far, and where the gates hold now as they did then.
    """
    hold(connection, tenant_id)
    stage = stages.current(connection, tenant_id, at=at)
    proposed = propose(connection, tenant_id, at=at)
    posting, held_back = _posting(connection, tenant_id, proposed, at)
    if posting:
        actor = f"{people.AUTOPOST}{stage.number}"
        ledger.approve(connection, tenant_id, posting, actor=actor, at=at)
        ledger.post(connection, tenant_id, posting, actor=actor, at=at)
    return Booked(proposed.new, proposed.replaced, len(posting), held_back)


@dataclass(frozen=True, slots=True)
class Proposed:
    """What was decided of lines that nobody answered, and the entries that are proposed for them, by line."""

    rows: Sequence[sa.Row[Any]]
    entry_of: Mapping[UUID, UUID]
    new: int
    replaced: int


def propose(
    connection: sa.Connection, tenant_id: UUID, *, at: datetime, ids: Sequence[UUID] | None = None
) -> Proposed:
    """Has the proposals say what was decided last, of all lines or of these. The caller holds the tenant's books."""
    if ids is None:
        with plans.without_loops(connection):
            rows = _execute(connection, "to_book", tenant_id, ids=None).all()
    else:
        rows = _execute(connection, "to_book", tenant_id, ids=array(ids)).all()
    # Before the audit is held, which whoever locks a month waits for.
    hold_months(connection, tenant_id, {row.post_date for row in rows}, at=at)
    wanted = _wanted(rows)
    stands = {row.txn_id: (row.entry_account, row.entry_other_id) for row in rows if row.entry_id}
    stale = [row.entry_id for row in rows if row.entry_id and wanted.get(row.txn_id) != stands[row.txn_id]]
    new = [row for row in rows if row.txn_id in wanted and wanted[row.txn_id] != stands.get(row.txn_id)]
    made = {row.txn_id: entry(row, row.proposed_account) for row in new}
    if stale:
        ledger.reject(connection, tenant_id, stale, actor=people.PIPELINE, at=at, reason="decided otherwise")
    ledger.propose(connection, tenant_id, list(made.values()), actor=people.PIPELINE, at=at)
    others = {made[row.txn_id].id: row.other_id for row in new if row.other_id}
    if others:
        _execute(connection, "pair", tenant_id, entries=array(others.keys()), others=array(others.values()))
    entry_of = {row.txn_id: row.entry_id for row in rows if row.txn_id in wanted}
    return Proposed(
        rows, entry_of | {txn_id: each.id for txn_id, each in made.items()}, len(made), len(stale)
    )


def _wanted(rows: Sequence[sa.Row[Any]]) -> dict[UUID, tuple[str, UUID | None]]:
    """The account, and the other line of a transfer, by the lines that an entry is to be made from.

    A transfer is booked from the line that pays. A line whose other one is no longer decided as its pair has none.
    """
    pairs = {row.txn_id: row.other_id for row in rows if row.other_id}
    return {
        row.txn_id: (row.proposed_account, row.other_id)
        for row in rows
        if row.is_bookable
        and (row.other_id is None or (row.is_out and pairs.get(row.other_id) == row.txn_id))
    }


def _posting(
    connection: sa.Connection, tenant_id: UUID, proposed: Proposed, at: datetime
) -> tuple[list[UUID], dict[str, int]]:
    """Entries of lines that passed when they were decided and may still be posted, and how often one may not for which
    reason.
    """
    passed = [row for row in proposed.rows if row.verdict == "posted" and row.txn_id in proposed.entry_of]
    if not passed:
        return [], {}
    lines = {line.id: line for line in transfers.read(connection, tenant_id, [row.txn_id for row in passed])}
    known = facts.read(connection, tenant_id, list(lines.values()), at=at)
    is_fallen_back = llm_budget.is_fallen_back(connection, tenant_id, at=at)
    found, reasons = [], Counter()
    for row in passed:
        line = lines[row.txn_id]
        if not known.may_post:
            reasons["the tenant is not in P3"] += 1
        elif row.decided_at < known.stage.since:
            reasons["decided under another approval"] += 1
        elif why := known.held_back(tenant_id, line):
            reasons[why] += 1
        elif failing := _failing(row, line, known, is_fallen_back):
            reasons[f"passed when decided, {failing[0]} by now"] += 1
        else:
            found.append(proposed.entry_of[row.txn_id])
    return found, dict(reasons)


def _failing(
    row: sa.Row[Any], line: BankLine, known: facts.Known, is_fallen_back: bool
) -> tuple[Reason, ...]:
    """The gates that hold no more, of a line that passed all when it was decided: certificates end, budgets are used up,
    people answer otherwise. What another model or ruleset would say is for the next decision to tell.
    """
    return autopost.failures(
        autopost.Facts(
            row.proposed_account, row.bank_code, float(row.calibrated_p), known.threshold, known.memory_of(line),
            known.held.settings.coldstart_min_labels, is_fallen_back, known.unusual(line) is not None, False,
        ),
        known.accounts_in_use,
    )  # fmt: skip


def entry(line: Any, account: str) -> Entry:
    """The entry of a bank line (post_date, amount_minor, currency, bank_code and so on): what leaves the bank's account is
    its credit, what comes its debit; a card's account is a liability, and the same holds.
    """
    amount = major(abs(line.amount_minor), line.currency)
    debit, credit = (account, line.bank_code) if line.amount_minor < 0 else (line.bank_code, account)
    memo = (line.description or line.vendor)[:_LONGEST_MEMO]
    txn_id = line.txn_id if hasattr(line, "txn_id") else line.id
    return Entry(
        line.post_date, line.currency, (Line(debit, debit=amount), Line(credit, credit=amount)), memo, txn_id
    )  # fmt: skip


def hold_months(
    connection: sa.Connection, tenant_id: UUID, days: Collection[date], *, at: datetime
) -> set[str]:
    """Nobody locks the months of these days until the transaction ends; which of them are locked already."""
    months = array(sorted({f"{day:%Y-%m}" for day in days}))
    connection.execute(
        statements("books_ledger")["open_months"], {"tenant_id": tenant_id, "months": months, "at": at}
    )
    held = _execute(connection, "hold_months", tenant_id, months=months)
    return {row.year_month for row in held if row.state == "LOCKED"}


def hold_open(
    connection: sa.Connection, tenant_id: UUID, days: Collection[tuple[UUID, date]], *, at: datetime
) -> None:
    """As `hold_months`, of entries' days by the lines that they book. Raises RefusedError where one is in a locked month."""
    if locked := hold_months(connection, tenant_id, [day for _, day in days], at=at):
        lines = sorted({str(txn_id)[:8] for txn_id, day in days if f"{day:%Y-%m}" in locked})
        told = f"line {lines[0]}" if len(lines) == 1 else f"{len(lines)} lines, {lines[0]} the first"
        raise RefusedError(
            f"month {min(locked)} is locked ({told}): give a day of an open month (--on of revenue-os books correct or set-aside),"
            " or take the lock back (revenue-os books reopen)"
        )


def refuse_halves(live: Mapping[UUID, Any], given: Set[UUID]) -> None:
    """Raises RefusedError for one line of a transfer that is booked, where the other one is not given too."""
    for txn_id, entry in live.items():
        if other := {entry.source_txn_id, entry.other_id} - given - {None}:
            raise RefusedError(
                f"bank line {txn_id} is booked as a transfer with {other.pop()}: give both, or say first of both where they belong"
                " (revenue-os books correct)"
            )


def refuse_day(on: date | None, lines: Collection[date], at: datetime) -> None:
    """Raises RefusedError for a day, given by a person for entries of lines of these days, that has not come yet or lies
    before one of them.
    """
    if on is None:
        return
    if on > at.date() + _AHEAD:
        raise RefusedError(f"{on} has not come yet: give a day of an open month that is over or goes on")
    if newest := max((day for day in lines if day > on), default=None):
        raise RefusedError(
            f"{on} lies before the line's own day, {newest}: give a later one, of an open month"
        )


def live(connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, sa.Row[Any]]:
    """The entries that book the lines, or are proposed for them, by the lines."""
    return {row.txn_id: row for row in _execute(connection, "live_entries", tenant_id, ids=array(ids))}


def booked_twice(connection: sa.Connection, tenant_id: UUID) -> list[UUID]:
    """Bank lines that two live entries book: none, ever."""
    tenancy.service(connection, tenant_id)
    return list(_execute(connection, "booked_twice", tenant_id).scalars())


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_journal")[name], {"tenant_id": tenant_id} | given)
