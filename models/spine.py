"""The data spine: facts about a tenant's customers, campaigns, money and decisions.

The thirteen frozen tables keep their names and columns; `metric_snapshots_daily`, the thirteenth, is
built by dbt in schema `analytics`. Records of loading and running stand in `ops`.
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
    currency,
    empty_json,
    ingestion,
    money,
    one_of,
    reference,
    row_id,
    table,
    tenant_id,
    updated_at,
)

# tenants.id is the tenant_id of every other table.
tenants = table(
    "spine",
    "tenants",
    sa.Column("id", Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("slug", sa.Text, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    one_of("status", words.TENANT_STATUSES, default="active", nullable=False),
    one_of("billing_plan", words.BILLING_PLANS, default="trial", nullable=False),
    currency("default_currency"),
    empty_json("config"),
    sa.Column("revenue_os_enabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("cfo_expansion_enabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revenue_os_activated_at", Timestamp),
    one_of("metrics_mode", words.METRICS_MODES, default="real", nullable=False),
    created_at(),
    updated_at(),
    check("slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'", "slug"),
)

# Append-only. A version is in force from valid_from until the next version's valid_from.
config_versions = table(
    "spine",
    "config_versions",
    tenant_id(),
    sa.Column("config_version_id", Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
    sa.Column("valid_from", Timestamp, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("confirmed_by", sa.Text),
    sa.Column("payload", Json, nullable=False),
    created_at(),
    sa.UniqueConstraint("tenant_id", "valid_from"),
    check("jsonb_typeof(payload) = 'object'", "payload"),
    check(
        "coalesce((payload->>'payback_target_months')::numeric > 0, true)"
        " and coalesce((payload->>'payback_tolerance_months')::numeric >= 0, true)"
        " and coalesce((payload->>'margin_floor_pct')::numeric between 0 and 100, true)"
        " and coalesce((payload->>'runway_threshold_months')::numeric >= 0, true)"
        " and coalesce((payload->>'experiment_exposure_pct')::numeric between 0 and 100, true)"
        " and coalesce((payload->>'follow_up_sla_hours')::numeric between 1 and 168, true)",
        "payload_ranges",
    ),
)

accounts = table(
    "spine",
    "accounts",
    tenant_id(),
    row_id(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("external_crm_id", sa.Text),
    sa.Column("industry", sa.Text),
    one_of("size_bucket", words.SIZE_BUCKETS),
    one_of("segment", words.SEGMENTS),
    one_of("lifecycle_stage", words.ACCOUNT_STAGES, default="prospect", nullable=False),
    money("arr", nullable=False, default="0"),
    money("mrr", nullable=False, default="0"),
    empty_json("metadata"),
    ingestion(),
    created_at(),
    updated_at(),
)

# A merged contact keeps its row and names the contact that survived, so its history is not lost.
spine_contacts = table(
    "spine",
    "spine_contacts",
    tenant_id(),
    row_id(),
    reference("account_id", "spine.accounts"),
    sa.Column("email", sa.Text),
    sa.Column("phone", sa.Text),
    sa.Column("first_name", sa.Text),
    sa.Column("last_name", sa.Text),
    sa.Column("role_title", sa.Text),
    one_of("persona_tag", words.PERSONAS),
    one_of("lifecycle_stage", words.CONTACT_STAGES, default="lead", nullable=False),
    sa.Column("external_crm_id", sa.Text),
    empty_json("metadata"),
    sa.Column("merged_into_id", Uuid),
    sa.Column("merged_at", Timestamp),
    ingestion(),
    created_at(),
    updated_at(),
    sa.ForeignKeyConstraint(
        ["tenant_id", "merged_into_id"],
        ["spine.spine_contacts.tenant_id", "spine.spine_contacts.id"],
        ondelete="SET NULL (merged_into_id)",
        # A file lists contacts in any order, so the survivor may follow the one merged into it.
        deferrable=True,
        initially="DEFERRED",
    ),
    check("merged_into_id is null or (merged_into_id <> id and merged_at is not null)", "merge"),
)

spine_campaigns = table(
    "spine",
    "spine_campaigns",
    tenant_id(),
    row_id(),
    sa.Column("name", sa.Text, nullable=False),
    one_of("objective", words.CAMPAIGN_OBJECTIVES),
    one_of("status", words.CAMPAIGN_STATUSES, default="draft", nullable=False),
    sa.Column("target_segment", Json),
    currency("budget_currency"),
    money("budget_total", nullable=False, default="0"),
    sa.Column("start_date", sa.Date),
    sa.Column("end_date", sa.Date),
    empty_json("metadata"),
    ingestion(),
    created_at(),
    updated_at(),
    check("budget_total >= 0", "budget_total"),
)

spine_campaign_channels = table(
    "spine",
    "spine_campaign_channels",
    tenant_id(),
    row_id(),
    reference("campaign_id", "spine.spine_campaigns", required=True, cascade=True),
    one_of("channel", words.CHANNELS, nullable=False),
    one_of("status", words.CHANNEL_STATUSES, default="draft", nullable=False),
    money("daily_budget", nullable=False, default="0"),
    empty_json("bidding_strategy"),
    empty_json("config"),
    sa.Column("is_paid", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("external_campaign_id", sa.Text),
    ingestion(),
    created_at(),
    updated_at(),
    check("daily_budget >= 0", "daily_budget"),
)

# The current state of a deal. What it was on an earlier day stands in opportunity_stage_history.
opportunities = table(
    "spine",
    "opportunities",
    tenant_id(),
    row_id(),
    reference("account_id", "spine.accounts"),
    reference("contact_id", "spine.spine_contacts"),
    sa.Column("name", sa.Text, nullable=False),
    one_of("stage", words.OPPORTUNITY_STAGES, default="lead", nullable=False),
    money("amount", default="0"),
    currency(),
    sa.Column("expected_close_date", sa.Date),
    sa.Column("owner_user_id", Uuid),
    one_of("source", words.OPPORTUNITY_SOURCES),
    sa.Column("campaign_id", Uuid),
    sa.Column("lost_reason", sa.Text),
    sa.Column("win_probability", sa.Numeric, nullable=False, server_default="0"),
    sa.Column("external_crm_id", sa.Text),
    empty_json("metadata"),
    sa.Column("closed_at", Timestamp),
    ingestion(),
    created_at(),
    updated_at(),
    sa.ForeignKeyConstraint(
        ["tenant_id", "campaign_id"],
        ["spine.spine_campaigns.tenant_id", "spine.spine_campaigns.id"],
        ondelete="SET NULL (campaign_id)",
    ),
    check("amount >= 0", "amount"),
    check("win_probability between 0 and 1", "win_probability"),
    sa.Index(None, "tenant_id", "stage"),
)

# One row per change: the deal's whole state from changed_at until its next row.
opportunity_stage_history = table(
    "spine",
    "opportunity_stage_history",
    tenant_id(),
    row_id(),
    reference("opportunity_id", "spine.opportunities", required=True, cascade=True),
    sa.Column("changed_at", Timestamp, nullable=False),
    one_of("stage", words.OPPORTUNITY_STAGES, nullable=False),
    money("amount"),
    currency(),
    sa.Column("win_probability", sa.Numeric, nullable=False, server_default="0"),
    sa.Column("expected_close_date", sa.Date),
    ingestion(),
    created_at(),
    sa.UniqueConstraint("tenant_id", "opportunity_id", "changed_at"),
    check("amount >= 0", "amount"),
    check("win_probability between 0 and 1", "win_probability"),
)

channel_spend_daily = table(
    "spine",
    "channel_spend_daily",
    tenant_id(),
    row_id(),
    reference("channel_id", "spine.spine_campaign_channels", required=True, cascade=True),
    sa.Column("date", sa.Date, nullable=False),
    currency(),
    money("spend", nullable=False, default="0"),
    sa.Column("impressions", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("clicks", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("leads", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("opportunities", sa.BigInteger, nullable=False, server_default="0"),
    money("revenue_booked", nullable=False, default="0"),
    sa.Column("attribution_window_days", sa.Integer, nullable=False, server_default="7"),
    sa.Column("attribution_model", sa.Text, nullable=False, server_default="simple_last_touch"),
    ingestion(),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("tenant_id", "channel_id", "date"),
    check(
        "spend >= 0 and impressions >= 0 and clicks >= 0 and leads >= 0 and opportunities >= 0"
        " and revenue_booked >= 0",
        "magnitudes",
    ),
    sa.Index(None, "tenant_id", "date"),
)

# How much of a deal each channel earned. Weights of one deal add up to at most 1; the rest is unattributed.
opportunity_channel_attribution = table(
    "spine",
    "opportunity_channel_attribution",
    tenant_id(),
    row_id(),
    reference("opportunity_id", "spine.opportunities", required=True, cascade=True),
    reference("channel_id", "spine.spine_campaign_channels", required=True, cascade=True),
    one_of("role", words.ATTRIBUTION_ROLES, default="primary", nullable=False),
    sa.Column("weight", sa.Numeric(5, 4), nullable=False, server_default="1"),
    ingestion(),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("tenant_id", "opportunity_id", "channel_id"),
    check("weight > 0 and weight <= 1", "weight"),
)

events_raw = table(
    "spine",
    "events_raw",
    tenant_id(),
    row_id(),
    sa.Column("occurred_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("source_system", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    reference("account_id", "spine.accounts"),
    reference("contact_id", "spine.spine_contacts"),
    reference("opportunity_id", "spine.opportunities"),
    reference("campaign_id", "spine.spine_campaigns"),
    reference("campaign_channel_id", "spine.spine_campaign_channels"),
    empty_json("properties"),
    sa.Column("idempotency_key", sa.Text, nullable=False),
    sa.Column("ingested_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("batch_id", Uuid),
    created_at(),
    # The key before the source: neighbours in the index then differ in the first thing compared.
    sa.UniqueConstraint("tenant_id", "idempotency_key", "source_system"),
    # Events arrive in the order of time, so the ranges of pages say enough, and cost an insert nothing.
    sa.Index(None, "occurred_at", postgresql_using="brin", postgresql_with={"pages_per_range": 32}),
)

# Amounts are magnitudes; the type says which way the money goes.
revenue_events = table(
    "spine",
    "revenue_events",
    tenant_id(),
    row_id(),
    reference("account_id", "spine.accounts"),
    reference("opportunity_id", "spine.opportunities"),
    one_of("type", words.REVENUE_TYPES, nullable=False),
    money("amount", nullable=False),
    currency(),
    sa.Column("effective_date", sa.Date, nullable=False),
    one_of("attribution_model", words.ATTRIBUTION_MODELS, default="last_touch"),
    reference("attributed_campaign_id", "spine.spine_campaigns"),
    sa.Column("attributed_channel", sa.Text),
    sa.Column("contract_months", sa.Numeric),
    sa.Column("refunds_booking", sa.Boolean, nullable=False, server_default=sa.false()),
    one_of("cost_class", words.COST_CLASSES),
    one_of("cost_function", words.COST_FUNCTIONS),
    empty_json("metadata"),
    ingestion(),
    created_at(),
    check("amount >= 0", "amount"),
    check("contract_months > 0", "contract_months"),
    check("not refunds_booking or type = 'refund'", "refunds_booking"),
    sa.Index(None, "tenant_id", "effective_date"),
)

spine_crm_activities = table(
    "spine",
    "spine_crm_activities",
    tenant_id(),
    row_id(),
    reference("account_id", "spine.accounts"),
    reference("contact_id", "spine.spine_contacts"),
    reference("opportunity_id", "spine.opportunities"),
    sa.Column("activity_type", sa.Text, nullable=False),
    one_of("direction", words.ACTIVITY_DIRECTIONS),
    sa.Column("outcome", sa.Text),
    sa.Column("performed_by_user_id", Uuid),
    sa.Column("performed_by_agent_id", sa.Text),
    sa.Column("occurred_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    empty_json("metadata"),
    ingestion(),
    created_at(),
    sa.Index(None, "tenant_id", "activity_type", "occurred_at"),
)

# Signed changes of monthly recurring revenue; their running sum is MRR as of any day.
subscription_ledger = table(
    "spine",
    "subscription_ledger",
    tenant_id(),
    row_id(),
    reference("account_id", "spine.accounts", required=True, cascade=True),
    sa.Column("effective_date", sa.Date, nullable=False),
    one_of("reason", words.SUBSCRIPTION_REASONS, nullable=False),
    money("mrr_delta", nullable=False),
    currency(),
    ingestion(),
    created_at(),
    check(
        "case when reason in ('contraction', 'churn') then mrr_delta <= 0 else mrr_delta >= 0 end",
        "sign",
    ),
    sa.Index(None, "tenant_id", "effective_date"),
)

# One row a month, as finance closes it: balances at month end, burn and headcount of the month.
finance_inputs_monthly = table(
    "spine",
    "finance_inputs_monthly",
    tenant_id(),
    row_id(),
    sa.Column("month", sa.Date, nullable=False),
    currency(),
    money("cash_balance"),
    money("net_burn"),
    sa.Column("headcount_fte", sa.Numeric),
    sa.Column("variable_cost_share", sa.Numeric),
    ingestion(),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("tenant_id", "month"),
    check("extract(day from month) = 1", "month"),
    check("headcount_fte >= 0", "headcount_fte"),
    check("variable_cost_share between 0 and 1", "variable_cost_share"),
)

# One unit of base_currency is worth `rate` units of quote_currency on rate_date.
fx_rates = table(
    "spine",
    "fx_rates",
    tenant_id(),
    row_id(),
    sa.Column("rate_date", sa.Date, nullable=False),
    currency("base_currency", default=None),
    currency("quote_currency", default=None),
    sa.Column("rate", sa.Numeric, nullable=False),
    ingestion(),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("tenant_id", "base_currency", "quote_currency", "rate_date"),
    check("rate > 0", "rate"),
    check("base_currency <> quote_currency", "pair"),
)
