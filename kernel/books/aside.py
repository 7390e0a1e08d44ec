"""Bank lines that a person sets aside: told twice in other words, or imported into an account that is not theirs.

Nothing books them and nobody is asked about them; what was booked of them is taken back. They stay as the bank told them, with
who set them aside and why, and may be taken back in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import journal, labels, ledger, people, reconcile
from kernel.books.holding import hold
from kernel.errors import RefusedError
from models.books import books_audit
from models.statements import array, statements, texts


@dataclass(frozen=True, slots=True)
class SetAside:
    """`lines` that are set aside now, `already` those that were before; of their entries `reversed` were posted, `rejected` not."""

    lines: tuple[UUID, ...]
    reversed: int
    rejected: int
    already: int


def set_aside(
    connection: sa.Connection,
    tenant_id: UUID,
    ids: Sequence[UUID],
    *,
    why: str,
    by: str,
    at: datetime,
    on: date | None = None,
) -> SetAside:
    """Sets lines aside. What is posted of them is reversed on its own day, or on `on` where that is in a locked month.

    Raises RefusedError, with nothing changed, for who is no approver of the tenant, a line that is not there, one that a
    person matched, one side of a transfer without the other, a month that is locked, and a day
    that has not come or lies before a line.
    """
    person = people.approver(connection, tenant_id, by)
    hold(connection, tenant_id)
    already = standing(connection, tenant_id, ids)
    new = sorted(set(ids) - already.keys(), key=str)
    held = labels.hold(connection, tenant_id, new)
    journal.refuse_day(on, [line.post_date for line in held.values()], at)
    reconcile.hold_matches(connection, tenant_id)
    _refuse_matched(connection, tenant_id, new)
    live = journal.live(connection, tenant_id, new)
    journal.refuse_halves(live, set(new))
    entries = {entry.id: entry for entry in live.values()}.values()
    posted = [entry for entry in entries if entry.status == "posted"]
    rejected = [entry.id for entry in entries if entry.status != "posted"]
    days = [(entry.source_txn_id, on or entry.entry_date) for entry in posted]
    journal.hold_open(connection, tenant_id, days, at=at)
    for entry in posted:
        day = on or entry.entry_date
        ledger.reverse(connection, tenant_id, entry.id, on=day, actor=person, at=at, reason="set aside")
    if rejected:
        ledger.reject(connection, tenant_id, rejected, actor=person, at=at, reason="set aside")
    _execute(connection, "unmatch", tenant_id, ids=array(new))
    _execute(connection, "set_aside", tenant_id, ids=array(new), why=why, by=person, at=at)
    _note(connection, tenant_id, "lines_set_aside", new, person, at, why)
    return SetAside(tuple(new), len(posted), len(rejected), len(already))


def take_back(
    connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID], *, why: str, by: str, at: datetime
) -> list[UUID]:
    """Lets lines wait again that were set aside; those that were answered before, which people book by correcting them.

    Raises RefusedError, with nothing changed, for a line that is not set aside and for who is no approver of the tenant.
    """
    person = people.approver(connection, tenant_id, by)
    hold(connection, tenant_id)
    if missing := set(ids) - standing(connection, tenant_id, ids).keys():
        raise RefusedError(f"bank line {min(missing, key=str)} is not set aside: nothing was changed")
    _execute(connection, "take_back", tenant_id, ids=array(ids))
    _note(connection, tenant_id, "lines_taken_back", ids, person, at, why)
    return sorted(labels.newest(connection, tenant_id, ids), key=str)


def standing(connection: sa.Connection, tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, sa.Row[Any]]:
    """Those of the lines that are set aside, each with why, set_aside_by and set_aside_at."""
    tenancy.service(connection, tenant_id)
    return {row.txn_id: row for row in _execute(connection, "standing", tenant_id, ids=array(ids))}


def listed(connection: sa.Connection, tenant_id: UUID, *, most: int) -> Sequence[sa.Row[Any]]:
    """Lines that are set aside, the newest first."""
    tenancy.service(connection, tenant_id)
    return _execute(connection, "listed", tenant_id, most=most).all()


def told_by(
    connection: sa.Connection, tenant_id: UUID, bank_account_id: UUID, names: Collection[str]
) -> tuple[list[UUID], int]:
    """Lines that only these statements of an account told of, and how many of theirs another one told of too.

    Raises RefusedError for a name of which no statement of the account was imported.
    """
    tenancy.service(connection, tenant_id)
    into = {"bank_account_id": bank_account_id}
    files = _execute(connection, "files", tenant_id, names=texts(names), **into).all()
    if missing := set(names) - {row.name for row in files}:
        raise RefusedError(
            f"no statement {min(missing)!r} was imported into this account: see its name in tie-out"
        )
    told = _execute(connection, "told_by", tenant_id, files=array(row.id for row in files), **into).all()
    alone = [row.txn_id for row in told if row.by_no_other]
    return alone, len(told) - len(alone)


def _refuse_matched(connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    found = _execute(connection, "matched_by_people", tenant_id, ids=array(ids)).scalar()
    if found is not None:
        raise RefusedError(
            f"bank line {found} was matched by a person: take that back first (revenue-os books unmatch)"
        )


def _note(
    connection: sa.Connection,
    tenant_id: UUID,
    event: str,
    ids: Sequence[UUID],
    actor: str,
    at: datetime,
    why: str,
) -> None:
    if ids:
        told = sorted(map(str, ids))
        chain.append(connection, books_audit, tenant_id, event, actor=actor, at=at, lines=told, reason=why)


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_aside")[name], {"tenant_id": tenant_id} | given)
