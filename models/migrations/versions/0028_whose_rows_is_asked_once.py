"""Whose rows the service may read is asked once a statement and not once a row, as what it may write: the same rule for both."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_POLICIES = """
    select format('%I.%I', schemaname, tablename) as place, policyname, tablename
    from pg_policies
    where schemaname in ('spine', 'ops', 'delivery', 'usage', 'books') and qual like '%app.tenant\\_id%'
"""


def upgrade() -> None:
    for found in op.get_bind().execute(sa.text(_POLICIES)).all():
        key = "id" if found.tablename == "tenants" else "tenant_id"
        op.execute(f"alter policy {found.policyname} on {found.place} {rls.service_rules(key)}")
