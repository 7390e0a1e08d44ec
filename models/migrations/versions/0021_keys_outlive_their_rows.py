"""Keys that no time is in outlive their rows: what was archived is not metered again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls
from models.base import Uuid

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "archived_keys",
        sa.Column("tenant_id", Uuid, nullable=False),
        sa.Column("site_id", Uuid, nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("year_month", sa.Text, nullable=False),
        sa.CheckConstraint(
            r"year_month ~ '^\d{4}-(0[1-9]|1[0-2])$'", name=op.f("archived_keys_year_month_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("archived_keys_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"], ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("archived_keys_tenant_id_site_id_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "site_id", "idempotency_key", name=op.f("archived_keys_pkey")),
        schema="usage",
    )  # fmt: skip
    for statement in rls.protect("usage.archived_keys", append_only=True):
        op.execute(statement)
