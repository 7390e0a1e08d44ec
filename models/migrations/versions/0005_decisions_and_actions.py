"""Decisions and actions: what cycles record, how an action is acknowledged and carried out, who may do what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from models import rls

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = (
    "spine.user_tenants",
    "spine.action_intents",
    "spine.action_snapshots",
    "spine.subsystem_settings",
    "spine.action_tickets",
    "spine.cycle_triggers",
    "spine.trigger_states",
    "ops.kernel_cycle_slo",
)
_APPEND_ONLY = ("spine.action_events", "spine.budget_entries", "spine.decision_weights", "ops.incidents")

_STATUS = """case
    when execution_status = 'awaiting_ack' then 'pending_acknowledgment'
    when execution_status in ('proposed', 'approved') then 'pending'
    when execution_status = 'scheduled' then 'scheduled'
    when execution_status = 'closed' then 'completed'
    when execution_status in ('rejected', 'expired', 'reverted', 'aborted') then 'aborted'
    when execution_status in ('verify_failed', 'apply_failed') then 'failed'
    else 'executing' end"""

# A tenant's own user changes an action through these two alone. They run as the service, for the pinned tenant and
# for the user of the session, and check there what no grant can say. The instant is an argument for the pipeline;
# what a member may call takes the server's clock.
_DECIDE = """
create function spine.{name}_action(action uuid, {second} text, at timestamptz) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    who uuid := nullif(current_setting('app.user_id', true), '')::uuid;
    tenant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
    found_action spine.optimization_actions;
begin
    if tenant is null then
        raise exception 'no tenant is pinned: name the tenant' using errcode = 'insufficient_privilege';
    end if;
    if not exists (
        select from spine.user_tenants
        where tenant_id = tenant and user_id = who and role in ('approver', 'owner')
    ) then
        raise exception 'this user is no approver of the tenant: ask an approver or owner'
            using errcode = 'insufficient_privilege';
    end if;
    select * into found_action from spine.optimization_actions
    where tenant_id = tenant and id = action for update;
    if not found then
        raise exception 'the tenant has no action %: see revenue-os actions list', action
            using errcode = 'no_data_found';
    end if;
    if found_action.execution_status <> 'awaiting_ack' then
        raise exception 'the action is %, not awaiting_ack: nothing was changed', found_action.execution_status
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    if found_action.expires_at <= at then
        raise exception 'the action expired at %: the next cycle proposes it again if it still holds',
            found_action.expires_at using errcode = 'object_not_in_prerequisite_state';
    end if;
    {body}
    insert into spine.action_events
        (tenant_id, optimization_action_id, at, from_status, to_status, actor, note, detail)
    values (tenant, action, at, 'awaiting_ack', '{status}', who::text, {note}, {detail});
end $$
"""

_ACKNOWLEDGE = _DECIDE.format(
    name="acknowledge",
    second="hash",
    status="approved",
    note="null",
    detail="jsonb_build_object('payload_hash', hash)",
    body="""
    if found_action.proposed_by = who then
        raise exception 'whoever proposed a change may not acknowledge it: ask another approver'
            using errcode = 'insufficient_privilege';
    end if;
    if found_action.payload_hash is distinct from hash then
        raise exception 'the action is not what was shown: show it again and acknowledge hash %',
            found_action.payload_hash using errcode = 'object_not_in_prerequisite_state';
    end if;
    update spine.optimization_actions
    set execution_status = 'approved', acknowledged_at = at, acknowledged_by = who, acknowledged_hash = hash,
        snoozed_until = null, updated_at = at
    where tenant_id = tenant and id = action;""",
)

_REJECT = _DECIDE.format(
    name="reject",
    second="why",
    status="rejected",
    note="why",
    detail="'{}'::jsonb",
    body="""
    if coalesce(btrim(why), '') = '' then
        raise exception 'a rejection needs its reason: say why' using errcode = 'invalid_parameter_value';
    end if;
    update spine.optimization_actions
    set execution_status = 'rejected', acknowledged_at = at, acknowledged_by = who, reason = why, closed_at = at,
        updated_at = at
    where tenant_id = tenant and id = action;""",
)

_MEMBER = """
create function spine.{name}_action(action uuid, {second} text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select spine.{name}_action(action, {second}, now()) $$
"""


def _acknowledgment() -> list[str]:
    statements = [
        _ACKNOWLEDGE,
        _REJECT,
        _MEMBER.format(name="acknowledge", second="hash"),
        _MEMBER.format(name="reject", second="why"),
    ]
    # The service owns them, so that its policies hold inside; owning needs the right to create, for a moment.
    statements.append(f"grant create on schema spine to {rls.SERVICE}")
    for name in ("acknowledge", "reject"):
        statements += [
            f"alter function spine.{name}_action(uuid, text, timestamptz) owner to {rls.SERVICE}",
            f"alter function spine.{name}_action(uuid, text) owner to {rls.SERVICE}",
            f"revoke all on function spine.{name}_action(uuid, text, timestamptz) from public",
            f"revoke all on function spine.{name}_action(uuid, text) from public",
            f"grant execute on function spine.{name}_action(uuid, text) to {rls.MEMBER}",
        ]
    return [*statements, f"revoke create on schema spine from {rls.SERVICE}"]


def upgrade() -> None:
    op.create_table(
        "incidents",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("incidents_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("incidents_pkey")),
        schema="ops",
    )
    op.create_table(
        "kernel_cycle_slo",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("cycle_date", sa.Date(), nullable=False),
        sa.Column("cycles_attempted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cycles_succeeded", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cycles_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("economics_actions_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("kernel_cycle_slo_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "cycle_date", name=op.f("kernel_cycle_slo_pkey")),
        schema="ops",
    )
    op.create_table(
        "cycle_triggers",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        sa.Column("trigger_type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("detail", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("triggered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("consumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("optimization_cycle_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "trigger_type in ('scheduled', 'metric_deviation', 'lifecycle_event', 'manual')",
            name=op.f("cycle_triggers_trigger_type_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("cycle_triggers_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("cycle_triggers_pkey")),
        sa.UniqueConstraint("tenant_id", "dedupe_key", name=op.f("cycle_triggers_tenant_id_dedupe_key_key")),
        schema="spine",
    )
    op.create_table(
        "decision_weights",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", pg.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("decision_weights_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "version", name=op.f("decision_weights_pkey")),
        schema="spine",
    )
    op.create_table(
        "subsystem_settings",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("subsystem", sa.Text(), nullable=False),
        sa.Column("entity_type", sa.Text(), server_default="tenant", nullable=False),
        sa.Column("entity_id", sa.Text(), server_default="", nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", pg.JSONB(), nullable=False),
        sa.Column("changed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("subsystem_settings_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "subsystem",
            "entity_type",
            "entity_id",
            "field",
            name=op.f("subsystem_settings_pkey"),
        ),
        schema="spine",
    )
    op.create_table(
        "trigger_states",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_armed", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("last_fired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("watermark", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("trigger_states_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("trigger_states_pkey")),
        schema="spine",
    )
    op.create_table(
        "user_tenants",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), server_default="member", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("role in ('owner', 'approver', 'member')", name=op.f("user_tenants_role_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("user_tenants_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name=op.f("user_tenants_pkey")),
        schema="spine",
    )
    op.create_table(
        "action_events",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("optimization_action_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("from_status", sa.Text(), nullable=True),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("detail", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "optimization_action_id"],
            ["spine.optimization_actions.tenant_id", "spine.optimization_actions.id"],
            name=op.f("action_events_tenant_id_optimization_action_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("action_events_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("action_events_pkey")),
        schema="spine",
    )
    op.create_index(
        op.f("action_events_tenant_id_optimization_action_id_at_idx"),
        "action_events",
        ["tenant_id", "optimization_action_id", "at"],
        unique=False,
        schema="spine",
    )
    op.create_table(
        "action_intents",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("optimization_action_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subsystem", sa.Text(), nullable=False),
        sa.Column("entity_type", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("before_value", pg.JSONB(), nullable=True),
        sa.Column("wanted_value", pg.JSONB(), nullable=True),
        sa.Column("observed_value", pg.JSONB(), nullable=True),
        sa.Column("state", sa.Text(), server_default="recorded", nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind in ('apply', 'revert')", name=op.f("action_intents_kind_check")),
        sa.CheckConstraint(
            "state in ('recorded', 'confirmed', 'refused', 'in_doubt')",
            name=op.f("action_intents_state_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "optimization_action_id"],
            ["spine.optimization_actions.tenant_id", "spine.optimization_actions.id"],
            name=op.f("action_intents_tenant_id_optimization_action_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("action_intents_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "idempotency_key", name=op.f("action_intents_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "optimization_action_id",
            "kind",
            name=op.f("action_intents_tenant_id_optimization_action_id_kind_key"),
        ),
        schema="spine",
    )
    op.create_table(
        "action_snapshots",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("optimization_action_id", sa.Uuid(), nullable=False),
        sa.Column("moment", sa.Text(), nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("config_version_id", sa.Uuid(), nullable=True),
        sa.Column("gate_states", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("entity", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("metrics", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.CheckConstraint("moment in ('before', 'after')", name=op.f("action_snapshots_moment_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "optimization_action_id"],
            ["spine.optimization_actions.tenant_id", "spine.optimization_actions.id"],
            name=op.f("action_snapshots_tenant_id_optimization_action_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("action_snapshots_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("action_snapshots_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "optimization_action_id",
            "moment",
            name=op.f("action_snapshots_tenant_id_optimization_action_id_moment_key"),
        ),
        schema="spine",
    )
    op.create_table(
        "action_tickets",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("optimization_action_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("subsystem", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status in ('open', 'done')", name=op.f("action_tickets_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "optimization_action_id"],
            ["spine.optimization_actions.tenant_id", "spine.optimization_actions.id"],
            name=op.f("action_tickets_tenant_id_optimization_action_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("action_tickets_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("action_tickets_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "idempotency_key", name=op.f("action_tickets_tenant_id_idempotency_key_key")
        ),
        schema="spine",
    )
    op.create_table(
        "budget_entries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("optimization_action_id", sa.Uuid(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("daily_amount", sa.Numeric(), nullable=False),
        sa.Column("month_amount", sa.Numeric(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("extract(day from month) = 1", name=op.f("budget_entries_month_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "optimization_action_id"],
            ["spine.optimization_actions.tenant_id", "spine.optimization_actions.id"],
            name=op.f("budget_entries_tenant_id_optimization_action_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("budget_entries_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("budget_entries_pkey")),
        schema="spine",
    )
    op.create_index(
        op.f("budget_entries_tenant_id_month_idx"),
        "budget_entries",
        ["tenant_id", "month"],
        unique=False,
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("execution_status", sa.Text(), server_default="awaiting_ack", nullable=False),
        schema="spine",
    )
    op.add_column("optimization_actions", sa.Column("outcome", sa.Text(), nullable=True), schema="spine")
    op.add_column(
        "optimization_actions",
        sa.Column("family", sa.Text(), server_default="", nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("entity_type", sa.Text(), server_default="", nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("entity_id", sa.Text(), server_default="", nullable=False),
        schema="spine",
    )
    op.add_column("optimization_actions", sa.Column("cfo_score", sa.Numeric(), nullable=True), schema="spine")
    op.add_column(
        "optimization_actions",
        sa.Column("payload", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("payload_hash", sa.Text(), server_default="", nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("attributes", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("gate_states", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_actions", sa.Column("config_version_id", sa.Uuid(), nullable=True), schema="spine"
    )
    op.add_column("optimization_actions", sa.Column("proposed_by", sa.Uuid(), nullable=True), schema="spine")
    op.add_column(
        "optimization_actions", sa.Column("acknowledged_hash", sa.Text(), nullable=True), schema="spine"
    )
    op.add_column(
        "optimization_actions",
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("snoozed_until", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.add_column("optimization_actions", sa.Column("reason", sa.Text(), nullable=True), schema="spine")
    op.add_column("optimization_actions", sa.Column("lease_token", sa.Uuid(), nullable=True), schema="spine")
    op.add_column(
        "optimization_actions",
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("observation_ends_at", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.add_column(
        "optimization_actions",
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.drop_index(
        op.f("optimization_actions_tenant_id_status_idx"), table_name="optimization_actions", schema="spine"
    )
    op.drop_column("optimization_actions", "status", schema="spine")
    op.add_column(
        "optimization_actions",
        sa.Column("status", sa.Text(), sa.Computed(_STATUS, persisted=True)),
        schema="spine",
    )
    op.create_check_constraint(
        op.f("optimization_actions_execution_status_check"),
        "optimization_actions",
        "execution_status in ('proposed', 'awaiting_ack', 'approved', 'rejected', 'expired', 'scheduled', 'claimed', 'applying', 'applied', 'verify_failed', 'apply_failed', 'observing', 'abort_requested', 'reverting', 'reverted', 'aborted', 'closed')",
        schema="spine",
    )
    op.create_check_constraint(
        op.f("optimization_actions_outcome_check"),
        "optimization_actions",
        "outcome in ('improved', 'hurt', 'neutral', 'inconclusive', 'not_measurable')",
        schema="spine",
    )
    op.create_check_constraint(
        op.f("optimization_actions_approved_payload_check"),
        "optimization_actions",
        "execution_status not in ('approved', 'scheduled', 'claimed', 'applying') or not requires_acknowledgment or acknowledged_hash is not distinct from payload_hash",
        schema="spine",
    )
    op.create_index(
        "optimization_actions_live_key",
        "optimization_actions",
        ["tenant_id", "family", "entity_type", "entity_id"],
        unique=True,
        schema="spine",
        postgresql_where=sa.text(
            "execution_status not in ('proposed', 'rejected', 'expired', 'reverted', 'aborted', 'closed', 'apply_failed')"
        ),
    )
    op.create_index(
        op.f("optimization_actions_tenant_id_execution_status_idx"),
        "optimization_actions",
        ["tenant_id", "execution_status"],
        unique=False,
        schema="spine",
    )
    op.add_column("optimization_cycles", sa.Column("trigger_type", sa.Text(), nullable=True), schema="spine")
    op.add_column(
        "optimization_cycles", sa.Column("trigger_source", sa.Text(), nullable=True), schema="spine"
    )
    op.add_column(
        "optimization_cycles",
        sa.Column("mode", sa.Text(), server_default="enforce", nullable=False),
        schema="spine",
    )
    op.add_column(
        "optimization_cycles", sa.Column("config_version_id", sa.Uuid(), nullable=True), schema="spine"
    )
    op.add_column(
        "optimization_cycles", sa.Column("weights_version", sa.Integer(), nullable=True), schema="spine"
    )
    op.add_column("optimization_cycles", sa.Column("metrics_date", sa.Date(), nullable=True), schema="spine")
    op.add_column("optimization_cycles", sa.Column("trace", pg.JSONB(), nullable=True), schema="spine")
    op.add_column(
        "optimization_cycles",
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        schema="spine",
    )
    op.create_check_constraint(
        op.f("optimization_cycles_trigger_type_check"),
        "optimization_cycles",
        "trigger_type in ('scheduled', 'metric_deviation', 'lifecycle_event', 'manual')",
        schema="spine",
    )
    op.create_check_constraint(
        op.f("optimization_cycles_mode_check"),
        "optimization_cycles",
        "mode in ('enforce', 'shadow')",
        schema="spine",
    )
    for table in _TABLES:
        for statement in rls.protect(table, tenant=rls.PINNED):
            op.execute(statement)
    for table in _APPEND_ONLY:
        for statement in rls.protect(table, append_only=True, tenant=rls.PINNED):
            op.execute(statement)
    for statement in _acknowledgment():
        op.execute(statement)
