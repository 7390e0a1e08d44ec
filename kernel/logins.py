"""Logins: which tenant a PostgreSQL login reads, and as which of its people it answers.

Making the login and its password is the database's business; the people stand in `kernel.actions.acknowledge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kernel import tenancy
from kernel.errors import RefusedError
from models import guards, rls
from models.actions import logins, user_tenants
from models.spine import tenants

_ROLE = sa.text(
    "select pg_has_role(oid, :member, 'member') as is_member,"
    " rolsuper or rolbypassrls or rolcreaterole or pg_has_role(oid, :service, 'member')"
    " or pg_has_role(oid, :analyst, 'member') or pg_has_role(oid, :guard, 'member') as reaches_further"
    " from pg_roles where rolname = :login and rolcanlogin"
)


@dataclass(frozen=True, slots=True)
class Login:
    """A login of a tenant. `person` is whom it answers as, None when it only reads."""

    login: str
    person: str | None


def record(connection: sa.Connection, tenant_id: UUID, login: str, user_id: UUID | None = None) -> None:
    """Lets the login read the tenant, and answer as `user_id`, a user of the tenant; None: it only reads.

    Recorded again, it answers as whom was said last. Raises RefusedError when there is no such login, when it may do
    more or less than a tenant's own user, and when it speaks for another tenant.
    """
    tenancy.service(connection)
    roles = {"member": rls.MEMBER, "service": rls.SERVICE, "analyst": rls.ANALYST, "guard": guards.GUARD}
    role = connection.execute(_ROLE, {"login": login} | roles).one_or_none()
    if role is None:
        raise RefusedError(
            f"the database has no login {login}: make it with create role … login in role {rls.MEMBER}"
        )
    if role.reaches_further:
        raise RefusedError(
            f"login {login} reaches further than one tenant: take one that is in role {rls.MEMBER} alone"
        )
    if not role.is_member:
        raise RefusedError(f"login {login} could read nothing: grant {rls.MEMBER} to it first")
    other = sa.select(tenants.c.slug).join(logins).where(logins.c.login == login, tenants.c.id != tenant_id)
    if slug := connection.scalar(other):
        raise RefusedError(f"login {login} speaks for {slug}: remove it there first, or make another")
    tenancy.service(connection, tenant_id)
    row = pg.insert(logins).values(tenant_id=tenant_id, login=login, user_id=user_id)
    said = {"user_id": row.excluded.user_id}
    connection.execute(row.on_conflict_do_update(index_elements=["tenant_id", "login"], set_=said))


def remove(connection: sa.Connection, tenant_id: UUID, login: str) -> None:
    """From now on the login sees nothing. Raises RefusedError when it does not speak for the tenant."""
    tenancy.service(connection, tenant_id)
    gone = logins.delete().where(logins.c.tenant_id == tenant_id, logins.c.login == login)
    if not connection.execute(gone).rowcount:
        raise RefusedError(f"login {login} does not speak for the tenant: see revenue-os tenant login")


def of(connection: sa.Connection, tenant_id: UUID) -> list[Login]:
    """The tenant's logins, by name."""
    tenancy.service(connection, tenant_id)
    asked = (
        sa.select(logins.c.login, user_tenants.c.name)
        .outerjoin(user_tenants)
        .where(logins.c.tenant_id == tenant_id)
    )
    return [Login(*row) for row in connection.execute(asked.order_by(logins.c.login))]
