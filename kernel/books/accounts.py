"""A tenant's accounts: those of its chart, and those that statements come of."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.errors import RefusedError
from kernel.money import CURRENCIES
from models.books import (
    ACCOUNT_TYPES,
    BANK_ACCOUNT_KINDS,
    accounts,
    bank_accounts,
    books_audit,
    set_aside_lines,
)
from models.books_lines import statement_files, transactions

_BEGINNING = re.compile(r"[0-9a-f-]{8,36}")


def listed(connection: sa.Connection, tenant_id: UUID) -> list[dict[str, Any]]:
    """The chart of accounts, by code."""
    columns = accounts.c
    query = sa.select(columns.code, columns.name, columns.type, columns.category, columns.is_active)
    return _records(connection, tenant_id, query.where(columns.tenant_id == tenant_id).order_by(columns.code))


def add(
    connection: sa.Connection,
    tenant_id: UUID,
    code: str,
    name: str,
    type_: str,
    category: str | None,
    *,
    actor: str,
    at: Any,
) -> None:
    """One more account of the chart. Raises RefusedError for a code that is there, and for what no account is."""  # fmt: skip
    if type_ not in ACCOUNT_TYPES:
        raise RefusedError(f"type {type_!r} is unknown: use {', '.join(ACCOUNT_TYPES)}")
    row = {"code": code, "name": name, "type": type_, "category": category}
    _insert(connection, tenant_id, accounts, row, f"account {code}", actor, at)


def banks(connection: sa.Connection, tenant_id: UUID) -> list[dict[str, Any]]:
    """The accounts that statements come of, by name, with how many lines each has and its newest day; without those that
    were set aside.
    """
    columns = bank_accounts.c
    lines = (
        sa.select(
            transactions.c.bank_account_id, sa.func.count().label("lines"),
            sa.func.max(transactions.c.post_date).label("newest"),
        )
        .where(transactions.c.tenant_id == tenant_id)
        .where(
            ~sa.exists().where(
                set_aside_lines.c.tenant_id == tenant_id, set_aside_lines.c.txn_id == transactions.c.id
            )
        )
        .group_by(transactions.c.bank_account_id)
        .subquery()
    )  # fmt: skip
    query = sa.select(
        columns.name, columns.kind, columns.currency, columns.account_code, sa.func.coalesce(lines.c.lines, 0).label("lines"),
        lines.c.newest,
    ).outerjoin(lines, lines.c.bank_account_id == columns.id)  # fmt: skip
    return _records(connection, tenant_id, query.where(columns.tenant_id == tenant_id).order_by(columns.name))


def add_bank(
    connection: sa.Connection,
    tenant_id: UUID,
    name: str,
    kind: str,
    currency: str,
    code: str,
    *,
    actor: str,
    at: Any,
) -> None:
    """One more account that statements come of. Raises RefusedError for what cannot stand."""  # fmt: skip
    if kind not in BANK_ACCOUNT_KINDS:
        raise RefusedError(f"kind {kind!r} is unknown: use {', '.join(BANK_ACCOUNT_KINDS)}")
    if currency not in CURRENCIES:
        raise RefusedError(f"currency {currency!r} is no ISO 4217 code: use one such as USD")
    row = {"name": name, "kind": kind, "currency": currency, "account_code": code}
    _insert(connection, tenant_id, bank_accounts, row, f"bank account {name!r}", actor, at)


def bank(connection: sa.Connection, tenant_id: UUID, asked: str) -> UUID:
    """The bank account of a name or id. Raises RefusedError naming the nearest."""
    tenancy.service(connection, tenant_id)
    columns = bank_accounts.c
    known = connection.execute(
        sa.select(columns.id, columns.name).where(columns.tenant_id == tenant_id)
    ).all()
    for row in known:
        if asked in (row.name, str(row.id)):
            return row.id
    near = difflib.get_close_matches(asked, [row.name for row in known], n=1)
    hint = f"did you mean {near[0]}?" if near else "add it with revenue-os books account --name"
    raise RefusedError(f"the tenant has no bank account {asked!r}: {hint}")


def require(connection: sa.Connection, tenant_id: UUID, code: str) -> None:
    """Raises RefusedError for a code that the chart of accounts does not have, naming the nearest."""
    known = [row["code"] for row in listed(connection, tenant_id)]
    if code not in known:
        near = difflib.get_close_matches(code, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "list it with revenue-os books chart"
        raise RefusedError(f"the chart of accounts has no {code!r}: {hint}")


def line(connection: sa.Connection, tenant_id: UUID, asked: str) -> UUID:
    """The bank line of an id, or of its beginning of at least 8 characters. Raises RefusedError for none and for several."""
    if not _BEGINNING.fullmatch(asked):
        raise RefusedError(f"{asked!r} is no id of a bank line: give at least its first 8 characters")
    tenancy.service(connection, tenant_id)
    begins = sa.cast(transactions.c.id, sa.Text).startswith(asked, autoescape=True)
    query = sa.select(transactions.c.id).where(transactions.c.tenant_id == tenant_id, begins).limit(2)
    found = connection.execute(query).scalars().all()
    if len(found) != 1:
        told = "several bank lines begin" if found else "no bank line begins"
        raise RefusedError(f"{told} with {asked}: give more of the id")
    return found[0]


def bank_names(connection: sa.Connection, tenant_id: UUID, lines: Sequence[UUID]) -> dict[UUID, str]:
    """Of which bank account each of these lines is; empty for a tenant that has only one."""
    tenancy.service(connection, tenant_id)
    of_tenant = bank_accounts.c.tenant_id == tenant_id
    known = connection.execute(sa.select(bank_accounts.c.id, bank_accounts.c.name).where(of_tenant))
    names = {row.id: row.name for row in known}
    if len(names) < 2:
        return {}
    columns = transactions.c
    query = sa.select(columns.id, columns.bank_account_id).where(
        columns.tenant_id == tenant_id, columns.id == sa.any_(sa.cast(list(lines), sa.ARRAY(sa.Uuid)))
    )
    return {row.id: names[row.bank_account_id] for row in connection.execute(query)}


def suspected_of(connection: sa.Connection, tenant_id: UUID, txn_id: UUID) -> UUID | None:
    """The line that this one may be the same as; None where nothing is suspected."""
    tenancy.service(connection, tenant_id)
    columns = transactions.c
    query = sa.select(columns.suspected_of).where(columns.tenant_id == tenant_id, columns.id == txn_id)
    return connection.scalar(query)


def imported_at(connection: sa.Connection, tenant_id: UUID, file_id: UUID) -> datetime:
    """When a statement of the tenant was imported."""
    tenancy.service(connection, tenant_id)
    columns = statement_files.c
    query = sa.select(columns.imported_at).where(columns.tenant_id == tenant_id, columns.id == file_id)
    return connection.execute(query).scalar_one().astimezone(UTC)


def _records(connection: sa.Connection, tenant_id: UUID, query: sa.Select[Any]) -> list[dict[str, Any]]:
    tenancy.service(connection, tenant_id)
    return [row._asdict() for row in connection.execute(query)]


def _insert(
    connection: sa.Connection,
    tenant_id: UUID,
    table: sa.Table,
    row: dict[str, Any],
    what: str,
    actor: str,
    at: Any,
) -> None:
    tenancy.service(connection, tenant_id)
    try:
        with connection.begin_nested():
            connection.execute(table.insert().values(tenant_id=tenant_id, **row))
    except sa.exc.IntegrityError as error:
        told = str(error.orig)
        if "account_code" in told and "foreign key" in told:
            raise RefusedError(f"the chart has no account {row['account_code']}: add it first") from None
        why = "is there already" if "duplicate key" in told else "cannot stand: " + told.splitlines()[0]
        raise RefusedError(f"{what} {why}") from None
    chain.append(connection, books_audit, tenant_id, f"{table.name[:-1]}_added", actor=actor, at=at, **row)
