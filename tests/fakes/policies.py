"""What the catalog says of policies, for the tests that walk it."""

from __future__ import annotations

import sqlalchemy as sa

from models import rls

_NOT_BY_LOGIN = sa.text(
    "select schemaname || '.' || tablename || ' ' || policyname from pg_policies"
    " where roles && array[:member, 'public']::name[] and (cmd <> 'SELECT' or"
    "  qual not in ('(tenant_id = ( SELECT spine.session_tenant() AS session_tenant))',"
    "               '(id = ( SELECT spine.session_tenant() AS session_tenant))'))"
    " order by 1"
)


def not_by_login(connection: sa.Connection) -> list[str]:
    """Policies for tenants' own users, or for everybody, that are for more than reading or ask anything but the login."""
    return list(connection.scalars(_NOT_BY_LOGIN, {"member": rls.MEMBER}))
