"""What people say of bank lines. Of a line the newest label counts; the machine writes none.

Lines are held while they are labelled: of two people who label one, the second sees what the first said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import people
from kernel.errors import RefusedError
from models.statements import array, statements, texts

Source = Literal["approve", "correct", "bulk", "booked", "audit"]


@dataclass(frozen=True, slots=True)
class Label:
    """`decision` is the number of the decision that the person looked at, when there was one."""

    txn_id: UUID
    account: str
    decision: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A bank line, held. The amount is in minor units; `bank_code` is the account that its statement is of."""

    id: UUID
    post_date: date
    amount_minor: int
    currency: str
    description: str
    vendor: str
    bank_code: str


@dataclass(frozen=True, slots=True)
class Said:
    account: str
    source: Source
    by: str
    at: datetime


def hold(connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Held]:
    """The lines by their ids, held until the transaction ends. Raises RefusedError when one is not there or set aside."""
    tenancy.service(connection, tenant_id)
    rows = _execute(connection, "hold_lines", tenant_id, ids=array(ids)).all()
    held = {row.id: Held(*row[:-1]) for row in rows}
    if missing := set(ids) - held.keys():
        raise RefusedError(f"the tenant has no bank line {min(missing, key=str)}: import its statement first")
    if aside := [row.id for row in rows if row.is_set_aside]:
        raise RefusedError(
            f"bank line {aside[0]} was set aside: take it back in first (revenue-os books set-aside --back)"
        )
    return held


def write(
    connection: sa.Connection,
    tenant_id: UUID,
    labels: Sequence[Label],
    *,
    source: Source,
    by: str,
    at: datetime,
) -> None:
    """Adds a person's labels, given by their id or name. `booked`: how an imported ledger has them, which the person confirms.

    Raises RefusedError, with nothing written, when `by` is no member of the tenant, for an account that the chart does
    not have or no longer uses, for an unknown line and for a line that is given twice.
    """
    if not labels:
        return
    person = people.person(connection, tenant_id, by)
    ids = [each.txn_id for each in labels]
    if len(set(ids)) < len(ids):
        raise RefusedError("a bank line is labelled twice at once: give it one account")
    hold(connection, tenant_id, ids)
    codes = texts([each.account for each in labels])
    unknown = _execute(connection, "unknown_accounts", tenant_id, codes=codes).scalars().first()
    if unknown is not None:
        raise RefusedError(
            f"account {unknown} is not in the chart of accounts, or not in use: name another one"
        )
    numbers = array("NULL" if each.decision is None else each.decision for each in labels)
    _execute(
        connection, "write_labels", tenant_id,
        ids=array(ids), codes=codes, numbers=numbers, source=source, by=person, at=at,
    )  # fmt: skip


def newest(connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Said]:
    """What was said last of those of the lines that have a label."""
    tenancy.service(connection, tenant_id)
    rows = _execute(connection, "newest_labels", tenant_id, ids=array(ids))
    return {row.txn_id: Said(row.account_code, row.source, row.labelled_by, row.labelled_at) for row in rows}


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_review")[name], {"tenant_id": tenant_id} | given)
