"""The audit of deliveries: what happened in which order, each row bound by its hash to the one before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from models.statements import statements


def append(
    connection: sa.Connection,
    tenant_id: UUID,
    chain: UUID,
    event: str,
    *,
    actor: str,
    at: datetime,
    **detail: Any,
) -> None:
    """Adds a row to the chain of a run, job, account or campaign, whose row the transaction has locked."""
    given = {"tenant_id": tenant_id, "chain": chain, "event": event, "actor": actor, "at": at}
    connection.execute(
        statements("delivery_audit")["append"], given | {"detail": json.dumps(detail, default=str)}
    )


def broken(
    connection: sa.Connection, tenant_id: UUID, chains: Sequence[UUID] | None = None
) -> dict[UUID, int]:
    """Which chains of a tenant, all or those named, were tampered with: each with its first row that does not fit."""
    given = {"tenant_id": tenant_id, "chains": chains}
    found = connection.execute(statements("delivery_audit")["broken"], given)
    return {row.chain: row.number for row in found}
