"""Roles, the schemas of each area, and the guard of append-only tables."""

from __future__ import annotations

from alembic import op

from models import rls

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_REFUSE_CHANGE = """
create function ops.refuse_change() returns trigger language plpgsql as $$
begin
    -- Removing a whole tenant cascades here; nothing else may take a row out of an audit table.
    if tg_op = 'DELETE' then
        if not exists (select from spine.tenants where id = old.tenant_id) then return old; end if;
    end if;
    raise exception '% on %.% is refused: the table is append-only, add a correcting row instead',
        tg_op, tg_table_schema, tg_table_name using errcode = 'restrict_violation';
end $$
"""


def upgrade() -> None:
    for statement in rls.create_roles():
        op.execute(statement)
    for schema in ("spine", "ops", "staging", "analytics"):
        op.execute(f"create schema if not exists {schema}")
    for statement in rls.grant_usage(("spine", "ops", "analytics")):
        op.execute(statement)
    # dbt writes staging and analytics as the service; tenants' members never see staging.
    op.execute(f"grant usage, create on schema staging, analytics to {rls.SERVICE}")
    op.execute(f"grant usage on schema staging to {rls.ANALYST}")
    op.execute(_REFUSE_CHANGE)
