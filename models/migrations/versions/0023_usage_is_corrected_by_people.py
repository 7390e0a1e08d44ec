"""Plans that have not begun may be dropped, corrections may be refused, and refusals of quota are found by when they were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls
from models.base import Timestamp

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# Whatever lies ahead of the database's clock ruled nothing yet: such an end may move away, as far as no other plan is.
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
            and not (
                old.valid_to > clock_timestamp() and (new.valid_to is null or new.valid_to > old.valid_to)
                and not exists (
                    select from usage.site_plans as other
                    where other.tenant_id = new.tenant_id and other.site_id = new.site_id and other.id <> new.id
                        and tstzrange(other.valid_from, other.valid_to) && tstzrange(new.valid_from, new.valid_to)
                )
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

_GUARD_PLAN_REMOVAL = """
create or replace function usage.guard_plan_removal() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if old.valid_from > clock_timestamp() or not exists (select from spine.tenants where id = old.tenant_id) or exists (
        select from usage.sites
        where sites.tenant_id = old.tenant_id and sites.id = old.site_id and sites.closed_at <= old.valid_from
    ) then
        return old;
    end if;
    raise exception 'DELETE on usage.site_plans is refused: what was metered and invoiced stays'
        using errcode = 'restrict_violation';
end $$
"""

# Asked for by one, and approved by another or refused: once, and for good.
_GUARD_ADJUSTMENT = """
create or replace function usage.guard_adjustment() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    approved usage.usage_adjustments;
    refused usage.usage_adjustments;
begin
    if tg_op = 'INSERT' then
        if num_nonnulls(new.approved_by, new.approved_at, new.refused_by, new.refused_at, new.refused_why) > 0 then
            raise exception 'an adjustment is asked for first and approved by somebody else afterwards'
                using errcode = 'restrict_violation';
        end if;
        return new;
    elsif tg_op = 'UPDATE' then
        refused := old;
        refused.refused_by := new.refused_by;
        refused.refused_at := new.refused_at;
        refused.refused_why := new.refused_why;
        if old.approved_at is null and old.refused_at is null and refused is not distinct from new
            and new.refused_at is not null
        then
            return new;
        end if;
        approved := old;
        approved.approved_by := new.approved_by;
        approved.approved_at := new.approved_at;
        approved.year_month := new.year_month;
        if old.approved_by is null and old.approved_at is null and old.refused_at is null
            and approved is not distinct from new
            and new.approved_by is not null and new.approved_at is not null and new.year_month >= new.of_year_month
        then
            perform from usage.usage_periods as periods
            where periods.tenant_id = new.tenant_id and periods.year_month = new.year_month
            for share;
            if exists (
                select from usage.usage_periods as periods
                where periods.tenant_id = new.tenant_id and periods.year_month = new.year_month
                    and periods.state in ('CLOSED', 'ADJUSTED')
            ) then
                raise exception 'month % is closed: an adjustment is paid by one that is open', new.year_month
                    using errcode = 'object_not_in_prerequisite_state';
            end if;
            return new;
        end if;
    elsif not exists (select from spine.tenants where id = old.tenant_id) then
        return old;
    end if;
    raise exception '% on usage.usage_adjustments is refused: the table is append-only, add a correcting row instead', tg_op
        using errcode = 'restrict_violation';
end $$
"""


def upgrade() -> None:
    for column in (
        sa.Column("refused_by", sa.Text),
        sa.Column("refused_at", Timestamp),
        sa.Column("refused_why", sa.Text),
    ):
        op.add_column("usage_adjustments", column, schema="usage")
    op.create_check_constraint(
        op.f("usage_adjustments_refused_check"), "usage_adjustments",
        "num_nonnulls(refused_by, refused_at, refused_why) in (0, 3) and (refused_at is null or approved_at is null)",
        schema="usage",
    )  # fmt: skip
    op.drop_index("usage_adjustments_once_key", "usage_adjustments", schema="usage")
    op.create_index(
        "usage_adjustments_once_key", "usage_adjustments", ["site_id", "idempotency_key", "kind", "tenant_id"],
        unique=True, schema="usage",
        postgresql_where=sa.text("idempotency_key is not null and refused_at is null"),
    )  # fmt: skip
    op.create_index(
        "usage_decisions_created_idx",
        "usage_decisions",
        ["created_at"],
        schema="usage",
        postgresql_using="brin",
    )
    # Owning needs the right to create, for a moment.
    op.execute(f"grant create on schema usage to {rls.SERVICE}")
    for function in (_GUARD_PLAN, _GUARD_PLAN_REMOVAL, _GUARD_ADJUSTMENT):
        op.execute(function)
    op.execute(f"revoke create on schema usage from {rls.SERVICE}")
    op.execute(
        f"grant update (refused_by, refused_at, refused_why) on usage.usage_adjustments to {rls.SERVICE}"
    )
