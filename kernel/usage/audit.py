"""The audit of usage: who closed, corrected, invoiced and exported, each row bound by its hash to the one before it.

And who may: what is written down names people as the platform knows them.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import members
from kernel.decisions.switches import OPERATOR
from kernel.errors import RefusedError
from kernel.usage import verify
from kernel.usage.canonical import instant
from models.statements import statements

FIRST = "0" * 64  # in place of the previous hash, of a tenant's first row


def entitled(connection: sa.Connection, tenant_id: UUID, asked: str, *, operator: bool = True) -> str:
    """The id of an owner or approver of the tenant, asked for by id or name, or the platform's operator.

    Raises RefusedError for anybody else, and for the operator where only the tenant's own people decide.
    """
    if asked == OPERATOR:
        if operator:
            return OPERATOR
        raise RefusedError(
            "the platform's operator corrects no tenant's usage: ask an owner or approver of the tenant"
        )
    member = members.find(connection, tenant_id, asked)
    if member.role not in members.APPROVERS:
        raise RefusedError(f"{member.name} is no {' or '.join(members.APPROVERS)} of the tenant: ask one")
    return str(member.user_id)


def append(
    connection: sa.Connection, tenant_id: UUID, event: str, *, actor: str, at: datetime, **detail: Any
) -> None:
    """Adds a row to the tenant's chain, which is held until the transaction ends."""
    connection.execute(_sql("hold_audit"), {"tenant_id": tenant_id})
    last = connection.execute(_sql("last_audit"), {"tenant_id": tenant_id}).first()
    row = {
        "tenant_id": str(tenant_id),
        "number": last.number + 1 if last else 1,
        "at": instant(at),
        "actor": actor,
        "event": event,
        "detail": json.loads(json.dumps(detail, default=str)),
        "previous_hash": last.hash if last else FIRST,
    }
    row["hash"] = verify.digest(row, without="hash")
    connection.execute(
        _sql("append_audit"), row | {"detail": json.dumps(row["detail"]), "tenant_id": tenant_id, "at": at}
    )


def broken(connection: sa.Connection, tenant_id: UUID) -> int | None:
    """The number of the first row that does not follow from the one before it; None when all do."""
    previous = FIRST
    rows = connection.execute(_sql("audit"), {"tenant_id": tenant_id})
    for number, row in enumerate(rows.mappings(), 1):
        fields = dict(row) | {"tenant_id": str(row["tenant_id"]), "at": instant(row["at"])}
        if (row["number"], row["previous_hash"]) != (number, previous) or row["hash"] != verify.digest(
            fields, without="hash"
        ):
            return row["number"]
        previous = row["hash"]
    return None


def _sql(name: str) -> sa.TextClause:
    return statements("usage_close")[name]
