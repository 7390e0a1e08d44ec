"""The switches of a tenant beside on and off, who may turn any of them, and the record of what people did.

On and off stand in `kernel.actions.emergency`, the configuration in `kernel.tenancy`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import members
from kernel.errors import RefusedError
from models.actions import incidents
from models.spine import tenants

Mode = Literal["enforce", "shadow"]


def entitled(connection: sa.Connection, tenant_id: UUID, asked: str) -> str:
    """The person as records name them: an approver or owner of the tenant by name or id, or the platform's operator.

    Raises RefusedError for anybody else.
    """
    if asked == members.OPERATOR:
        return members.OPERATOR
    return _named(members.find(connection, tenant_id, asked), members.APPROVERS)


def owner(connection: sa.Connection, tenant_id: UUID, asked: str) -> str:
    """As `entitled`, for what only an owner may: it lets changes through that were held back."""
    if asked == members.OPERATOR:
        raise RefusedError("the platform's operator may only make things safer: ask an owner of the tenant")
    return _named(members.find(connection, tenant_id, asked), ("owner",))


def set_mode(
    connection: sa.Connection, tenant_id: UUID, mode: Mode, *, actor: str, reason: str, at: datetime
) -> None:
    """In shadow a tenant's cycles decide and record, and none of their actions can be approved."""
    changed = tenants.c.config.concat(sa.func.jsonb_build_object("kernel_mode", mode))
    connection.execute(_of(tenant_id).values(config=changed, updated_at=at))
    record(connection, tenant_id, {"mode": mode}, actor=actor, reason=reason, at=at)


def set_gates(
    connection: sa.Connection, tenant_id: UUID, on: bool, *, actor: str, reason: str, at: datetime
) -> None:
    """With the gates off none is evaluated, so that none holds anything back."""
    connection.execute(_of(tenant_id).values(cfo_expansion_enabled=on, updated_at=at))
    record(connection, tenant_id, {"gates": on}, actor=actor, reason=reason, at=at)


def record(
    connection: sa.Connection,
    tenant_id: UUID,
    detail: dict[str, Any],
    *,
    actor: str,
    reason: str,
    at: datetime,
) -> None:
    """Writes down for good who did what and why. Raises RefusedError without a reason."""
    if not reason.strip():
        raise RefusedError("what is switched or set needs its reason: say why, it is kept for good")
    row = {"tenant_id": tenant_id, "at": at, "actor": actor, "reason": reason, "detail": detail}
    connection.execute(incidents.insert().values(row))


def _of(tenant_id: UUID) -> sa.Update:
    return sa.update(tenants).where(tenants.c.id == tenant_id)


def _named(member: members.Member, roles: tuple[str, ...]) -> str:
    if member.role not in roles:
        raise RefusedError(f"{member.name} is no {' or '.join(roles)} of the tenant: ask one")
    # Names are not unique.
    return f"{member.name} ({member.user_id})"
