"""The frozen lists of words: stages, types, statuses. Checks, landing contracts and tests read them here."""

from __future__ import annotations

TENANT_STATUSES = ("active", "suspended", "test")
BILLING_PLANS = ("trial", "core", "scale", "enterprise")
METRICS_MODES = ("real", "demo")

SIZE_BUCKETS = ("1-10", "11-50", "51-200", "201-500", "501-1000", "1001-5000", "5000+")
SEGMENTS = ("smb", "mid", "enterprise", "strategic")
ACCOUNT_STAGES = ("prospect", "customer", "churned", "reactivated")

PERSONAS = ("decision_maker", "influencer", "champion", "blocker", "end_user", "unknown")
CONTACT_STAGES = ("lead", "mql", "sql", "opportunity", "customer", "churned")

OPEN_STAGES = ("lead", "qualified", "discovery", "proposal", "negotiation", "verbal")
CLOSED_STAGES = ("closed_won", "closed_lost")
OPPORTUNITY_STAGES = OPEN_STAGES + CLOSED_STAGES
OPPORTUNITY_SOURCES = ("inbound", "outbound", "partner", "referral", "event", "unknown")

CAMPAIGN_OBJECTIVES = ("pipeline", "bookings", "expansion", "awareness", "retention", "reactivation")
CAMPAIGN_STATUSES = ("draft", "running", "paused", "completed", "archived")
CHANNELS = (
    "email", "sms", "paid_search", "paid_social", "linkedin", "voice", "direct_mail", "events", "content",
    "organic_social",
)  # fmt: skip
CHANNEL_STATUSES = ("draft", "active", "paused", "completed")
ATTRIBUTION_ROLES = ("primary", "assist")
ATTRIBUTION_MODELS = ("first_touch", "last_touch", "multi_touch", "linear", "time_decay")

REVENUE_TYPES = (
    "new_booking", "expansion", "churn", "refund", "discount", "cogs", "marketing_spend", "sales_comp",
    "other_cost", "other_revenue",
)  # fmt: skip
COST_TYPES = ("cogs", "marketing_spend", "sales_comp", "other_cost")
COST_CLASSES = ("variable", "fixed")
COST_FUNCTIONS = ("cogs", "sales_marketing", "research_development", "general_administrative")
SUBSCRIPTION_REASONS = ("new", "expansion", "contraction", "churn", "reactivation")

ACTIVITY_DIRECTIONS = ("inbound", "outbound")

CONSTRAINTS = ("demand", "conversion", "economics", "data_quality")
CYCLE_STATUSES = ("running", "completed", "failed")
ACTION_STATUSES = (
    "pending", "pending_acknowledgment", "scheduled", "executing", "completed", "aborted", "failed",
)  # fmt: skip
CYCLE_MODES = ("enforce", "shadow")
TRIGGER_TYPES = ("scheduled", "metric_deviation", "lifecycle_event", "manual")
CFO_GATES = ("payback_exceeded", "margin_below_floor", "cash_constrained")
GATE_STATES = ("clear", "triggered", "unknown")
EXECUTION_STATUSES = (
    "proposed", "awaiting_ack", "approved", "rejected", "expired", "scheduled", "claimed", "applying", "applied",
    "verify_failed", "apply_failed", "observing", "abort_requested", "reverting", "reverted", "aborted", "closed",
)  # fmt: skip
# An action that is none of these is alive: it keeps its family away from its entity. Shadow actions stay proposed.
DEAD_EXECUTION_STATUSES = ("proposed", "rejected", "expired", "reverted", "aborted", "closed", "apply_failed")
OUTCOMES = ("improved", "hurt", "neutral", "inconclusive", "not_measurable")
TENANT_ROLES = ("owner", "approver", "member")
INTENT_KINDS = ("apply", "revert")
INTENT_STATES = ("recorded", "confirmed", "refused", "in_doubt")
SNAPSHOT_MOMENTS = ("before", "after")
TICKET_STATUSES = ("open", "done")
ACTION_TYPES = (
    "data_correction", "experiment", "config_change", "alert", "forecast_update", "pause", "scale", "revert",
)  # fmt: skip
SUBSYSTEMS = ("campaigns", "crm", "routing", "pricing", "lifecycle", "data", "content")
LENSES = ("cmo", "cro", "cfo", "blended")
TARGET_DIRECTIONS = ("increase", "decrease", "stabilize")
DELTA_DIRECTIONS = ("increase", "decrease", "neutral")

VALUE_STATUSES = ("ok", "undefined", "insufficient_sample", "infinite", "not_applicable", "stale_source")
BATCH_STATUSES = ("running", "loaded", "failed")
RUN_STATUSES = ("running", "succeeded", "failed", "skipped")
