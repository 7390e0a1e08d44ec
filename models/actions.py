"""What carrying out actions needs: who may acknowledge, audit, intents, snapshots, budgets, settings, triggers.

The actions themselves stand in `decisions`.
"""

from __future__ import annotations

import sqlalchemy as sa

from models import vocabulary as words
from models.base import (
    Json,
    Timestamp,
    Uuid,
    check,
    created_at,
    empty_json,
    one_of,
    reference,
    row_id,
    table,
    tenant_id,
    updated_at,
)

# Who belongs to a tenant. Only an approver or owner may acknowledge, and never what they proposed themselves.
user_tenants = table(
    "spine",
    "user_tenants",
    tenant_id(),
    sa.Column("user_id", Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    one_of("role", words.TENANT_ROLES, default="member", nullable=False),
    created_at(),
)

# The tenant that a PostgreSQL login reads, and the person it answers as; without a person it only reads. A login speaks
# for one tenant.
logins = table(
    "spine",
    "logins",
    tenant_id(),
    sa.Column("login", sa.Text, primary_key=True),
    sa.Column("user_id", Uuid),
    created_at(),
    # Whoever leaves the tenant takes their login along.
    sa.ForeignKeyConstraint(
        ["tenant_id", "user_id"],
        ["spine.user_tenants.tenant_id", "spine.user_tenants.user_id"],
        ondelete="CASCADE",
    ),
    sa.Index("logins_login_key", "login", unique=True),
)

# Every step of every action: who, when, from what to what. Append-only.
action_events = table(
    "spine",
    "action_events",
    tenant_id(),
    row_id(),
    reference("optimization_action_id", "spine.optimization_actions", required=True),
    sa.Column("at", Timestamp, nullable=False),
    # The order of steps that share an instant.
    sa.Column("number", sa.BigInteger, sa.Identity(), nullable=False),
    sa.Column("from_status", sa.Text),
    sa.Column("to_status", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
    empty_json("detail"),
    sa.Index(None, "tenant_id", "optimization_action_id", "at"),
)

# Written and committed before the outside world is touched. The key does not change with the attempt, so a second
# worker, or the same one after a crash, finds the intent and reads back instead of sending again.
action_intents = table(
    "spine",
    "action_intents",
    tenant_id(),
    sa.Column("idempotency_key", sa.Text, primary_key=True),
    reference("optimization_action_id", "spine.optimization_actions", required=True, cascade=True),
    one_of("kind", words.INTENT_KINDS, nullable=False),
    sa.Column("subsystem", sa.Text, nullable=False),
    sa.Column("entity_type", sa.Text, nullable=False),
    sa.Column("entity_id", sa.Text, nullable=False),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("before_value", Json),
    sa.Column("wanted_value", Json),
    sa.Column("observed_value", Json),
    one_of("state", words.INTENT_STATES, default="recorded", nullable=False),
    sa.Column("recorded_at", Timestamp, nullable=False),
    sa.Column("settled_at", Timestamp),
    sa.UniqueConstraint("tenant_id", "optimization_action_id", "kind"),
)

# The state of the world around an action: once before it is applied, once when its window closes.
action_snapshots = table(
    "spine",
    "action_snapshots",
    tenant_id(),
    row_id(),
    reference("optimization_action_id", "spine.optimization_actions", required=True, cascade=True),
    one_of("moment", words.SNAPSHOT_MOMENTS, nullable=False),
    sa.Column("captured_at", Timestamp, nullable=False),
    sa.Column("config_version_id", Uuid),
    empty_json("gate_states"),
    # The whole configuration of the entity that is changed: what a revert restores.
    empty_json("entity"),
    # metric id -> {current, status, trend: [{date, value}]}
    empty_json("metrics"),
    sa.UniqueConstraint("tenant_id", "optimization_action_id", "moment"),
)

# Spend that actions add to a budget month; a release is a negative amount. Append-only.
budget_entries = table(
    "spine",
    "budget_entries",
    tenant_id(),
    row_id(),
    reference("optimization_action_id", "spine.optimization_actions", required=True),
    sa.Column("month", sa.Date, nullable=False),
    sa.Column("daily_amount", sa.Numeric, nullable=False),
    sa.Column("month_amount", sa.Numeric, nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    check("extract(day from month) = 1", "month"),
    sa.Index(None, "tenant_id", "month"),
)

# The configuration of subsystems that have no frozen table of their own (crm, pricing, routing, content).
subsystem_settings = table(
    "spine",
    "subsystem_settings",
    tenant_id(),
    sa.Column("subsystem", sa.Text, primary_key=True),
    sa.Column("entity_type", sa.Text, primary_key=True, server_default="tenant"),
    sa.Column("entity_id", sa.Text, primary_key=True, server_default=""),
    sa.Column("field", sa.Text, primary_key=True),
    sa.Column("value", Json, nullable=False),
    # The idempotency key of the change that last set it; empty when a person did.
    sa.Column("changed_by", sa.Text, nullable=False, server_default=""),
    updated_at(),
)

# Work for people: what the ticket executors (data, lifecycle) and alerts hand over.
action_tickets = table(
    "spine",
    "action_tickets",
    tenant_id(),
    row_id(),
    reference("optimization_action_id", "spine.optimization_actions", required=True, cascade=True),
    sa.Column("idempotency_key", sa.Text, nullable=False),
    sa.Column("subsystem", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    one_of("status", words.TICKET_STATUSES, default="open", nullable=False),
    # Who closed it, when, and what was done about it.
    sa.Column("resolved_by", sa.Text),
    sa.Column("resolved_at", Timestamp),
    sa.Column("resolution", sa.Text),
    created_at(),
    sa.UniqueConstraint("tenant_id", "idempotency_key"),
)

# What asks for a cycle. The key makes asking twice the same as asking once.
cycle_triggers = table(
    "spine",
    "cycle_triggers",
    tenant_id(),
    row_id(),
    sa.Column("dedupe_key", sa.Text, nullable=False),
    one_of("trigger_type", words.TRIGGER_TYPES, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    empty_json("detail"),
    sa.Column("triggered_at", Timestamp, nullable=False),
    sa.Column("consumed_at", Timestamp),
    sa.Column("optimization_cycle_id", Uuid),
    sa.UniqueConstraint("tenant_id", "dedupe_key"),
)

# Whether a deviation trigger may fire again, and how far a lifecycle trigger has read.
trigger_states = table(
    "spine",
    "trigger_states",
    tenant_id(),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("is_armed", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("last_fired_at", Timestamp),
    sa.Column("watermark", Timestamp),
)

# How scores are weighed and which effects are assumed before there are results. Append-only; a version applies to
# every tenant that has none of its own since, and each cycle stores the version it used.
decision_weights = table(
    "spine",
    "decision_weights",
    tenant_id(),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("valid_from", Timestamp, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("payload", Json, nullable=False),
    created_at(),
)

kernel_cycle_slo = table(
    "ops",
    "kernel_cycle_slo",
    tenant_id(),
    sa.Column("cycle_date", sa.Date, primary_key=True),
    sa.Column("cycles_attempted", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cycles_succeeded", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cycles_failed", sa.Integer, nullable=False, server_default="0"),
    sa.Column("economics_actions_count", sa.Integer, nullable=False, server_default="0"),
    created_at(),
    updated_at(),
)

# What people stopped, switched or set for a tenant, and why. Append-only.
incidents = table(
    "ops",
    "incidents",
    tenant_id(),
    row_id(),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    empty_json("detail"),
)
