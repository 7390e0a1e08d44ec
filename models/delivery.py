"""Delivery: what is sent to whom, under which approval, how often it was attempted, and what came of it.

A run is one execution of a campaign on a channel; a job is the unit a worker leases; an outbox item is one intended
message to one recipient; an attempt is one call of a provider. Items belong to the lineage of a run, its root run, so
a retry adds attempts and never a second item.

Indexes beside the primary keys end with the tenant instead of beginning with it: on a table that was empty when a plan
was made, one that begins like the primary key looks as good as that.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from models.base import (
    Json,
    Timestamp,
    Uuid,
    check,
    created_at,
    empty_json,
    money,
    one_of,
    reference,
    row_id,
    table,
    tenant_id,
    updated_at,
)

CHANNELS = ("email", "sms", "voice")
PROVIDERS = ("smtp", "resend", "twilio", "vapi", "webhook", "file", "simulator", "memory")
# What an accepted item is called. 'posted' is a frozen word for channels that cannot be launched yet.
ACCEPTED = {"email": "sent", "sms": "sent", "voice": "called"}
ACCEPTED_STATUSES = ("sent", "called", "posted")
ITEM_STATUSES = (
    "queued", "dispatching", *ACCEPTED_STATUSES, "failed", "skipped", "unknown", "cancelled", "expired", "abandoned",
)  # fmt: skip
OPEN_ITEM_STATUSES = ("queued", "dispatching")
RUN_STATUSES = (
    "queued", "running", "paused", "needs_reconciliation", "completed", "partial", "failed", "cancelled",
)  # fmt: skip
FINAL_RUN_STATUSES = ("completed", "partial", "failed", "cancelled")
JOB_STATUSES = ("queued", "locked", "completed", "dead", "cancelled")
JOB_TYPES = {"email": "email_send_batch", "sms": "sms_send_batch", "voice": "voice_call_batch"}
ATTEMPT_STATES = ("dispatching", "accepted", "rejected", "unknown")
# None of these has an outcome yet: an item has at most one such attempt, and that is what prevents a second call.
OPEN_ATTEMPT_STATES = ("dispatching", "unknown")
SUPPRESSIONS = ("opt_out", "bounce", "complaint", "do_not_call", "manual")
CONSENT_BASES = ("consent", "contract", "legitimate_interest")
DELIVERY_STATUSES = (
    "none", "ringing", "answered", "voicemail", "no_answer", "delivered", "opened", "clicked", "bounced", "complained",
)  # fmt: skip
COUNTS = ("intended", "accepted", "rejected", "suppressed", "unknown", "cancelled", "expired", "abandoned")
RESOLUTIONS = ("accepted", "rejected", "abandoned")

workspaces = table(
    "delivery",
    "workspaces",
    tenant_id(),
    row_id(),
    sa.Column("name", sa.Text, nullable=False),
    created_at(),
    sa.UniqueConstraint("tenant_id", "name"),
)


def _workspace(*, cascade: bool = False) -> list[sa.SchemaItem]:
    return reference("workspace_id", "delivery.workspaces", required=True, cascade=cascade)


# Rules of a channel. Caps count recipients, in UTC hours and days; the quiet hours are those of time_zone.
channel_policies = table(
    "delivery",
    "channel_policies",
    tenant_id(),
    sa.Column("workspace_id", Uuid, primary_key=True),
    sa.ForeignKeyConstraint(
        ["tenant_id", "workspace_id"],
        ["delivery.workspaces.tenant_id", "delivery.workspaces.id"],
        ondelete="CASCADE",
    ),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("hourly_cap", sa.BigInteger),
    sa.Column("daily_cap", sa.BigInteger),
    sa.Column("person_cap", sa.Integer),
    sa.Column("person_cap_days", sa.Integer, nullable=False, server_default="7"),
    sa.Column("needs_consent", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("needs_unsubscribe", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("quiet_from", sa.Time),
    sa.Column("quiet_until", sa.Time),
    sa.Column("time_zone", sa.Text, nullable=False, server_default="UTC"),
    updated_at(),
    check("(quiet_from is null) = (quiet_until is null)", "quiet"),
    check(f"channel in {CHANNELS}", "channel"),
)

# An account with a provider. The secret itself stands in the environment variable that `secret_env` names.
provider_accounts = table(
    "delivery",
    "provider_accounts",
    tenant_id(),
    row_id(),
    _workspace(),
    sa.Column("name", sa.Text, nullable=False),
    one_of("channel", CHANNELS, nullable=False),
    one_of("provider", PROVIDERS, nullable=False),
    # The address or number that recipients see; for voice the number that calls.
    sa.Column("sender", sa.Text),
    empty_json("config"),
    sa.Column("secret_env", sa.Text),
    # What the provider charges for one message or call; null where nobody has said.
    money("unit_price"),
    sa.Column("price_currency", sa.Text),
    sa.Column("is_connected", sa.Boolean, nullable=False, server_default=sa.false()),
    # The kill switch.
    sa.Column("stopped_at", Timestamp),
    sa.Column("stopped_by", sa.Text),
    sa.Column("stop_reason", sa.Text),
    created_at(),
    updated_at(),
    sa.UniqueConstraint("tenant_id", "name"),
    check("unit_price >= 0", "unit_price"),
    check(
        "(unit_price is null) = (price_currency is null) and price_currency ~ '^[A-Z]{3}$'", "price_currency"
    ),
)

# What is said, by version. Append-only: what was approved and sent can be read for ever.
contents = table(
    "delivery",
    "contents",
    tenant_id(),
    row_id(),
    _workspace(),
    reference("campaign_id", "spine.spine_campaigns", required=True),
    one_of("channel", CHANNELS, nullable=False),
    # Of a sequence of messages to the same people; a deliberate resend is a new step.
    sa.Column("step", sa.Integer, nullable=False, server_default="1"),
    sa.Column("version", sa.Integer, nullable=False),
    reference("account_id", "delivery.provider_accounts", required=True),
    sa.Column("subject", sa.Text, nullable=False, server_default=""),
    sa.Column("body", sa.Text, nullable=False),
    # The same in plain text, where the body is HTML.
    sa.Column("plain_body", sa.Text),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    created_at(),
    sa.UniqueConstraint("tenant_id", "campaign_id", "channel", "step", "version"),
)

# Append-only. Bound to the hash of what was seen, and good until it expires.
approvals = table(
    "delivery",
    "approvals",
    tenant_id(),
    row_id(),
    reference("content_id", "delivery.contents", required=True),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("approved_by", sa.Text, nullable=False),
    sa.Column("approved_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    sa.Index(None, "tenant_id", "content_id"),
)

suppressions = table(
    "delivery",
    "suppressions",
    tenant_id(),
    # A channel, or 'all'.
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, primary_key=True),
    one_of("reason", SUPPRESSIONS, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    created_at(),
    check(f"channel in {(*CHANNELS, 'all')}", "channel"),
)

consents = table(
    "delivery",
    "consents",
    tenant_id(),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, primary_key=True),
    one_of("basis", CONSENT_BASES, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("recorded_at", Timestamp, nullable=False),
    check(f"channel in {CHANNELS}", "channel"),
)

# Addresses of the tenant's own that tests go to; nobody of the contacts is among them.
seeds = table(
    "delivery",
    "seeds",
    tenant_id(),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, primary_key=True),
    sa.Column("added_by", sa.Text, nullable=False),
    created_at(),
    check(f"channel in {CHANNELS}", "channel"),
)

campaign_runs = table(
    "delivery",
    "campaign_runs",
    tenant_id(),
    row_id(),
    _workspace(),
    reference("campaign_id", "spine.spine_campaigns", required=True),
    one_of("channel", CHANNELS, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    # Which time of a repeated campaign this is: a name, not an instant, so that moving a clock repeats nothing.
    sa.Column("occurrence", sa.Text, nullable=False, server_default="once"),
    reference("content_id", "delivery.contents", required=True),
    sa.Column("content_hash", sa.Text, nullable=False),
    reference("account_id", "delivery.provider_accounts", required=True),
    one_of("status", RUN_STATUSES, default="queued", nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("scheduled_for", Timestamp, nullable=False),
    sa.Column("time_zone", sa.Text, nullable=False, server_default="UTC"),
    # After this nothing is sent any more: what is still queued expires.
    sa.Column("expires_at", Timestamp),
    sa.Column("retry_of_run_id", Uuid),
    sa.Column("root_run_id", Uuid, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "retry_of_run_id"], ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"]
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "root_run_id"], ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"]
    ),
    # Counts of the newest rollup; while a run goes on its items are counted when asked for.
    *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in COUNTS),
    sa.Column("approved_by", sa.Text, nullable=False),
    sa.Column("approved_at", Timestamp, nullable=False),
    sa.Column("approval_expires_at", Timestamp, nullable=False),
    sa.Column("paused_at", Timestamp),
    sa.Column("paused_by", sa.Text),
    sa.Column("cancel_requested_at", Timestamp),
    sa.Column("cancel_requested_by", sa.Text),
    empty_json("run_config"),
    sa.Column("started_at", Timestamp),
    sa.Column("completed_at", Timestamp),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("created_by", sa.Text, nullable=False),
    created_at(),
    updated_at(),
    sa.Index("campaign_runs_request_key", "request_id", "tenant_id", unique=True),
    # A campaign's step goes out once an occurrence, whatever became of it; retries hang on that run.
    sa.Index(
        "campaign_runs_occurrence_key",
        "campaign_id",
        "channel",
        "step",
        "occurrence",
        "tenant_id",
        unique=True,
        postgresql_where=sa.text("retry_of_run_id is null"),
    ),
    sa.Index(None, "root_run_id", "tenant_id"),
)

# Everybody the audience held at launch, with what was decided about them and why. A retry lists those it takes up.
run_recipients = table(
    "delivery",
    "run_recipients",
    tenant_id(),
    sa.Column("run_id", Uuid, primary_key=True),
    sa.Column("ordinal", sa.BigInteger, primary_key=True),
    sa.ForeignKeyConstraint(
        ["tenant_id", "run_id"], ["delivery.campaign_runs.tenant_id", "delivery.campaign_runs.id"]
    ),
    sa.Column("recipient_id", Uuid),
    # Normalised; null when there is none to be had, and then nothing is intended either.
    sa.Column("address", sa.Text),
    empty_json("variables"),
    sa.Column("consent_basis", sa.Text),
    # Null: included.
    sa.Column("excluded_because", sa.Text),
    sa.Column("item_id", Uuid),
    sa.Index(
        "run_recipients_address_key",
        "run_id",
        "address",
        "tenant_id",
        unique=True,
        postgresql_where=sa.text("item_id is not null"),
    ),
    sa.Index("run_recipients_item_key", "item_id", "run_id", "tenant_id", unique=True),
)

job_queue = table(
    "delivery",
    "job_queue",
    tenant_id(),
    row_id(),
    _workspace(),
    reference("run_id", "delivery.campaign_runs", required=True),
    one_of("job_type", tuple(JOB_TYPES.values()), nullable=False),
    sa.Column("chunk", sa.Integer, nullable=False),
    one_of("status", JOB_STATUSES, default="queued", nullable=False),
    sa.Column("scheduled_for", Timestamp, nullable=False),
    # Ended leases without an end of the work; a job that is handed on in order is not charged.
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("max_attempts", sa.Integer, nullable=False, server_default="3"),
    sa.Column("locked_at", Timestamp),
    sa.Column("locked_by", sa.Text),
    sa.Column("lease_token", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lease_expires_at", Timestamp),
    sa.Column("last_error", sa.Text),
    sa.Column("started_at", Timestamp),
    sa.Column("completed_at", Timestamp),
    created_at(),
    updated_at(),
    sa.Index("job_queue_chunk_key", "run_id", "chunk", "tenant_id", unique=True),
    sa.Index(
        "job_queue_due_idx",
        "tenant_id",
        "scheduled_for",
        "id",
        postgresql_where=sa.text("status = 'queued'"),
    ),
    sa.Index(
        "job_queue_leased_idx",
        "tenant_id",
        "lease_expires_at",
        postgresql_where=sa.text("status = 'locked'"),
    ),
    sa.Index("job_queue_dead_idx", "tenant_id", "id", postgresql_where=sa.text("status = 'dead'")),
    check("status <> 'locked' or (locked_by is not null and lease_expires_at is not null)", "lease"),
)

channel_outbox = table(
    "delivery",
    "channel_outbox",
    tenant_id(),
    row_id(),
    _workspace(),
    # The run of the lineage that works on it, and the run that intended it.
    reference("run_id", "delivery.campaign_runs", required=True),
    reference("root_run_id", "delivery.campaign_runs", required=True),
    reference("job_id", "delivery.job_queue", required=True),
    sa.Column("ordinal", sa.BigInteger, nullable=False),
    one_of("channel", CHANNELS, nullable=False),
    one_of("provider", PROVIDERS, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("recipient_id", Uuid),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.Text, nullable=False),
    one_of("status", ITEM_STATUSES, default="queued", nullable=False),
    sa.Column("skipped", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("skip_reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # Of the run that works on it; a retry begins anew.
    sa.Column("attempts_left", sa.Integer, nullable=False, server_default="3"),
    # Of a failed item: whether another attempt may end otherwise.
    sa.Column("is_retryable", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("error", sa.Text),
    sa.Column("provider_message_id", sa.Text),
    sa.Column("provider_response", Json),
    sa.Column("settled_at", Timestamp),
    # What callbacks say of an accepted message; it only ever moves forward.
    one_of("delivery_status", DELIVERY_STATUSES, default="none", nullable=False),
    created_at(),
    sa.UniqueConstraint(
        "tenant_id", "workspace_id", "idempotency_key", name="channel_outbox_idempotency_key"
    ),
    sa.CheckConstraint("skipped = (status = 'skipped')", name="skipped_status"),
    check("not skipped or skip_reason is not null", "skip_reason"),
    sa.Index("channel_outbox_job_idx", "job_id", "ordinal", "tenant_id"),
    # Without the status: an item changes it twice, and no index has to follow.
    sa.Index(None, "run_id", "tenant_id"),
    sa.Index(None, "root_run_id", "tenant_id"),
    # How often somebody was contacted.
    sa.Index("channel_outbox_person_idx", "address", "channel", "tenant_id"),
)

# One call to the provider with a list of messages, frozen before it is made.
provider_batches = table(
    "delivery",
    "provider_batches",
    sa.Column("tenant_id", Uuid, primary_key=True),
    row_id(),
    reference("account_id", "delivery.provider_accounts", required=True, cascade=True),
    sa.Column("attempt_ids", pg.ARRAY(Uuid), nullable=False),
    sa.Column("provider_key", sa.Text, nullable=False),
    sa.Column("request_hash", sa.Text, nullable=False),
    created_at(),
    sa.Index("provider_batches_key", "provider_key", "tenant_id", unique=True),
)

# References are those of its item, copied while that is locked: each further check would be paid at every message.
attempts = table(
    "delivery",
    "attempts",
    sa.Column("tenant_id", Uuid, primary_key=True),
    row_id(),
    reference("item_id", "delivery.channel_outbox", required=True, cascade=True),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("run_id", Uuid, nullable=False),
    sa.Column("job_id", Uuid, nullable=False),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.Column("account_id", Uuid, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    # What the provider knows the call by; the same when this attempt is replayed.
    sa.Column("provider_key", sa.Text, nullable=False),
    sa.Column("request_hash", sa.Text, nullable=False),
    sa.Column("batch_id", Uuid),
    one_of("state", ATTEMPT_STATES, default="dispatching", nullable=False),
    sa.Column("started_at", Timestamp, nullable=False),
    # Until then whoever began it may be calling.
    sa.Column("deadline_at", Timestamp, nullable=False),
    sa.Column("replays", sa.Integer, nullable=False, server_default="0"),
    sa.Column("finished_at", Timestamp),
    sa.Column("http_status", sa.Integer),
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("is_retryable", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("provider_message_id", sa.Text),
    sa.Column("response", Json),
    sa.Index("attempts_number_key", "item_id", "n", "tenant_id", unique=True),
    sa.Index(
        "attempts_message_key",
        "provider_message_id",
        "account_id",
        "tenant_id",
        unique=True,
        postgresql_where=sa.text("provider_message_id is not null"),
    ),
    sa.Index(
        "attempts_open_key",
        "item_id",
        "tenant_id",
        unique=True,
        postgresql_where=sa.text("state in ('dispatching', 'unknown')"),
    ),
    sa.Index(
        "attempts_deadline_idx",
        "deadline_at",
        postgresql_where=sa.text("state = 'dispatching'"),
    ),
)

# What providers tell of by themselves. Kept as it came; without a match it waits for its attempt.
provider_events = table(
    "delivery",
    "provider_events",
    tenant_id(),
    row_id(),
    reference("account_id", "delivery.provider_accounts", required=True),
    sa.Column("provider_event_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("provider_message_id", sa.Text),
    # Our own reference, where the provider gives it back: the id of an attempt.
    sa.Column("reference", sa.Text),
    sa.Column("address", sa.Text),
    sa.Column("body_sha256", sa.Text, nullable=False),
    sa.Column("payload", Json, nullable=False),
    sa.Column("occurred_at", Timestamp, nullable=False),
    sa.Column("received_at", Timestamp, nullable=False),
    reference("attempt_id", "delivery.attempts"),
    sa.Index("provider_events_key", "provider_event_id", "account_id", "tenant_id", unique=True),
    sa.Index(
        "provider_events_parked_idx",
        "tenant_id",
        "received_at",
        postgresql_where=sa.text("attempt_id is null"),
    ),
)

# What is uncertain, and whose it is. An item whose attempts were lost with a backup has a case without an attempt.
reconciliation_cases = table(
    "delivery",
    "reconciliation_cases",
    tenant_id(),
    row_id(),
    reference("item_id", "delivery.channel_outbox", required=True),
    reference("attempt_id", "delivery.attempts"),
    reference("run_id", "delivery.campaign_runs", required=True),
    sa.Column("opened_at", Timestamp, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    empty_json("evidence"),
    sa.Column("due_at", Timestamp, nullable=False),
    sa.Column("next_lookup_at", Timestamp),
    sa.Column("assigned_to", sa.Text),
    one_of("resolution", RESOLUTIONS),
    sa.Column("resolved_by", sa.Text),
    sa.Column("resolved_at", Timestamp),
    sa.Column("note", sa.Text),
    sa.Index(
        "reconciliation_cases_open_key",
        "item_id",
        "tenant_id",
        unique=True,
        postgresql_where=sa.text("resolution is null"),
    ),
    check("(resolution is null) = (resolved_at is null)", "resolved"),
)

# Units by attempt: reserved before the call, then committed or released. Append-only, and without a reference to what
# it counts: a ledger outlives that, and the check would cost a seventh of all sending.
usage_entries = table(
    "delivery",
    "usage_entries",
    sa.Column("tenant_id", Uuid, primary_key=True),
    sa.Column("attempt_id", Uuid, primary_key=True),
    sa.Column("meter", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("units", sa.Numeric, nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    check("kind in ('reserve', 'commit', 'release')", "kind"),
)

# How much of a cap is taken: by attempts that are open or accepted.
quota_windows = table(
    "delivery",
    "quota_windows",
    tenant_id(),
    sa.Column("workspace_id", Uuid, primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("span", sa.Text, primary_key=True),
    sa.Column("starts_at", Timestamp, primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    check("span in ('hour', 'day')", "span"),
)

# Append-only, each row bound to the one before it. A chain is that of a run or of a job, of an account (its stops) or a
# campaign (its tests): whoever holds that row may write, so workers on different jobs wait for nobody.
audit_events = table(
    "delivery",
    "audit_events",
    tenant_id(),
    sa.Column("chain", Uuid, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    empty_json("detail"),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
)

# The cluster and timeline a tenant's deliveries were made on. On another one, what was in flight is asked after first.
epochs = table(
    "delivery",
    "epochs",
    tenant_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("system_identifier", sa.Text, nullable=False),
    sa.Column("timeline", sa.Integer, nullable=False),
    sa.Column("opened_at", Timestamp, nullable=False),
    sa.Column("fenced_items", sa.BigInteger, nullable=False, server_default="0"),
)
