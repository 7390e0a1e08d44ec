"""The journal: entries are proposed, approved and posted, and then reversed or they stand. Each of one currency.

That a posted entry balances, is never edited, and lies in a month that is open, the database holds to whoever writes;
here stand the ways to write, with a sentence for each refusal. What an entry says of a bank line stands elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import plans
from kernel.errors import RefusedError
from kernel.money import major, minor
from models.books import books_audit
from models.statements import array, statements, texts

# As exports and lists call an entry: `JE-` and its first digits, or its id, or the beginning of that.
_BEGINNING = re.compile(r"(?:JE-)?([0-9a-f]{8,32})", re.IGNORECASE)
_MONTH = re.compile(r"[1-9]\d{3}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Line:
    """One side of an entry, debit or credit, greater than zero."""

    account: str
    debit: Decimal = Decimal(0)
    credit: Decimal = Decimal(0)
    memo: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """`source_txn_id` is the bank line it books: of a line one entry lives. `reverses` is the posted entry it takes back."""

    on: date
    currency: str
    lines: tuple[Line, ...]
    memo: str = ""
    source_txn_id: UUID | None = None
    reverses: UUID | None = None
    id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, slots=True)
class Balance:
    """What was posted to an account in one currency. `balance` is debit less credit."""

    code: str
    name: str
    type: str
    currency: str
    debit: Decimal
    credit: Decimal

    @property
    def balance(self) -> Decimal:
        return self.debit - self.credit


def propose(
    connection: sa.Connection, tenant_id: UUID, entries: Sequence[Entry], *, actor: str, at: datetime
) -> None:
    """Writes proposals with their lines, in this transaction.

    Raises RefusedError for amounts that their currency does not have, an account that the chart does not have, and a
    bank line that another entry books already.
    """
    if not entries:
        return
    tenancy.service(connection, tenant_id)
    given = {
        "ids": array(each.id for each in entries),
        "dates": array(each.on for each in entries),
        "currencies": array(each.currency for each in entries),
        "memos": texts([each.memo for each in entries]),
        "sources": array(each.source_txn_id or "NULL" for each in entries),
        "reversed": array(each.reverses or "NULL" for each in entries),
        "actor": actor,
        "at": at,
    }
    lines = [(each, number, line) for each in entries for number, line in enumerate(each.lines, 1)]
    try:
        with connection.begin_nested():
            _execute(connection, "propose", tenant_id, **given)
            plans.afresh(connection, len(lines))
            _add_lines(connection, tenant_id, lines)
    except sa.exc.IntegrityError as error:
        raise RefusedError(_why(error)) from error


def approve(
    connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID], *, actor: str, at: datetime
) -> None:
    """Has proposals stand as they are. Raises RefusedError, with nothing changed, for one that does not balance."""
    tenancy.service(connection, tenant_id)
    _held(connection, tenant_id, ids, ("proposed",))
    _refuse_unbalanced(connection, tenant_id, ids)
    _execute(connection, "approve", tenant_id, ids=array(ids), actor=actor, at=at)
    _note(connection, tenant_id, "entries_approved", actor, at, ids=sorted(map(str, ids)))


def reject(
    connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID], *, actor: str, at: datetime, reason: str
) -> None:
    """Drops what is not posted: its bank line may be proposed anew."""
    tenancy.service(connection, tenant_id)
    _held(connection, tenant_id, ids, ("proposed", "approved"))
    _execute(connection, "reject", tenant_id, ids=array(ids), at=at)
    _note(connection, tenant_id, "entries_rejected", actor, at, ids=sorted(map(str, ids)), reason=reason)


def post(
    connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID], *, actor: str, at: datetime
) -> None:
    """Posts what was approved. Raises RefusedError, with nothing posted, when one lies in a month that is locked."""
    tenancy.service(connection, tenant_id)
    held = _held(connection, tenant_id, ids, ("approved",))
    _refuse_unbalanced(connection, tenant_id, ids)
    months = sorted({f"{row.entry_date:%Y-%m}" for row in held})
    _execute(connection, "open_months", tenant_id, months=array(months), at=at)
    try:
        with connection.begin_nested():
            _execute(connection, "post", tenant_id, ids=array(ids), actor=actor, at=at)
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != "55000":
            raise
        raise RefusedError(f"{_told(error)}: nothing was posted") from error
    _note(connection, tenant_id, "entries_posted", actor, at, ids=sorted(map(str, ids)))


def reverse(
    connection: sa.Connection,
    tenant_id: UUID,
    entry_id: UUID,
    *,
    on: date,
    actor: str,
    at: datetime,
    reason: str,
) -> UUID:
    """Posts the entry that takes a posted one back, and says which it is; its bank line may be booked anew.

    Raises RefusedError for an entry that is not posted, was reversed before or is a reversal, and for a month that is locked.
    """
    tenancy.service(connection, tenant_id)
    (held,) = _held(connection, tenant_id, [entry_id], ("posted",))
    if held.reverses_id is not None:
        raise RefusedError(
            f"entry {entry_id} is the reversal of {held.reverses_id}, which stays taken back: correct the bank line,"
            " which books it anew, or post a new entry"
        )
    if not held.is_live:
        raise RefusedError(f"entry {entry_id} was reversed before: nothing was changed")
    found = _execute(connection, "lines", tenant_id, id=entry_id).all()
    lines = tuple(
        Line(
            row.account_code, major(row.credit_minor, held.currency), major(row.debit_minor, held.currency), row.memo
        )
        for row in found
    )  # fmt: skip
    reversal = Entry(on, held.currency, lines, f"Reversal: {reason}", reverses=entry_id)
    propose(connection, tenant_id, [reversal], actor=actor, at=at)
    approve(connection, tenant_id, [reversal.id], actor=actor, at=at)
    post(connection, tenant_id, [reversal.id], actor=actor, at=at)
    _execute(connection, "no_longer_live", tenant_id, id=entry_id, at=at)
    _note(connection, tenant_id, "entry_reversed", actor, at, id=entry_id, by=reversal.id, reason=reason)
    return reversal.id


def find(connection: sa.Connection, tenant_id: UUID, asked: str) -> UUID:
    """The entry of a journal number or id, or of its beginning of at least 8 digits. Raises RefusedError for none and several."""
    begins = _BEGINNING.fullmatch(asked.replace("-", "") if asked[:3].upper() != "JE-" else asked)
    if begins is None:
        raise RefusedError(
            f"{asked!r} is no journal number and no id: give one as JE-95c8847b, with at least 8 digits"
        )
    tenancy.service(connection, tenant_id)
    digits = begins[1]
    ends = {"low": UUID(digits.ljust(32, "0")), "high": UUID(digits.ljust(32, "f"))}
    found = _execute(connection, "beginning", tenant_id, **ends).scalars().all()
    if len(found) != 1:
        told = "several entries begin" if found else "no entry begins"
        raise RefusedError(
            f"{told} with {asked}: copy it from a list of entries, with more digits where they are alike"
        )
    return found[0]


def days_of(month: str) -> tuple[date, date]:
    """The first and the last day of a month. Raises RefusedError for what is none."""
    # The calendar of the language ends with the year 9999, and the day after a month has to be in it.
    if not _MONTH.fullmatch(month) or month >= "9999":
        raise RefusedError(f"{month!r} is no month: write it as 2026-01")
    first = date.fromisoformat(f"{month}-01")
    return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def trial_balance(connection: sa.Connection, tenant_id: UUID, until: date) -> list[Balance]:
    """What was posted to each account up to a day and on it, by code and currency."""
    tenancy.service(connection, tenant_id)
    return [
        Balance(
            row.code, row.name, row.type, row.currency,
            major(row.debit_minor, row.currency), major(row.credit_minor, row.currency),
        )
        for row in _execute(connection, "trial_balance", tenant_id, until=until)
    ]  # fmt: skip


def lock(connection: sa.Connection, tenant_id: UUID, month: str, *, actor: str, at: datetime) -> None:
    """Lets nobody post into a month any more. Whoever posts into it is waited for. Raises RefusedError for one that has not begun."""
    if days_of(month)[0] > at.date():
        raise RefusedError(f"month {month} has not begun: lock it when it is over")
    _set_month(connection, tenant_id, month, "LOCKED", actor, at, "month_locked")


def unposted(connection: sa.Connection, tenant_id: UUID, month: str) -> int:
    """Bank lines of a month that no posted entry books: once it is locked, none can."""
    first, last = days_of(month)
    tenancy.service(connection, tenant_id)
    return _execute(connection, "unposted", tenant_id, first_on=first, last_on=last).scalar_one()


def reopen(
    connection: sa.Connection, tenant_id: UUID, month: str, *, actor: str, at: datetime, reason: str
) -> None:
    """Takes a lock back; why stands in the audit."""
    _set_month(connection, tenant_id, month, "OPEN", actor, at, "month_reopened", reason=reason)


def _set_month(
    connection: sa.Connection,
    tenant_id: UUID,
    month: str,
    state: str,
    actor: str,
    at: datetime,
    event: str,
    **more: Any,
) -> None:
    days_of(month)
    tenancy.service(connection, tenant_id)
    _execute(connection, "open_months", tenant_id, months=array([month]), at=at)
    held = _execute(connection, "hold_month", tenant_id, month=month).scalar_one()
    if held == state:
        raise RefusedError(f"month {month} is {'locked' if state == 'LOCKED' else 'open'} already")
    _execute(connection, "set_month", tenant_id, month=month, state=state, actor=actor, at=at)
    _note(connection, tenant_id, event, actor, at, month=month, **more)


def _add_lines(connection: sa.Connection, tenant_id: UUID, lines: Sequence[tuple[Entry, int, Line]]) -> None:
    debits, credits = [], []
    for entry, number, line in lines:
        try:
            debits.append(minor(line.debit, entry.currency))
            credits.append(minor(line.credit, entry.currency))
        except ValueError as error:
            raise RefusedError(f"entry of {entry.on}, line {number}: {error}") from None
        if min(debits[-1], credits[-1]) != 0 or max(debits[-1], credits[-1]) <= 0:
            raise RefusedError(
                f"entry of {entry.on}, line {number}: give a debit or a credit, greater than zero"
            )
    _execute(
        connection, "add_lines", tenant_id,
        entries=array(entry.id for entry, _, _ in lines), numbers=array(number for _, number, _ in lines),
        accounts=texts([line.account for _, _, line in lines]), debits=array(debits), credits=array(credits),
        memos=texts([line.memo for _, _, line in lines]),
    )  # fmt: skip


def _held(
    connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID], statuses: tuple[str, ...]
) -> Sequence[sa.Row[Any]]:
    """The rows of the entries, held. Raises RefusedError when one is not there or has another status."""
    rows = _execute(connection, "hold", tenant_id, ids=array(ids)).all()
    if missing := set(ids) - {row.id for row in rows}:
        raise RefusedError(f"the tenant has no entry {min(missing, key=str)}")
    for row in rows:
        if row.status not in statuses:
            raise RefusedError(
                f"entry {row.id} is {row.status}, not {' or '.join(statuses)}: nothing was changed"
            )
    return rows


def _refuse_unbalanced(connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    found = _execute(connection, "unbalanced", tenant_id, ids=array(ids)).first()
    if found is not None:
        raise RefusedError(
            f"entry {found.id} does not balance ({found.lines} lines, debit {found.debit}, credit {found.credit}"
            " in minor units): correct its lines"
        )


def _why(error: sa.exc.IntegrityError) -> str:
    told = str(error.orig)
    if "journal_entries_source_key" in told:
        return "a bank line is booked by another entry already: reject or reverse that one first"
    if "source_txn_id" in told:
        return "an entry books a bank line that the tenant does not have: import its statement first"
    if "account_code" in told:
        return "a line names an account that the chart of accounts does not have: add it, or name another one"
    if "reverses" in told:
        return "the entry that is to be reversed is not there, or was reversed before"
    return _told(error)


def _told(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).splitlines()[0]


def _note(
    connection: sa.Connection, tenant_id: UUID, event: str, actor: str, at: datetime, **detail: Any
) -> None:
    chain.append(connection, books_audit, tenant_id, event, actor=actor, at=at, **detail)


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_ledger")[name], {"tenant_id": tenant_id} | given)
