"""Tables whose rows are bound by their hashes, each to the one before it: what was done or decided, by whom, when.

A chain is a tenant's; its table has the columns number, previous_hash and hash, and the hash is over all others.
An audit table has at, actor, event and detail besides.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa

FIRST = "0" * 64  # in place of the previous hash, of a tenant's first row


def append(
    connection: sa.Connection,
    table: sa.Table,
    tenant_id: UUID,
    event: str,
    *,
    actor: str,
    at: datetime,
    **detail: Any,
) -> None:
    """Adds a row to the tenant's chain, which is held until the transaction ends."""
    told = {
        "at": at,
        "actor": actor,
        "event": event,
        "detail": json.loads(json.dumps(detail, default=str), parse_float=_float),
    }
    (row,) = bound(connection, table, tenant_id, [told])
    connection.execute(table.insert().values(row))


def bound(
    connection: sa.Connection, table: sa.Table, tenant_id: UUID, rows: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The rows as they continue the tenant's chain, with number and hashes: whoever asks writes them.

    The chain is held until the transaction ends. A row has every other column of the table, with the value that the
    database will give back for it.
    """
    hold(connection, table, tenant_id)
    newest = sa.select(table.c.number, table.c.hash).where(table.c.tenant_id == tenant_id)
    last = connection.execute(newest.order_by(table.c.number.desc()).limit(1)).first()
    return _continued(tenant_id, rows, last.number if last else 0, last.hash if last else FIRST)


def hold(connection: sa.Connection, table: sa.Table, tenant_id: UUID) -> None:
    """Of those who add to a tenant's numbered rows, one at a time, until its transaction ends."""
    held = sa.func.hashtextextended(f"{table.fullname}:{tenant_id}", 0)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(held)))


def _continued(
    tenant_id: UUID, rows: Iterable[Mapping[str, Any]], number: int, previous: str
) -> Iterator[dict[str, Any]]:
    for told in rows:
        number += 1
        row = {"tenant_id": tenant_id, "number": number, **told, "previous_hash": previous}
        previous = row["hash"] = _hash(row)
        yield row


def broken(connection: sa.Connection, table: sa.Table, tenant_id: UUID) -> int | None:
    """The number of the first row that does not follow from the one before it; None when all do."""
    previous = FIRST
    query = sa.select(table).where(table.c.tenant_id == tenant_id).order_by(table.c.number)
    with connection.execute(query, execution_options={"yield_per": 10_000}) as found:
        for number, each in enumerate(found.mappings(), 1):
            row = {str(name): value for name, value in each.items()}
            kept = row.pop("hash")
            if (row["number"], row["previous_hash"]) != (number, previous) or kept != _hash(row):
                return row["number"]
            previous = kept
    return None


def _float(text: str) -> float | str:
    """A number with an exponent is kept as text: programs write it in several ways, and a hash is of one."""
    return text if "e" in text else float(text)


def _hash(row: Mapping[str, Any]) -> str:
    """SHA-256 of the row's JSON, a line with sorted names and no spaces; instants in UTC with six digits and Z,
    decimals and ids as text.
    """
    return sha256(orjson.dumps(row, default=_told, option=_FORM)).hexdigest()


def _told(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a chain")


_FORM = orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATETIME
