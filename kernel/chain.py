"""Audit tables whose rows are bound by their hashes, each to the one before it: what was done, by whom, when.

A chain is a tenant's; its table has the columns number, at, actor, event, detail, previous_hash and hash.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

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
    held = sa.func.hashtextextended(f"{table.fullname}:{tenant_id}", 0)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(held)))
    newest = sa.select(table.c.number, table.c.hash).where(table.c.tenant_id == tenant_id)
    last = connection.execute(newest.order_by(table.c.number.desc()).limit(1)).first()
    row = {
        "tenant_id": tenant_id,
        "number": last.number + 1 if last else 1,
        "at": at,
        "actor": actor,
        "event": event,
        "detail": json.loads(json.dumps(detail, default=str)),
        "previous_hash": last.hash if last else FIRST,
    }
    connection.execute(table.insert().values(row | {"hash": _hash(row)}))


def broken(connection: sa.Connection, table: sa.Table, tenant_id: UUID) -> int | None:
    """The number of the first row that does not follow from the one before it; None when all do."""
    previous = FIRST
    query = sa.select(table).where(table.c.tenant_id == tenant_id).order_by(table.c.number)
    for number, found in enumerate(connection.execute(query).mappings(), 1):
        row = dict(found)
        kept = row.pop("hash")
        if (row["number"], row["previous_hash"]) != (number, previous) or kept != _hash(row):
            return row["number"]
        previous = kept
    return None


def _hash(row: dict[str, Any]) -> str:
    """SHA-256 of the row's JSON, a line with sorted names and no spaces; instants in UTC with six digits and Z."""
    told = {
        name: f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        if isinstance(value, datetime)
        else str(value)
        if isinstance(value, UUID)
        else value
        for name, value in row.items()
    }
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(f"{text}\n".encode("utf-8", "surrogatepass")).hexdigest()
