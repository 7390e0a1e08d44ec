"""Usage: the ledger and what is decided, counted, closed and invoiced from it, in a schema of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from models import rls

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_RECONCILIATION = "revenue_reconciliation"
_APPEND_ONLY = (
    "invoice_snapshot",
    "usage_adjustments",
    "usage_archives",
    "usage_audit",
    "usage_conflicts",
    "usage_decisions",
    "usage_meter_values",
)
_TABLES = (
    *_APPEND_ONLY,
    "billing_reconciliation_jobs",
    "ingest_fallback_buffer",
    "ingest_idempotency",
    "site_keys",
    "site_plans",
    "sites",
    "usage_counters",
    "usage_invoice_lines",
    "usage_invoices",
    "usage_meters",
    "usage_notices",
    "usage_outbox",
    "usage_periods",
    "usage_watermark",
)
_CREATE_ROLE = f"""
do $$ begin
    if not exists (select from pg_roles where rolname = '{_RECONCILIATION}') then
        create role {_RECONCILIATION} nologin;
    end if;
    -- Whoever migrates may act as the role, also on a managed server where nobody is superuser.
    execute format('grant {_RECONCILIATION} to %I', current_user);
exception when insufficient_privilege then
    raise notice 'who made {_RECONCILIATION} has to grant it to whoever recovers captures';
end $$
"""

# One expression, so that it is inlined where the ledger computes the column for each row.
_MONTH = """
create function usage.utc_year_month(at timestamptz) returns text
language sql immutable parallel safe
return lpad(date_part('year', at at time zone 'UTC')::int::text, 4, '0')
    || '-' || lpad(date_part('month', at at time zone 'UTC')::int::text, 2, '0')
"""

# Asked once a statement and not once a row. The months are held: whoever closes one waits for those who write into it,
# and whoever writes waits for the close and then is refused.
_GUARD_INSERT = """
create function usage.guard_insert() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    bad record;
begin
    perform from usage.usage_periods as periods
    where (periods.tenant_id, periods.year_month) in (select distinct tenant_id, year_month from new_rows)
    order by periods.tenant_id, periods.year_month
    for share;
    select wanted.year_month, periods.state into bad
    from (select distinct tenant_id, year_month from new_rows) as wanted
    left join usage.usage_periods as periods using (tenant_id, year_month)
    where periods.state is null or periods.state in ('CLOSED', 'ADJUSTED')
    order by wanted.year_month
    limit 1;
    if found then
        raise exception 'month % takes no more usage (%): what comes late is an adjustment of an open month',
            bad.year_month, coalesce(lower(bad.state), 'never opened') using errcode = 'object_not_in_prerequisite_state';
    end if;
    select wanted.site_id into bad
    from (select distinct tenant_id, site_id from new_rows) as wanted
    left join usage.sites on sites.tenant_id = wanted.tenant_id and sites.id = wanted.site_id
    where sites.id is null
    limit 1;
    if found then
        raise exception 'the tenant has no site %', bad.site_id using errcode = 'foreign_key_violation';
    end if;
    return null;
end $$
"""

# Whoever looks for what changed looks above a transaction's number: nobody may write another one than its own.
_GUARD_TXID = """
create function usage.guard_ledger_txid() returns trigger
language plpgsql as $$
begin
    if exists (select from new_rows where txid <> pg_current_xact_id()::text::bigint) then
        raise exception 'txid is the number of the transaction that writes the row: leave it to its default'
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$
"""

# What a row may become. Until its transaction ends nothing was decided: there a capture that could not be published is
# marked so.
_GUARD_UPDATE = """
create function usage.guard_ledger_update() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    this constant bigint := pg_current_xact_id()::text::bigint;
    bad record;
begin
    if exists (
        select from old_rows as was
        full join new_rows as now using (tenant_id, site_id, idempotency_key)
        where (
            (was.created_at, was.expires_at, was.year_month, was.idempotency_version, was.event_category, was.event_action,
             was.event_label, was.occurred_at, was.payload_hash)
            is not distinct from
            (now.created_at, now.expires_at, now.year_month, now.idempotency_version, now.event_category, now.event_action,
             now.event_label, now.occurred_at, now.payload_hash)
            and (
                was.billing_state = 'REJECTED_QUOTA' and now.billing_state in ('ACCEPTED', 'OVERAGE') and now.billable
                and now.txid = this
                or (was.billable, was.billing_reason, was.plan_id) is not distinct from (now.billable, now.billing_reason, now.plan_id)
                and (
                    was.billing_state = 'DEGRADED_CAPTURE' and now.billing_state = 'RECOVERED' and now.txid in (was.txid, this)
                    or was.billing_state = 'ACCEPTED' and now.billing_state = 'DEGRADED_CAPTURE' and was.txid = this and now.txid = this
                )
            )
        ) is not true
    ) then
        raise exception 'a row of the ledger is a decision: it is corrected by an adjustment, not changed'
            using errcode = 'integrity_constraint_violation';
    end if;
    perform from usage.usage_periods as periods
    where (periods.tenant_id, periods.year_month) in (select distinct tenant_id, year_month from old_rows)
    order by periods.tenant_id, periods.year_month
    for share;
    select changed.year_month into bad
    from (select distinct tenant_id, year_month from old_rows) as changed
    left join usage.usage_periods as periods using (tenant_id, year_month)
    where periods.state is null or periods.state in ('CLOSED', 'ADJUSTED')
    limit 1;
    if found then
        raise exception 'month % is closed: what is wrong in it is corrected by an adjustment', bad.year_month
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return null;
end $$
"""

_GUARD_DELETE = """
create function usage.guard_ledger_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from old_rows where expires_at > clock_timestamp()) or exists (
        select from (select distinct tenant_id, site_id, year_month from old_rows) as gone
        inner join spine.tenants on tenants.id = gone.tenant_id
        left join usage.usage_archives as archives using (tenant_id, site_id, year_month)
        left join usage.usage_periods as periods using (tenant_id, year_month)
        where archives.row_count is null or periods.state is null or periods.state not in ('CLOSED', 'ADJUSTED')
    ) then
        raise exception 'a row of the ledger stays until its key has expired, and its month is closed and archived'
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$
"""

# Of tables whose rows change but never go, unless their tenant does.
_REFUSE_REMOVAL = """
create function usage.refuse_removal() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'DELETE' then
        if not exists (select from spine.tenants where id = old.tenant_id) then return old; end if;
    end if;
    raise exception '% on %.% is refused: what was metered and invoiced stays', tg_op, tg_table_schema, tg_table_name
        using errcode = 'restrict_violation';
end $$
"""

_GUARD_PERIOD = """
create function usage.guard_period() returns trigger
language plpgsql as $$
begin
    if (new.tenant_id, new.year_month) <> (old.tenant_id, old.year_month)
        or new.state <> old.state and (old.state, new.state) not in (
            ('OPEN', 'CLOSING'), ('CLOSING', 'OPEN'), ('CLOSING', 'CLOSED'), ('CLOSED', 'ADJUSTED')
        )
    then
        raise exception 'month % is % and does not become %', old.year_month, lower(old.state), lower(new.state)
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$
"""

# A version of a plan ends once, and two are never valid at the same instant: what a month was rated by stays so.
_GUARD_PLAN = """
create function usage.guard_plan() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    ended usage.site_plans;
begin
    if tg_op = 'UPDATE' then
        ended := old;
        ended.valid_to := new.valid_to;
        if ended is distinct from new or old.valid_to is not null and new.valid_to is distinct from old.valid_to then
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

# An adjustment is approved once; otherwise it is as the other append-only tables.
_GUARD_ADJUSTMENT = """
create function usage.guard_adjustment() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    approved usage.usage_adjustments;
begin
    if tg_op = 'UPDATE' then
        approved := old;
        approved.approved_by := new.approved_by;
        approved.approved_at := new.approved_at;
        if old.approved_by is null and old.approved_at is null and approved is not distinct from new
            and new.approved_by is not null and new.approved_at is not null
        then
            return new;
        end if;
    elsif not exists (select from spine.tenants where id = old.tenant_id) then
        return old;
    end if;
    raise exception '% on usage.usage_adjustments is refused: the table is append-only, add a correcting row instead', tg_op
        using errcode = 'restrict_violation';
end $$
"""

_GUARDS = (
    _GUARD_INSERT, _GUARD_TXID, _GUARD_UPDATE, _GUARD_DELETE, _REFUSE_REMOVAL, _GUARD_PERIOD, _GUARD_PLAN,
    _GUARD_ADJUSTMENT,
)  # fmt: skip
# Those that look up months, sites and tenants do it as the service, whoever writes.
_OWN = (
    "guard_insert",
    "guard_ledger_update",
    "guard_ledger_delete",
    "refuse_removal",
    "guard_plan",
    "guard_adjustment",
)

_NEW = "referencing new table as new_rows for each statement execute function usage."
_TRIGGERS = (
    f"guard_insert after insert on usage.ingest_idempotency {_NEW}guard_insert()",
    f"guard_txid after insert on usage.ingest_idempotency {_NEW}guard_ledger_txid()",
    "guard_update after update on usage.ingest_idempotency referencing old table as old_rows new table as new_rows"
    " for each statement execute function usage.guard_ledger_update()",
    "guard_delete after delete on usage.ingest_idempotency referencing old table as old_rows"
    " for each statement execute function usage.guard_ledger_delete()",
    f"guard_insert after insert on usage.usage_meter_values {_NEW}guard_insert()",
    "guard_state before update on usage.usage_periods for each row execute function usage.guard_period()",
    "guard_plan before insert or update on usage.site_plans for each row execute function usage.guard_plan()",
)
_KEPT = ("site_plans", "sites", "usage_periods")


def upgrade() -> None:
    op.execute(_CREATE_ROLE)
    op.execute("create schema usage")
    for statement in rls.grant_usage(["usage"]):
        op.execute(statement)
    op.execute(_MONTH)
    _create_tables()
    # Megabytes that are read once: compressing them costs more than they take.
    for name in ("usage_outbox", "ingest_fallback_buffer"):
        op.execute(f"alter table usage.{name} alter column payload set storage external")
    for name in _TABLES:
        for statement in rls.protect(f"usage.{name}", append_only=name in _APPEND_ONLY):
            op.execute(statement)
    _guard()
    _limit_grants()


def _guard() -> None:
    # Owning needs the right to create, for a moment.
    op.execute(f"grant create on schema usage to {rls.SERVICE}")
    for function in _GUARDS:
        op.execute(function)
    for name in _OWN:
        op.execute(f"alter function usage.{name}() owner to {rls.SERVICE}")
    op.execute(f"revoke create on schema usage from {rls.SERVICE}")
    for trigger in _TRIGGERS:
        op.execute(f"create trigger {trigger}")
    for name in _KEPT:
        op.execute(
            f"create trigger refuse_removal before delete on usage.{name}"
            " for each row execute function usage.refuse_removal()"
        )
    for name in (*_KEPT, "ingest_idempotency"):
        op.execute(
            f"create trigger refuse_truncate before truncate on usage.{name}"
            " for each statement execute function usage.refuse_removal()"
        )
    op.execute(
        "create or replace trigger refuse_change before update or delete on usage.usage_adjustments"
        " for each row execute function usage.guard_adjustment()"
    )


def _limit_grants() -> None:
    for statement in (
        f"revoke update on usage.ingest_idempotency from {rls.SERVICE}",
        "grant update (billing_state, billable, billing_reason, plan_id, txid) on usage.ingest_idempotency"
        f" to {rls.SERVICE}",
        f"grant update (approved_by, approved_at) on usage.usage_adjustments to {rls.SERVICE}",
        f"grant usage on schema usage to {_RECONCILIATION}",
        f"grant select, update (billing_state, billable) on usage.ingest_idempotency to {_RECONCILIATION}",
        f"create policy reconciliation on usage.ingest_idempotency to {_RECONCILIATION} {rls.service_rules('tenant_id')}",
        "revoke execute on all functions in schema usage from public",
        "grant execute on function usage.utc_year_month"
        f" to {rls.SERVICE}, {rls.MEMBER}, {rls.ANALYST}, {_RECONCILIATION}",
    ):
        op.execute(statement)


def _create_tables() -> None:
    op.create_table(
        "sites",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("public_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("origins", pg.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("public_id ~ '^[!-~]{1,128}$'", name=op.f("sites_public_id_check")),
        sa.CheckConstraint("status in ('active', 'closed')", name=op.f("sites_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("sites_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("sites_pkey")),
        schema="usage",
    )
    op.create_index("sites_public_id_key", "sites", ["public_id"], unique=True, schema="usage")
    op.create_table(
        "usage_audit",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", pg.JSONB(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("usage_audit_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("usage_audit_pkey")),
        schema="usage",
    )
    op.create_table(
        "usage_invoices",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="draft", nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("total", sa.Numeric(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("final_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("final_by", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'final') = (final_at is not null)", name=op.f("usage_invoices_final_check")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("usage_invoices_currency_check")),
        sa.CheckConstraint("state in ('draft', 'final')", name=op.f("usage_invoices_state_check")),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_invoices_year_month_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_invoices_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("usage_invoices_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "year_month",
            "currency",
            name=op.f("usage_invoices_tenant_id_year_month_currency_key"),
        ),
        schema="usage",
    )
    op.create_table(
        "usage_meters",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("event_category", sa.Text(), nullable=True),
        sa.Column("event_action", sa.Text(), nullable=True),
        sa.Column("value_path", sa.Text(), nullable=True),
        sa.Column("dimensions", pg.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(kind = 'count') = (value_path is null)", name=op.f("usage_meters_value_path_check")
        ),
        sa.CheckConstraint("kind in ('count', 'sum', 'max', 'unique')", name=op.f("usage_meters_kind_check")),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9_]{0,62}$'", name=op.f("usage_meters_name_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("usage_meters_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("usage_meters_pkey")),
        schema="usage",
    )
    op.create_table(
        "usage_periods",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="OPEN", nullable=False),
        sa.Column("closing_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "state in ('OPEN', 'CLOSING', 'CLOSED', 'ADJUSTED')", name=op.f("usage_periods_state_check")
        ),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_periods_year_month_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("usage_periods_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "year_month", name=op.f("usage_periods_pkey")),
        schema="usage",
    )
    op.create_table(
        "usage_watermark",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("txid", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_watermark_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("usage_watermark_pkey")),
        schema="usage",
    )
    op.create_table(
        "billing_reconciliation_jobs",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="QUEUED", nullable=False),
        sa.Column("locked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_drift_pct", sa.Numeric(), nullable=True),
        sa.Column("drift", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("counted_to", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'PROCESSING') = (lease_expires_at is not null)",
            name=op.f("billing_reconciliation_jobs_lease_check"),
        ),
        sa.CheckConstraint(
            "status in ('QUEUED', 'PROCESSING', 'COMPLETED', 'FAILED', 'DEAD')",
            name=op.f("billing_reconciliation_jobs_status_check"),
        ),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'",
            name=op.f("billing_reconciliation_jobs_year_month_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("billing_reconciliation_jobs_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("billing_reconciliation_jobs_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "site_id", "year_month", name=op.f("billing_reconciliation_jobs_pkey")
        ),
        schema="usage",
    )
    op.create_index(
        "billing_reconciliation_jobs_due_idx",
        "billing_reconciliation_jobs",
        ["due_at"],
        unique=False,
        schema="usage",
        postgresql_where=sa.text("status in ('QUEUED', 'FAILED', 'PROCESSING')"),
    )
    op.create_table(
        "ingest_fallback_buffer",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("keys", pg.ARRAY(sa.Text()), nullable=False),
        sa.Column("payload", pg.JSON(), nullable=False),
        sa.Column("error_reason", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="PENDING", nullable=False),
        sa.Column("recover_attempt_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("credited_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'PROCESSING') = (lease_expires_at is not null)",
            name=op.f("ingest_fallback_buffer_lease_check"),
        ),
        sa.CheckConstraint(
            "status in ('PENDING', 'PROCESSING', 'RECOVERED', 'FAILED', 'QUARANTINE')",
            name=op.f("ingest_fallback_buffer_status_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("ingest_fallback_buffer_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("ingest_fallback_buffer_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("ingest_fallback_buffer_pkey")),
        schema="usage",
    )
    op.create_index(
        "ingest_fallback_buffer_waiting_idx",
        "ingest_fallback_buffer",
        ["due_at"],
        unique=False,
        schema="usage",
        postgresql_where=sa.text("status in ('PENDING', 'PROCESSING')"),
    )
    op.create_table(
        "ingest_idempotency",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            sa.Computed(
                "(created_at at time zone 'UTC' + interval '90 days') at time zone 'UTC'", persisted=True
            ),
            nullable=False,
        ),
        sa.Column("billing_state", sa.Text(), server_default="ACCEPTED", nullable=False),
        sa.Column("billable", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("billing_reason", sa.Text(), nullable=True),
        sa.Column(
            "year_month",
            sa.Text(),
            sa.Computed("usage.utc_year_month(created_at)", persisted=True),
            nullable=False,
        ),
        sa.Column("idempotency_version", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("event_category", sa.Text(), nullable=True),
        sa.Column("event_action", sa.Text(), nullable=True),
        sa.Column("event_label", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("plan_id", sa.Uuid(), nullable=True),
        sa.Column("payload_hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "txid",
            sa.BigInteger(),
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "billable or billing_state <> 'OVERAGE'", name=op.f("ingest_idempotency_overage_check")
        ),
        sa.CheckConstraint(
            "billing_state <> 'REJECTED_QUOTA' or not billable",
            name=op.f("ingest_idempotency_billable_check"),
        ),
        sa.CheckConstraint(
            "billing_state in ('ACCEPTED', 'OVERAGE', 'DEGRADED_CAPTURE', 'RECOVERED', 'REJECTED_QUOTA')",
            name=op.f("ingest_idempotency_billing_state_check"),
        ),
        sa.CheckConstraint(
            "octet_length(payload_hash) = 32", name=op.f("ingest_idempotency_payload_hash_check")
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "site_id", "idempotency_key", name=op.f("ingest_idempotency_pkey")
        ),
        schema="usage",
    )
    op.create_index(
        "ingest_idempotency_created_idx",
        "ingest_idempotency",
        ["created_at"],
        unique=False,
        schema="usage",
        postgresql_using="brin",
    )
    op.create_index(
        "ingest_idempotency_txid_idx",
        "ingest_idempotency",
        ["txid"],
        unique=False,
        schema="usage",
        postgresql_using="brin",
    )
    op.create_table(
        "invoice_snapshot",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("overage_count", sa.BigInteger(), nullable=False),
        sa.Column("snapshot_hash", sa.Text(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("merkle_root", sa.Text(), nullable=False),
        sa.Column("plan", pg.JSONB(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("generated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("generated_by", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "snapshot_hash ~ '^[0-9a-f]{64}$' and merkle_root ~ '^[0-9a-f]{64}$' and hash ~ '^[0-9a-f]{64}$'",
            name=op.f("invoice_snapshot_hashes_check"),
        ),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("invoice_snapshot_year_month_check")
        ),
        sa.CheckConstraint(
            "event_count >= 0 and overage_count between 0 and event_count and row_count >= event_count",
            name=op.f("invoice_snapshot_counts_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("invoice_snapshot_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("invoice_snapshot_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "site_id", "year_month", name=op.f("invoice_snapshot_pkey")),
        schema="usage",
    )
    op.create_table(
        "site_keys",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("octet_length(key_hash) = 32", name=op.f("site_keys_key_hash_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("site_keys_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("site_keys_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("site_keys_pkey")),
        schema="usage",
    )
    op.create_index("site_keys_key_hash_key", "site_keys", ["key_hash"], unique=True, schema="usage")
    op.create_table(
        "site_plans",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("plan_tier", sa.Text(), server_default="free", nullable=False),
        sa.Column("monthly_limit", sa.BigInteger(), nullable=False),
        sa.Column("soft_limit_enabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("hard_cap_multiplier", sa.Numeric(), server_default="2", nullable=False),
        sa.Column("overage_price_per_1k", sa.Numeric(), nullable=True),
        sa.Column("base_price", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("tiers", pg.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("minimum", sa.Numeric(), server_default="0", nullable=False),
        sa.Column("currency", sa.Text(), server_default="USD", nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("billing_rule", sa.Text(), server_default="every_event", nullable=False),
        sa.CheckConstraint(
            "billing_rule in ('every_event', 'event_kinds')", name=op.f("site_plans_billing_rule_check")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("site_plans_currency_check")),
        sa.CheckConstraint("hard_cap_multiplier >= 1", name=op.f("site_plans_hard_cap_multiplier_check")),
        sa.CheckConstraint("monthly_limit >= 0", name=op.f("site_plans_monthly_limit_check")),
        sa.CheckConstraint("valid_to is null or valid_to > valid_from", name=op.f("site_plans_valid_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("site_plans_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("site_plans_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("site_plans_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "site_id", "valid_from", name=op.f("site_plans_tenant_id_site_id_valid_from_key")
        ),
        schema="usage",
    )
    op.create_index(
        "site_plans_open_key",
        "site_plans",
        ["site_id", "tenant_id"],
        unique=True,
        schema="usage",
        postgresql_where=sa.text("valid_to is null"),
    )
    op.create_table(
        "usage_adjustments",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("of_year_month", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=True),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind in ('late', 'void', 'credit', 'correction')", name=op.f("usage_adjustments_kind_check")
        ),
        sa.CheckConstraint(
            "of_year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_adjustments_of_year_month_check")
        ),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_adjustments_year_month_check")
        ),
        sa.CheckConstraint(
            "approved_by is null or approved_by <> asked_by", name=op.f("usage_adjustments_approved_by_check")
        ),
        sa.CheckConstraint("char_length(btrim(reason)) >= 10", name=op.f("usage_adjustments_reason_check")),
        sa.CheckConstraint("quantity <> 0", name=op.f("usage_adjustments_quantity_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_adjustments_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_adjustments_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("usage_adjustments_pkey")),
        schema="usage",
    )
    op.create_index(
        "usage_adjustments_once_key",
        "usage_adjustments",
        ["site_id", "idempotency_key", "kind", "tenant_id"],
        unique=True,
        schema="usage",
        postgresql_where=sa.text("idempotency_key is not null"),
    )
    op.create_table(
        "usage_archives",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("merkle_root", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_archives_year_month_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_archives_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_archives_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "site_id", "year_month", name=op.f("usage_archives_pkey")),
        schema="usage",
    )
    op.create_table(
        "usage_conflicts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("payload_hash", sa.LargeBinary(), nullable=False),
        sa.Column("payload", pg.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_conflicts_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_conflicts_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "site_id", "idempotency_key", "payload_hash", name=op.f("usage_conflicts_pkey")
        ),
        schema="usage",
    )
    op.create_table(
        "usage_counters",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("overage", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_counters_year_month_check")
        ),
        sa.CheckConstraint(
            "accepted >= 0 and overage between 0 and accepted and rejected >= 0",
            name=op.f("usage_counters_counts_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_counters_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_counters_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "site_id", "year_month", name=op.f("usage_counters_pkey")),
        schema="usage",
    )
    op.create_table(
        "usage_decisions",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("used_before", sa.BigInteger(), nullable=True),
        sa.Column("limit_then", sa.BigInteger(), nullable=True),
        sa.Column("plan_id", sa.Uuid(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "decision in ('overage', 'rejected_quota', 'taken_back', 'recovered', 'quarantined')",
            name=op.f("usage_decisions_decision_check"),
        ),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_decisions_year_month_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_decisions_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_decisions_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("usage_decisions_pkey")),
        schema="usage",
    )
    op.create_index(
        "usage_decisions_key_idx",
        "usage_decisions",
        ["site_id", "idempotency_key", "tenant_id"],
        unique=False,
        schema="usage",
    )
    op.create_table(
        "usage_invoice_lines",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("invoice_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("of_year_month", sa.Text(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("price_per_1k", sa.Numeric(), nullable=True),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind in ('base', 'included', 'tier', 'overage', 'minimum', 'adjustment')",
            name=op.f("usage_invoice_lines_kind_check"),
        ),
        sa.CheckConstraint(
            "of_year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_invoice_lines_of_year_month_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "invoice_id"],
            ["usage.usage_invoices.tenant_id", "usage.usage_invoices.id"],
            name=op.f("usage_invoice_lines_tenant_id_invoice_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_invoice_lines_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_invoice_lines_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "invoice_id", "number", name=op.f("usage_invoice_lines_pkey")),
        schema="usage",
    )
    op.create_table(
        "usage_meter_values",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "year_month",
            sa.Text(),
            sa.Computed("usage.utc_year_month(created_at)", persisted=True),
            nullable=False,
        ),
        sa.Column("value", sa.Numeric(), nullable=True),
        sa.Column("told", sa.Text(), nullable=True),
        sa.Column("dimensions", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "meter"],
            ["usage.usage_meters.tenant_id", "usage.usage_meters.name"],
            name=op.f("usage_meter_values_tenant_id_meter_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("usage_meter_values_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "site_id", "meter", "idempotency_key", name=op.f("usage_meter_values_pkey")
        ),
        schema="usage",
    )
    op.create_table(
        "usage_notices",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("limit_then", sa.BigInteger(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("usage_notices_year_month_check")
        ),
        sa.CheckConstraint("threshold in (50, 80, 95, 100)", name=op.f("usage_notices_threshold_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_notices_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("usage_notices_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "site_id", "year_month", "threshold", name=op.f("usage_notices_pkey")
        ),
        schema="usage",
    )
    op.create_table(
        "usage_outbox",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("keys", pg.ARRAY(sa.Text()), nullable=False),
        sa.Column("payload", pg.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("handed_on_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "site_id"],
            ["usage.sites.tenant_id", "usage.sites.id"],
            name=op.f("usage_outbox_tenant_id_site_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("usage_outbox_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("usage_outbox_pkey")),
        schema="usage",
    )
    op.create_index(
        "usage_outbox_waiting_idx",
        "usage_outbox",
        ["created_at"],
        unique=False,
        schema="usage",
        postgresql_where=sa.text("handed_on_at is null"),
    )
