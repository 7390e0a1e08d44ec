"""Usage: what a tenant's sites did, metered at most once, closed by the month and provable afterwards.

`ingest_idempotency` is the ledger, and the only authority of an invoice: a billable unit is a row that was newly
inserted there. The names of the seed's tables and columns are frozen; what stands beside them is ours.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from models.base import (
    Json,
    Timestamp,
    Uuid,
    audit,
    check,
    created_at,
    currency,
    empty_json,
    money,
    one_of,
    row_id,
    table,
    tenant_id,
    updated_at,
)

# May set `billable` and `billing_state` of the ledger's rows, and nothing else of anything.
RECONCILIATION = "revenue_reconciliation"
BILLING_STATES = ("ACCEPTED", "OVERAGE", "DEGRADED_CAPTURE", "RECOVERED", "REJECTED_QUOTA")
BUFFER_STATUSES = ("PENDING", "PROCESSING", "RECOVERED", "FAILED", "QUARANTINE")
PERIOD_STATES = ("OPEN", "CLOSING", "CLOSED", "ADJUSTED")
RECONCILIATION_STATUSES = ("QUEUED", "PROCESSING", "COMPLETED", "FAILED", "DEAD")
METER_KINDS = ("count", "sum", "max", "unique")
INVOICE_STATES = ("draft", "final")
THRESHOLDS = (50, 80, 95, 100)
RETENTION_DAYS = 90  # of a key, as `expires_at` says; no row goes before its month is closed and archived
# The text itself: JSON that a browser sends may hold what jsonb refuses, such as half a character or \\u0000.
AsItCame = pg.JSON
MONTH = r"'^\d{4}-(0[1-9]|1[0-2])$'"


def _month(*, primary_key: bool = False) -> list[sa.SchemaItem]:
    return [
        sa.Column("year_month", sa.Text, nullable=False, primary_key=primary_key),
        sa.CheckConstraint(f"year_month ~ {MONTH}", name="year_month"),
    ]


def _month_of(column: str) -> sa.Column[Any]:
    return sa.Column(
        "year_month", sa.Text, sa.Computed(f"usage.utc_year_month({column})", persisted=True), nullable=False
    )


def _events() -> sa.Column[Any]:
    """How many rows a message carries."""
    return sa.Column("events", sa.Integer, sa.Computed("cardinality(keys)", persisted=True), nullable=False)


def _site(*, primary_key: bool = False) -> list[sa.SchemaItem]:
    return [
        sa.Column("site_id", Uuid, nullable=False, primary_key=primary_key),
        sa.ForeignKeyConstraint(["tenant_id", "site_id"], ["usage.sites.tenant_id", "usage.sites.id"]),
    ]


# A site is never deleted: its ledger is evidence. `public_id` is what payloads carry in `s`.
sites = table(
    "usage",
    "sites",
    tenant_id(),
    row_id(),
    sa.Column("public_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    one_of("status", ("active", "closed"), default="active", nullable=False),
    # Origins a browser may send from; null allows none but servers that name no origin.
    sa.Column("origins", pg.ARRAY(sa.Text), nullable=False, server_default="{}"),
    created_at(),
    sa.Column("closed_at", Timestamp),
    check("public_id ~ '^[!-~]{1,128}$'", "public_id"),
    # Of all tenants: a payload names its site by nothing else.
    sa.Index("sites_public_id_key", "public_id", unique=True),
)

# Write keys of sites: shown once, kept as a hash.
site_keys = table(
    "usage",
    "site_keys",
    tenant_id(),
    row_id(),
    _site(),
    sa.Column("key_hash", sa.LargeBinary, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("revoked_at", Timestamp),
    created_at(),
    check("octet_length(key_hash) = 32", "key_hash"),
    sa.Index("site_keys_key_hash_key", "key_hash", unique=True),
)

# Versions of a site's plan: the one valid at the first instant of a month rates it, the one valid now limits it.
site_plans = table(
    "usage",
    "site_plans",
    tenant_id(),
    row_id(),
    _site(),
    sa.Column("plan_tier", sa.Text, nullable=False, server_default="free"),
    sa.Column("monthly_limit", sa.BigInteger, nullable=False),
    sa.Column("soft_limit_enabled", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("hard_cap_multiplier", sa.Numeric, nullable=False, server_default="2"),
    money("overage_price_per_1k"),
    money("base_price", nullable=False, default="0"),
    # Prices of units by volume: [{"up_to": 1000, "per_1k": "2.50"}, {"up_to": null, "per_1k": "2.00"}].
    sa.Column("tiers", Json, nullable=False, server_default=sa.text("'[]'::jsonb")),
    money("minimum", nullable=False, default="0"),
    currency(),
    sa.Column("valid_from", Timestamp, nullable=False),
    sa.Column("valid_to", Timestamp),
    sa.Column("made_by", sa.Text, nullable=False),
    created_at(),
    check("monthly_limit >= 0", "monthly_limit"),
    check("hard_cap_multiplier >= 1", "hard_cap_multiplier"),
    check("valid_to is null or valid_to > valid_from", "valid"),
    # What a plan says an event is: every new event, or what the rules of event kinds say.
    one_of("billing_rule", ("every_event", "event_kinds"), default="every_event", nullable=False),
    sa.UniqueConstraint("tenant_id", "site_id", "valid_from"),
    sa.Index(
        "site_plans_open_key",
        "site_id",
        "tenant_id",
        unique=True,
        postgresql_where=sa.text("valid_to is null"),
    ),
)

# A tenant's month. What may still be written into it, the ledger's own guard asks here.
usage_periods = table(
    "usage",
    "usage_periods",
    tenant_id(),
    _month(primary_key=True),
    one_of("state", PERIOD_STATES, default="OPEN", nullable=False),
    sa.Column("closing_at", Timestamp),
    sa.Column("closed_at", Timestamp),
    sa.Column("closed_by", sa.Text),
    updated_at(),
)

# The ledger. Its key is unique whatever the time; its rows are never deleted while their month is open, and change in
# two ways only: a degraded capture is recovered, and a refusal is taken back when the same event comes again. References
# and months are guarded once a statement: a row costs no look-up.
ingest_idempotency = table(
    "usage",
    "ingest_idempotency",
    sa.Column("tenant_id", Uuid, primary_key=True),
    sa.Column("site_id", Uuid, primary_key=True),
    sa.Column("idempotency_key", sa.Text(collation="C"), primary_key=True),
    sa.Column("created_at", Timestamp, nullable=False),
    sa.Column(
        "expires_at",
        Timestamp,
        sa.Computed(
            "(created_at at time zone 'UTC' + interval '90 days') at time zone 'UTC'", persisted=True
        ),
        nullable=False,
    ),
    one_of("billing_state", BILLING_STATES, default="ACCEPTED", nullable=False),
    sa.Column("billable", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("billing_reason", sa.Text),
    _month_of("created_at"),
    sa.Column("idempotency_version", sa.SmallInteger, nullable=False, server_default="1"),
    sa.Column("event_category", sa.Text),
    sa.Column("event_action", sa.Text),
    sa.Column("event_label", sa.Text),
    # When the client says it happened: told, never billed by.
    sa.Column("occurred_at", Timestamp),
    sa.Column("plan_id", Uuid),
    # Of the whole payload: another one under the same key is a conflict.
    sa.Column("payload_hash", sa.LargeBinary, nullable=False),
    # The transaction that wrote the row last, recoveries apart: what is below the oldest one under way is all there
    # will be.
    sa.Column(
        "txid", sa.BigInteger, nullable=False, server_default=sa.text("pg_current_xact_id()::text::bigint")
    ),
    check("billable or billing_state <> 'OVERAGE'", "overage"),
    check("billing_state <> 'REJECTED_QUOTA' or not billable", "billable"),
    check("octet_length(payload_hash) = 32", "payload_hash"),
    sa.Index("ingest_idempotency_txid_idx", "txid", postgresql_using="brin"),
    sa.Index("ingest_idempotency_created_idx", "created_at", postgresql_using="brin"),
)

# Decisions that a row alone does not explain: refusals, overage, recoveries, refusals taken back. Never changed.
usage_decisions = table(
    "usage",
    "usage_decisions",
    tenant_id(),
    row_id(),
    _site(),
    sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
    _month(),
    one_of(
        "decision", ("overage", "rejected_quota", "taken_back", "recovered", "quarantined"), nullable=False
    ),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("used_before", sa.BigInteger),
    sa.Column("limit_then", sa.BigInteger),
    sa.Column("plan_id", Uuid),
    sa.Column("actor", sa.Text, nullable=False),
    created_at(),
    sa.Index("usage_decisions_key_idx", "site_id", "idempotency_key", "tenant_id"),
    sa.Index("usage_decisions_created_idx", "created_at", postgresql_using="brin"),
)

# The same key with another payload: what came is kept, what was metered stands.
usage_conflicts = table(
    "usage",
    "usage_conflicts",
    tenant_id(),
    _site(primary_key=True),
    sa.Column("idempotency_key", sa.Text(collation="C"), primary_key=True),
    sa.Column("payload_hash", sa.LargeBinary, primary_key=True),
    sa.Column("payload", AsItCame, nullable=False),
    created_at(),
)

# What was accepted of a site's month, reserved under lock with the rows it counts.
usage_counters = table(
    "usage",
    "usage_counters",
    tenant_id(),
    _site(primary_key=True),
    _month(primary_key=True),
    sa.Column("accepted", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("overage", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("rejected", sa.BigInteger, nullable=False, server_default="0"),
    updated_at(),
    check("accepted >= 0 and overage between 0 and accepted and rejected >= 0", "counts"),
)

# Thresholds of the limit that were passed, each told once.
usage_notices = table(
    "usage",
    "usage_notices",
    tenant_id(),
    _site(primary_key=True),
    _month(primary_key=True),
    sa.Column("threshold", sa.Integer, primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("limit_then", sa.BigInteger, nullable=False),
    sa.Column("told_at", Timestamp),
    created_at(),
    check(f"threshold in {THRESHOLDS}", "threshold"),
)

# What the watch found wrong of a tenant, from when to when, and what people were last told of it: null for nothing yet,
# 'ok' for the end.
usage_alarms = table(
    "usage",
    "usage_alarms",
    tenant_id(),
    sa.Column("check_name", sa.Text, primary_key=True),
    sa.Column("began_at", Timestamp, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("told", sa.Text, nullable=False),
    sa.Column("ended_at", Timestamp),
    sa.Column("told_at", Timestamp),
    sa.Column("told_status", sa.Text),
    sa.Index(
        "usage_alarms_open_key",
        "check_name",
        "tenant_id",
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
    ),
)

# One message a month of a site and capture, with the keys of the rows it carries: written in their transaction, handed
# on afterwards. `of_buffer` is the message that could not be published before: the same rows, counted there.
usage_outbox = table(
    "usage",
    "usage_outbox",
    tenant_id(),
    row_id(),
    _site(),
    sa.Column("keys", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("payload", AsItCame, nullable=False),
    created_at(),
    sa.Column("handed_on_at", Timestamp),
    _month(),
    _events(),
    sa.Column("of_buffer", Uuid),
    sa.Index("usage_outbox_month_idx", "site_id", "year_month", "tenant_id"),
    sa.Index("usage_outbox_waiting_idx", "created_at", postgresql_where=sa.text("handed_on_at is null")),
)

# What could not be published when it was captured. It was billed then, and is not billed again when it is recovered.
ingest_fallback_buffer = table(
    "usage",
    "ingest_fallback_buffer",
    tenant_id(),
    row_id(),
    _site(),
    sa.Column("keys", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("payload", AsItCame, nullable=False),
    sa.Column("error_reason", sa.Text, nullable=False),
    one_of("status", BUFFER_STATUSES, default="PENDING", nullable=False),
    sa.Column("recover_attempt_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_expires_at", Timestamp),
    # Billed and never delivered: the credit that answers for it.
    sa.Column("credited_by", Uuid),
    created_at(),
    updated_at(),
    _month(),
    _events(),
    check("(status = 'PROCESSING') = (lease_expires_at is not null)", "lease"),
    sa.Index("ingest_fallback_buffer_month_idx", "site_id", "year_month", "tenant_id"),
    sa.Index(
        "ingest_fallback_buffer_waiting_idx",
        "due_at",
        postgresql_where=sa.text("status in ('PENDING', 'PROCESSING')"),
    ),
)

# Keys of rows that were archived, of those in which no time is: the same event again, whenever it comes, is not metered.
archived_keys = table(
    "usage",
    "archived_keys",
    tenant_id(),
    _site(primary_key=True),
    sa.Column("idempotency_key", sa.Text(collation="C"), primary_key=True),
    _month(),
)

# Corrections of what was metered: new rows that name the month they correct.
usage_adjustments = table(
    "usage",
    "usage_adjustments",
    tenant_id(),
    row_id(),
    _site(),
    # The month that pays for it, and the closed one it is about.
    _month(),
    sa.Column("of_year_month", sa.Text, nullable=False),
    sa.Column("idempotency_key", sa.Text(collation="C")),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    one_of("kind", ("late", "void", "credit", "correction"), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("asked_by", sa.Text, nullable=False),
    sa.Column("approved_by", sa.Text),
    sa.Column("approved_at", Timestamp),
    sa.Column("refused_by", sa.Text),
    sa.Column("refused_at", Timestamp),
    sa.Column("refused_why", sa.Text),
    created_at(),
    check(f"of_year_month ~ {MONTH}", "of_year_month"),
    check("quantity <> 0", "quantity"),
    check("char_length(btrim(reason)) >= 10", "reason"),
    check("approved_by is null or approved_by <> asked_by", "approved_by"),
    check(
        "num_nonnulls(refused_by, refused_at, refused_why) in (0, 3) and (refused_at is null or approved_at is null)",
        "refused",
    ),
    # What was refused may be asked for anew.
    sa.Index(
        "usage_adjustments_once_key", "site_id", "idempotency_key", "kind", "tenant_id",
        unique=True, postgresql_where=sa.text("idempotency_key is not null and refused_at is null"),
    ),
)  # fmt: skip

# Months of sites whose ledger changed since they were last counted.
billing_reconciliation_jobs = table(
    "usage",
    "billing_reconciliation_jobs",
    tenant_id(),
    _site(primary_key=True),
    _month(primary_key=True),
    one_of("status", RECONCILIATION_STATUSES, default="QUEUED", nullable=False),
    sa.Column("locked_at", Timestamp),
    sa.Column("lease_expires_at", Timestamp),
    sa.Column("lease_owner", sa.Text),
    sa.Column("attempt_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("due_at", Timestamp, nullable=False, server_default=sa.text("now()")),
    sa.Column("last_error", sa.Text),
    # The share by which the worst of the counts was off, 0.01 for one in a hundred; and all of them.
    sa.Column("last_drift_pct", sa.Numeric),
    empty_json("drift"),
    # Transactions: the newest one that changed the month, and the oldest one that the last count may not have seen.
    sa.Column("changed_to", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("counted_to", sa.BigInteger),
    created_at(),
    updated_at(),
    check("(status = 'PROCESSING') = (lease_expires_at is not null)", "lease"),
    sa.Index("billing_reconciliation_jobs_due_idx", "due_at", postgresql_where=sa.text("status in ('QUEUED', 'FAILED', 'PROCESSING')")),
)  # fmt: skip

# How far a tenant's ledger was looked through for months that changed.
usage_watermark = table(
    "usage",
    "usage_watermark",
    tenant_id(),
    sa.Column("txid", sa.BigInteger, nullable=False),
    updated_at(),
)

# What was invoiced of a site's month, bound to its rows, its plan and the snapshot before it. Never changed.
invoice_snapshot = table(
    "usage",
    "invoice_snapshot",
    tenant_id(),
    _site(primary_key=True),
    _month(primary_key=True),
    sa.Column("event_count", sa.BigInteger, nullable=False),
    sa.Column("overage_count", sa.BigInteger, nullable=False),
    # Over site, month and counts alone, as the first systems computed it.
    sa.Column("snapshot_hash", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("merkle_root", sa.Text, nullable=False),
    sa.Column("plan", Json, nullable=False),
    sa.Column("code_version", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("generated_at", Timestamp, nullable=False),
    sa.Column("generated_by", sa.Text, nullable=False),
    # Over the adjustments that the month pays for; null of snapshots that are older than it.
    sa.Column("adjustments_hash", sa.Text),
    check("event_count >= 0 and overage_count between 0 and event_count and row_count >= event_count", "counts"),
    check("snapshot_hash ~ '^[0-9a-f]{64}$' and merkle_root ~ '^[0-9a-f]{64}$' and hash ~ '^[0-9a-f]{64}$'", "hashes"),
    check("adjustments_hash ~ '^[0-9a-f]{64}$'", "adjustments_hash"),
)  # fmt: skip

usage_invoices = table(
    "usage",
    "usage_invoices",
    tenant_id(),
    row_id(),
    _month(),
    one_of("state", INVOICE_STATES, default="draft", nullable=False),
    currency(default=None),
    money("total", nullable=False),
    sa.Column("made_at", Timestamp, nullable=False),
    sa.Column("final_at", Timestamp),
    sa.Column("final_by", sa.Text),
    check("(state = 'final') = (final_at is not null)", "final"),
    sa.UniqueConstraint("tenant_id", "year_month", "currency"),
)

usage_invoice_lines = table(
    "usage",
    "usage_invoice_lines",
    tenant_id(),
    sa.Column("invoice_id", Uuid, primary_key=True),
    sa.ForeignKeyConstraint(
        ["tenant_id", "invoice_id"], ["usage.usage_invoices.tenant_id", "usage.usage_invoices.id"]
    ),
    sa.Column("number", sa.Integer, primary_key=True),
    _site(),
    one_of("kind", ("base", "included", "tier", "overage", "minimum", "adjustment"), nullable=False),
    sa.Column("of_year_month", sa.Text, nullable=False),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    money("price_per_1k"),
    money("amount", nullable=False),
    sa.Column("told", sa.Text, nullable=False),
    check(f"of_year_month ~ {MONTH}", "of_year_month"),
)

# What was written to files before it left the ledger, once its month was closed and its keys had expired.
usage_archives = table(
    "usage",
    "usage_archives",
    tenant_id(),
    _site(primary_key=True),
    _month(primary_key=True),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("merkle_root", sa.Text, nullable=False),
    created_at(),
)

# Further meters of a tenant, each a value read from the events it names.
usage_meters = table(
    "usage",
    "usage_meters",
    tenant_id(),
    sa.Column("name", sa.Text, primary_key=True),
    one_of("kind", METER_KINDS, nullable=False),
    sa.Column("event_category", sa.Text),
    sa.Column("event_action", sa.Text),
    # Where in the payload the value stands, and by which fields it is grouped: paths of keys, with dots between.
    sa.Column("value_path", sa.Text),
    sa.Column("dimensions", pg.ARRAY(sa.Text), nullable=False, server_default="{}"),
    created_at(),
    # From then on it reads nothing; what it read stays.
    sa.Column("ended_at", Timestamp),
    check("(kind = 'count') = (value_path is null)", "value_path"),
    check("name ~ '^[a-z][a-z0-9_]{0,62}$'", "name"),
)

usage_meter_values = table(
    "usage",
    "usage_meter_values",
    tenant_id(),
    sa.Column("site_id", Uuid, primary_key=True),
    sa.Column("meter", sa.Text, primary_key=True),
    sa.Column("idempotency_key", sa.Text(collation="C"), primary_key=True),
    sa.Column("created_at", Timestamp, nullable=False),
    _month_of("created_at"),
    sa.Column("value", sa.Numeric),
    sa.Column("told", sa.Text),
    empty_json("dimensions"),
    sa.ForeignKeyConstraint(
        ["tenant_id", "meter"], ["usage.usage_meters.tenant_id", "usage.usage_meters.name"]
    ),
)

# Who looked, exported, closed, corrected: in order, each row bound to the one before it.
usage_audit = audit("usage")

# The guards of these two ask for the site and the month instead of a reference a row.
for _guarded in (ingest_idempotency, usage_meter_values):
    for _asked in (sites, usage_periods):
        _guarded.add_is_dependent_on(_asked)
