"""The frozen tables of decisions: kernel cycles, the actions they propose, and what came of them.

What carrying an action out needs beside them (audit, intents, budgets, tickets) stands in `actions`.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

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

_DEAD = ", ".join(f"'{status}'" for status in words.DEAD_EXECUTION_STATUSES)
_STATUS = """case
    when execution_status = 'awaiting_ack' then 'pending_acknowledgment'
    when execution_status in ('proposed', 'approved') then 'pending'
    when execution_status = 'scheduled' then 'scheduled'
    when execution_status = 'closed' then 'completed'
    when execution_status in ('rejected', 'expired', 'reverted', 'aborted') then 'aborted'
    when execution_status in ('verify_failed', 'apply_failed') then 'failed'
    else 'executing' end"""

optimization_cycles = table(
    "spine",
    "optimization_cycles",
    tenant_id(),
    row_id(),
    sa.Column("invoked_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    one_of("binding_constraint", words.CONSTRAINTS),
    sa.Column("priority_metric_id", sa.Text),
    sa.Column("input_snapshot_ref", Json),
    sa.Column("raw_kernel_output", Json),
    sa.Column("duration_ms", sa.Integer),
    one_of("status", words.CYCLE_STATUSES, default="completed", nullable=False),
    sa.Column("error_message", sa.Text),
    sa.Column("cfo_gates_active", pg.ARRAY(sa.Text)),
    one_of("trigger_type", words.TRIGGER_TYPES),
    sa.Column("trigger_source", sa.Text),
    # A shadow cycle decides and records; nothing of it is ever carried out.
    one_of("mode", words.CYCLE_MODES, default="enforce", nullable=False),
    # None when the tenant has no version of its own and the defaults decided.
    sa.Column("config_version_id", Uuid),
    sa.Column("weights_version", sa.Integer),
    sa.Column("metrics_date", sa.Date),
    # Every candidate, its score terms and why it was dropped.
    sa.Column("trace", Json),
    sa.Column("finished_at", Timestamp),
    created_at(),
    sa.Index(None, "tenant_id", "invoked_at"),
)

optimization_actions = table(
    "spine",
    "optimization_actions",
    tenant_id(),
    row_id(),
    reference("optimization_cycle_id", "spine.optimization_cycles", required=True, cascade=True),
    sa.Column("action_id", sa.Text, nullable=False),
    sa.Column("priority_rank", sa.Integer),
    one_of("owner_subsystem", words.SUBSYSTEMS),
    one_of("lens_emphasis", words.LENSES),
    one_of("type", words.ACTION_TYPES),
    sa.Column("target_metric", sa.Text),
    one_of("target_direction", words.TARGET_DIRECTIONS),
    sa.Column("hypothesis", sa.Text),
    empty_json("config"),
    empty_json("guardrails"),
    # The frozen word for the execution status; the database derives it, so the two cannot disagree.
    sa.Column("status", sa.Text, sa.Computed(_STATUS, persisted=True)),
    sa.Column("expected_observation_window_days", sa.Integer),
    sa.Column("notes_for_humans", sa.Text),
    sa.Column("requires_acknowledgment", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("acknowledged_at", Timestamp),
    sa.Column("acknowledged_by", Uuid),
    one_of("execution_status", words.EXECUTION_STATUSES, default="awaiting_ack", nullable=False),
    # Of the effect on the target metric; None until the action is closed.
    one_of("outcome", words.OUTCOMES),
    # One live action per family and entity: what the kernel would only propose again.
    sa.Column("family", sa.Text, nullable=False, server_default=""),
    sa.Column("entity_type", sa.Text, nullable=False, server_default=""),
    sa.Column("entity_id", sa.Text, nullable=False, server_default=""),
    sa.Column("cfo_score", sa.Numeric),
    # The action as the contract has it. What is approved and what is applied is this, under its hash.
    empty_json("payload"),
    sa.Column("payload_hash", sa.Text, nullable=False, server_default=""),
    empty_json("attributes"),
    empty_json("gate_states"),
    sa.Column("config_version_id", Uuid),
    sa.Column("proposed_by", Uuid),  # a person who edited the payload; None for the kernel
    sa.Column("acknowledged_hash", sa.Text),
    sa.Column("expires_at", Timestamp),
    sa.Column("snoozed_until", Timestamp),
    sa.Column("reason", sa.Text),  # why it was rejected, aborted, refused or failed
    sa.Column("lease_token", Uuid),
    sa.Column("lease_until", Timestamp),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", Timestamp),
    sa.Column("applied_at", Timestamp),
    sa.Column("observation_ends_at", Timestamp),
    sa.Column("closed_at", Timestamp),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("tenant_id", "optimization_cycle_id", "action_id"),
    sa.Index(None, "tenant_id", "execution_status"),
    sa.Index(
        "optimization_actions_live_key",
        "tenant_id",
        "family",
        "entity_type",
        "entity_id",
        unique=True,
        postgresql_where=sa.text(f"execution_status not in ({_DEAD})"),
    ),
    check(
        "execution_status not in ('approved', 'scheduled', 'claimed', 'applying') or not requires_acknowledgment or acknowledged_hash is not distinct from payload_hash",
        "approved_payload",
    ),
)

optimization_action_results = table(
    "spine",
    "optimization_action_results",
    tenant_id(),
    row_id(),
    reference("optimization_action_id", "spine.optimization_actions", required=True, cascade=True),
    sa.Column("observation_start_date", sa.Date),
    sa.Column("observation_end_date", sa.Date),
    sa.Column("metric_id", sa.Text, nullable=False),
    sa.Column("baseline_value", sa.Numeric),
    sa.Column("observed_value", sa.Numeric),
    sa.Column("delta", sa.Numeric),
    one_of("delta_direction", words.DELTA_DIRECTIONS),
    sa.Column("confidence", sa.Numeric),
    empty_json("economic_deltas"),
    empty_json("context_snapshot"),
    empty_json("metadata"),
    created_at(),
    check("confidence between 0 and 1", "confidence"),
    sa.Index(None, "tenant_id", "optimization_action_id"),
)
