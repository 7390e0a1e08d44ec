"""Who belongs to a tenant, and may act for it. Every function pins the transaction to the tenant."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kernel import tenancy
from kernel.errors import RefusedError
from models.actions import user_tenants
from models.vocabulary import TENANT_ROLES

APPROVERS = ("approver", "owner")
# Who runs the platform belongs to no tenant, and must be able to stop one.
OPERATOR = "operator"
_MEMBERS = sa.select(user_tenants.c.user_id, user_tenants.c.name, user_tenants.c.role)


@dataclass(frozen=True, slots=True)
class Member:
    user_id: UUID
    name: str
    role: str


def add(connection: sa.Connection, tenant_id: UUID, user_id: UUID, name: str, role: str) -> None:
    """Lets the user act for the tenant, or changes name and role. Raises RefusedError for what cannot stand."""
    if role not in TENANT_ROLES:
        raise RefusedError(f"role {role!r} is unknown: use {', '.join(TENANT_ROLES)}")
    if not name.strip():
        raise RefusedError(f"user {user_id} needs a name that people read")
    tenancy.service(connection, tenant_id)
    row = pg.insert(user_tenants).values(tenant_id=tenant_id, user_id=user_id, name=name, role=role)
    changed = {"name": row.excluded.name, "role": row.excluded.role}
    connection.execute(row.on_conflict_do_update(index_elements=["tenant_id", "user_id"], set_=changed))


def of(connection: sa.Connection, tenant_id: UUID) -> list[Member]:
    """Everybody who belongs to the tenant."""
    tenancy.service(connection, tenant_id)
    asked = _MEMBERS.where(user_tenants.c.tenant_id == tenant_id)
    return [Member(*row) for row in connection.execute(asked)]


def find(connection: sa.Connection, tenant_id: UUID, asked: str) -> Member:
    """The user of that id or name. Raises RefusedError when the tenant has none, or several of that name."""
    known = of(connection, tenant_id)
    found = [member for member in known if asked in (str(member.user_id), member.name)]
    if len(found) > 1:
        raise RefusedError(f"the tenant has {len(found)} users named {asked!r}: give the id")
    if not found:
        near = difflib.get_close_matches(asked, [member.name for member in known], n=1)
        hint = f"did you mean {near[0]}?" if near else "add a membership first"
        raise RefusedError(f"user {asked!r} does not belong to the tenant: {hint}")
    return found[0]


def get(connection: sa.Connection, tenant_id: UUID, user_id: UUID) -> Member:
    """The user with the role in the tenant, which is empty for a stranger."""
    tenancy.service(connection, tenant_id)
    key = (user_tenants.c.tenant_id == tenant_id, user_tenants.c.user_id == user_id)
    found = connection.execute(_MEMBERS.where(*key)).one_or_none()
    return Member(*found) if found else Member(user_id, f"user {user_id}", "")


def approver(connection: sa.Connection, tenant_id: UUID, user_id: UUID) -> Member:
    """The user, who may approve. Raises RefusedError for anybody else."""
    who = get(connection, tenant_id, user_id)
    if who.role not in APPROVERS:
        raise RefusedError(f"{who.name} is no approver of the tenant: ask an approver or owner")
    return who
