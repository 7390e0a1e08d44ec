"""Row-level security, forced, and each role's grants on every table of spine and ops."""

from __future__ import annotations

from alembic import op

from models import rls

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = (
    "spine.accounts",
    "spine.spine_contacts",
    "spine.spine_campaigns",
    "spine.spine_campaign_channels",
    "spine.opportunities",
    "spine.opportunity_stage_history",
    "spine.channel_spend_daily",
    "spine.opportunity_channel_attribution",
    "spine.events_raw",
    "spine.revenue_events",
    "spine.spine_crm_activities",
    "spine.subscription_ledger",
    "spine.finance_inputs_monthly",
    "spine.fx_rates",
    "spine.optimization_cycles",
    "spine.optimization_actions",
    "spine.optimization_action_results",
    "ops.load_batches",
    "ops.rejected_rows",
    "ops.source_coverage",
    "ops.source_watermarks",
    "ops.tenant_runs",
)
_APPEND_ONLY = ("spine.config_versions", "ops.row_history")


def upgrade() -> None:
    statements = rls.protect("spine.tenants", key="id", tenant=rls.PINNED)
    for table in _TABLES:
        statements += rls.protect(table, tenant=rls.PINNED)
    for table in _APPEND_ONLY:
        statements += rls.protect(table, append_only=True, tenant=rls.PINNED)
    for statement in statements:
        op.execute(statement)
