"""What is let out: stages of automation with their evidence, canaries, exports, what may be spent on language models, and
the tokens by which programs act for a tenant.
"""

from __future__ import annotations

import sqlalchemy as sa

from models.base import (
    Json,
    Timestamp,
    Uuid,
    check,
    created_at,
    empty_json,
    one_of,
    row_id,
    table,
    tenant_id,
)
from models.books import MONTH

STAGES = ("P0", "P1", "P2", "P3")
CANARY_KINDS = ("model", "ruleset", "calibrator", "autopost")
CANARY_STATUSES = ("running", "promoted", "reverted")
EXPORT_TARGETS = ("qbo_csv", "xero_csv")
EXPORT_STATUSES = ("pending", "exported")
CALL_STATUSES = ("reserved", "settled", "released")
BUDGET_REASONS = ("calls_per_txn_exceeded", "tenant_budget_exceeded", "global_budget_exceeded")

# Which stage a tenant is in: the newest row. Upwards only on evidence that was true that day, P3 only by a person's
# approval, which ends. Append-only.
books_stages = table(
    "books",
    "books_stages",
    tenant_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    one_of("stage", STAGES, nullable=False),
    sa.Column("at", Timestamp, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    empty_json("evidence"),
    sa.Column("evidence_hash", sa.Text, nullable=False),
    sa.Column("approved_by", sa.Text),
    sa.Column("expires_at", Timestamp),
    check("number > 0", "number"),
    check("(stage = 'P3') = (approved_by is not null and expires_at is not null)", "approved"),
    check("expires_at - at <= interval '92 days'", "expires_at"),
)

# A part of decisions by a newer version, drawn by a stable hash; all are scored by it in its shadow.
canaries = table(
    "books",
    "canaries",
    tenant_id(),
    row_id(),
    one_of("kind", CANARY_KINDS, nullable=False),
    sa.Column("champion", sa.Text, nullable=False),
    sa.Column("challenger", sa.Text, nullable=False),
    sa.Column("percent", sa.Integer, nullable=False),
    sa.Column("step_at", Timestamp, nullable=False),
    one_of("status", CANARY_STATUSES, default="running", nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("ended_at", Timestamp),
    check("percent in (5, 10, 50, 100)", "percent"),
    check("(status = 'running') = (ended_at is null)", "ended_at"),
    sa.Index(
        "canaries_running_key", "tenant_id", "kind", unique=True, postgresql_where=sa.text("status = 'running'")
    ),
)  # fmt: skip

# A file that is handed out: reserved with its entries and its bytes, then put in its place, then confirmed.
# `skipped_count`: posted entries that had gone to the target before.
export_batches = table(
    "books",
    "export_batches",
    tenant_id(),
    row_id(),
    one_of("target", EXPORT_TARGETS, nullable=False),
    one_of("status", EXPORT_STATUSES, default="pending", nullable=False),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("entry_count", sa.Integer, nullable=False),
    sa.Column("skipped_count", sa.Integer, nullable=False),
    sa.Column("line_count", sa.Integer, nullable=False),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("requested_at", Timestamp, nullable=False),
    sa.Column("exported_at", Timestamp),
    check("(status = 'exported') = (exported_at is not null)", "exported"),
    sa.Index(
        "export_batches_pending_idx", "tenant_id", "target", postgresql_where=sa.text("status = 'pending'")
    ),
)  # fmt: skip

# The bytes of each batch, so that whatever is renamed or released later they are handed out again as they were.
# Append-only.
export_files = table(
    "books",
    "export_files",
    tenant_id(),
    sa.Column("batch_id", Uuid, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "batch_id"], ["books.export_batches.tenant_id", "books.export_batches.id"]
    ),
)

# An entry goes to a target once; `external_id` is what the receiver knows it by.
export_log = table(
    "books",
    "export_log",
    tenant_id(),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("external_id", sa.Text, primary_key=True),
    sa.Column("entry_id", Uuid, nullable=False),
    sa.Column("batch_id", Uuid, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.UniqueConstraint("tenant_id", "target", "entry_id"),
    sa.UniqueConstraint("tenant_id", "batch_id", "place"),
    check(f"target in ({', '.join(map(repr, EXPORT_TARGETS))})", "target"),
    sa.ForeignKeyConstraint(
        ["tenant_id", "entry_id"], ["books.journal_entries.tenant_id", "books.journal_entries.id"]
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "batch_id"], ["books.export_batches.tenant_id", "books.export_batches.id"]
    ),
)

# What a tenant's calls cost in a month, in millionths of a US dollar: reserved at their worst before a call, then what it was.
llm_months = table(
    "books",
    "llm_months",
    tenant_id(),
    sa.Column("year_month", sa.Text, primary_key=True),
    sa.Column("reserved_micros", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("spent_micros", sa.BigInteger, nullable=False, server_default="0"),
    one_of("fallback_reason", BUDGET_REASONS),
    sa.Column("fallback_since", Timestamp),
    # The cap that was hit: only a higher one ends it within the month.
    sa.Column("fallback_cap", sa.Numeric),
    check(f"year_month ~ {MONTH}", "year_month"),
    check("reserved_micros >= 0 and spent_micros >= 0", "micros"),
    check("num_nulls(fallback_reason, fallback_since, fallback_cap) in (0, 3)", "fallback"),
)

# One call each. `cache_key`: what the answer depends on, hashed; lines that share it are asked about once.
llm_calls = table(
    "books",
    "llm_calls",
    tenant_id(),
    row_id(),
    sa.Column("txn_id", Uuid, nullable=False),
    sa.Column("year_month", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("cache_key", sa.Text, nullable=False),
    one_of("status", CALL_STATUSES, default="reserved", nullable=False),
    sa.Column("reserved_micros", sa.BigInteger, nullable=False),
    sa.Column("spent_micros", sa.BigInteger),
    sa.Column("prompt_tokens", sa.Integer),
    sa.Column("completion_tokens", sa.Integer),
    sa.Column("answer", Json),
    sa.Column("reserved_at", Timestamp, nullable=False),
    sa.Column("settled_at", Timestamp),
    sa.ForeignKeyConstraint(
        ["tenant_id", "txn_id"], ["books.transactions.tenant_id", "books.transactions.id"], ondelete="CASCADE"
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "year_month"], ["books.llm_months.tenant_id", "books.llm_months.year_month"]
    ),
    check("(status = 'settled') = (spent_micros is not null)", "spent_micros"),
    sa.Index("llm_calls_time_idx", "tenant_id", "reserved_at"),
    sa.Index("llm_calls_cache_idx", "tenant_id", "cache_key"),
    sa.Index("llm_calls_reserved_idx", "tenant_id", "reserved_at", postgresql_where=sa.text("status = 'reserved'")),
)  # fmt: skip

# By which a program acts as a person of the tenant. A token is shown once; here is the SHA-256 of it.
api_tokens = table(
    "books",
    "api_tokens",
    tenant_id(),
    row_id(),
    sa.Column("user_id", Uuid, nullable=False),
    sa.Column("token_hash", sa.LargeBinary, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("revoked_at", Timestamp),
    created_at(),
    # Whoever leaves the tenant takes their tokens along.
    sa.ForeignKeyConstraint(
        ["tenant_id", "user_id"], ["spine.user_tenants.tenant_id", "spine.user_tenants.user_id"], ondelete="CASCADE"
    ),
    check("octet_length(token_hash) = 32", "token_hash"),
    sa.Index("api_tokens_token_hash_key", "token_hash", unique=True),
)  # fmt: skip
