"""The frozen tables of decisions: kernel cycles, the actions they propose, and what came of them."""

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
    one_of("status", words.ACTION_STATUSES, default="pending", nullable=False),
    sa.Column("expected_observation_window_days", sa.Integer),
    sa.Column("notes_for_humans", sa.Text),
    sa.Column("requires_acknowledgment", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("acknowledged_at", Timestamp),
    sa.Column("acknowledged_by", Uuid),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("tenant_id", "optimization_cycle_id", "action_id"),
    sa.Index(None, "tenant_id", "status"),
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
