"""The audit of usage: who closed, corrected, invoiced and exported, each row bound by its hash to the one before it.

And who may: what is written down names people as the platform knows them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import chain, members
from kernel.errors import RefusedError
from models.usage import usage_audit


def entitled(connection: sa.Connection, tenant_id: UUID, asked: str, *, operator: bool = True) -> str:
    """The id of an owner or approver of the tenant, asked for by id or name, or the platform's operator.

    Raises RefusedError for anybody else, and for the operator where only the tenant's own people decide.
    """
    if asked == members.OPERATOR:
        if operator:
            return members.OPERATOR
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
    chain.append(connection, usage_audit, tenant_id, event, actor=actor, at=at, **detail)


def broken(connection: sa.Connection, tenant_id: UUID) -> int | None:
    """The number of the first row that does not follow from the one before it; None when all do."""
    return chain.broken(connection, usage_audit, tenant_id)
