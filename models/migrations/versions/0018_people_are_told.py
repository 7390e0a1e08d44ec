"""Alarms that people are told of; sites, meters and tenants end without taking along what was metered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls
from models.base import Timestamp, Uuid

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# What was closed before has no instant of its own: the audit knows it, else nothing after today is held against it.
_FILL_CLOSED = """
update usage.sites set closed_at = coalesce(
    (
        select max(audit.at) from usage.usage_audit as audit
        where audit.tenant_id = sites.tenant_id and audit.event = 'site_closed' and audit.detail ->> 'site_id' = sites.id::text
    ),
    now()
)
where status = 'closed'
"""

# A plan is ended once, and once more, earlier, by the end of its site.
_GUARD_PLAN = """
create or replace function usage.guard_plan() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    ended usage.site_plans;
begin
    if tg_op = 'UPDATE' then
        ended := old;
        ended.valid_to := new.valid_to;
        if ended is distinct from new or old.valid_to is not null and new.valid_to is distinct from old.valid_to
            and not exists (
                select from usage.sites
                where sites.tenant_id = new.tenant_id and sites.id = new.site_id
                    and sites.closed_at = new.valid_to and new.valid_to < old.valid_to
            )
        then
            raise exception 'a plan that was set is only ended: set another one from an instant on'
                using errcode = 'integrity_constraint_violation';
        end if;
    elsif exists (
        select from usage.site_plans as other
        where other.tenant_id = new.tenant_id and other.site_id = new.site_id
            and tstzrange(other.valid_from, other.valid_to) && tstzrange(new.valid_from, new.valid_to)
    ) then
        raise exception 'the site has a plan at that time already' using errcode = 'exclusion_violation';
    end if;
    return new;
end $$
"""

# A plan that was to begin when its site was closed already never held, and rates nothing.
_GUARD_PLAN_REMOVAL = """
create function usage.guard_plan_removal() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from spine.tenants where id = old.tenant_id) or exists (
        select from usage.sites
        where sites.tenant_id = old.tenant_id and sites.id = old.site_id and sites.closed_at <= old.valid_from
    ) then
        return old;
    end if;
    raise exception 'DELETE on usage.site_plans is refused: what was metered and invoiced stays'
        using errcode = 'restrict_violation';
end $$
"""

# The row of a tenant would take its snapshots, invoices and audit along and leave its ledger to nobody. No pinned
# tenant hides what another one has.
_GUARD_TENANT = """
create function usage.guard_tenant() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    pinned constant text := coalesce(current_setting('app.tenant_id', true), '');
begin
    perform set_config('app.tenant_id', old.id::text, true);
    if exists (select from usage.ingest_idempotency where tenant_id = old.id)
        or exists (select from usage.invoice_snapshot where tenant_id = old.id)
    then
        raise exception 'tenant % has usage that was metered or invoiced, which is kept as evidence:'
            ' disable it and close its sites instead', old.slug using errcode = 'restrict_violation';
    end if;
    perform set_config('app.tenant_id', pinned, true);
    return old;
end $$
"""


def upgrade() -> None:
    op.add_column("sites", sa.Column("closed_at", Timestamp), schema="usage")
    op.execute(_FILL_CLOSED)
    op.add_column("usage_meters", sa.Column("ended_at", Timestamp), schema="usage")
    _create_alarms()
    # Owning needs the right to create, for a moment.
    op.execute(f"grant create on schema usage to {rls.SERVICE}")
    for function in (_GUARD_PLAN, _GUARD_PLAN_REMOVAL, _GUARD_TENANT):
        op.execute(function)
    for name in ("guard_plan_removal", "guard_tenant"):
        op.execute(f"alter function usage.{name}() owner to {rls.SERVICE}")
        op.execute(f"revoke execute on function usage.{name}() from public")
    op.execute(f"revoke create on schema usage from {rls.SERVICE}")
    op.execute(
        "create or replace trigger refuse_removal before delete on usage.site_plans"
        " for each row execute function usage.guard_plan_removal()"
    )
    op.execute(
        "create trigger keep_usage before delete on spine.tenants"
        " for each row execute function usage.guard_tenant()"
    )


def _create_alarms() -> None:
    op.create_table(
        "usage_alarms",
        sa.Column("tenant_id", Uuid, nullable=False),
        sa.Column("check_name", sa.Text, nullable=False),
        sa.Column("began_at", Timestamp, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("ended_at", Timestamp),
        sa.Column("told_at", Timestamp),
        sa.Column("told_status", sa.Text),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("usage_alarms_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "check_name", "began_at", name=op.f("usage_alarms_pkey")),
        schema="usage",
    )
    op.create_index(
        "usage_alarms_open_key", "usage_alarms", ["check_name", "tenant_id"], unique=True, schema="usage",
        postgresql_where=sa.text("ended_at is null"),
    )  # fmt: skip
    for statement in rls.protect("usage.usage_alarms"):
        op.execute(statement)
