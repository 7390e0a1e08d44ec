"""What is learnt and decided of bank lines: settings, rules, people's labels, models, certificates, and each decision.

Labels and decisions are only ever added to. Who is told apart from whom: a label is a person's word, a decision the
machine's.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

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

# In the order in which one of them is the primary reason.
NOT_AUTO_POST_REASONS = (
    "cold_start", "below_threshold", "imbalance", "budget_fallback", "anomaly", "rule_conflict",
)  # fmt: skip
VERDICTS = ("review", "would_post", "posted")
LABEL_SOURCES = ("approve", "correct", "bulk", "booked", "audit")
RULE_MATCHES = ("exact_vendor", "regex")
RULE_STATUSES = ("candidate", "active", "retired", "rejected")
MODEL_STATUSES = ("candidate", "active", "retired", "refused")
CALIBRATIONS = ("isotonic", "platt", "temperature", "none")


def _probability(column: str) -> list[sa.SchemaItem]:
    return [
        sa.Column(column, sa.Numeric(9, 8)),
        sa.CheckConstraint(f"{column} between 0 and 1", name=column),
    ]


def _of(column: str, *, required: bool = True) -> list[Any]:
    return [
        sa.Column(column, Uuid, nullable=not required),
        sa.ForeignKeyConstraint(
            ["tenant_id", column], ["books.transactions.tenant_id", "books.transactions.id"], ondelete="CASCADE"
        ),
    ]  # fmt: skip


def _account(column: str, *, required: bool = True) -> list[Any]:
    return [
        sa.Column(column, sa.Text, nullable=not required),
        sa.ForeignKeyConstraint(["tenant_id", column], ["books.accounts.tenant_id", "books.accounts.code"]),
    ]


# Append-only; the newest version holds. What may be set stands in `kernel.books.settings`.
books_settings = table(
    "books",
    "books_settings",
    tenant_id(),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("payload", Json, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("created_at", Timestamp, nullable=False),
    check("version > 0", "version"),
    check("jsonb_typeof(payload) = 'object'", "payload"),
)

# A tenant's own rules; those of everybody stand in a file of the platform. A rule means an account or a category, which
# the chart of accounts maps to one. `conditions`: sign, least and most amount, bank account.
rules = table(
    "books",
    "rules",
    tenant_id(),
    row_id(),
    one_of("match", RULE_MATCHES, nullable=False),
    sa.Column("pattern", sa.Text, nullable=False),
    empty_json("conditions"),
    _account("account_code", required=False),
    sa.Column("category", sa.Text),
    sa.Column("priority", sa.Integer, nullable=False, server_default="100"),
    one_of("status", RULE_STATUSES, default="candidate", nullable=False),
    empty_json("evidence"),
    sa.Column("proposed_by", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", Timestamp),
    created_at(),
    check("(account_code is null) <> (category is null)", "means_one"),
    check("length(pattern) between 1 and 200", "pattern"),
    check("(status = 'candidate') = (decided_at is null)", "decided_at"),
    sa.Index(
        "rules_active_key", "tenant_id", "match", "pattern", "conditions",
        unique=True, postgresql_where=sa.text("status in ('candidate', 'active')"),
    ),
)  # fmt: skip

# What a person said of a transaction; the newest counts. Append-only.
labels = table(
    "books",
    "labels",
    tenant_id(),
    sa.Column("txn_id", Uuid, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    _account("account_code"),
    one_of("source", LABEL_SOURCES, nullable=False),
    # Of the decision that the person looked at.
    sa.Column("decision_number", sa.BigInteger),
    sa.Column("labelled_by", sa.Text, nullable=False),
    sa.Column("labelled_at", Timestamp, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "txn_id"], ["books.transactions.tenant_id", "books.transactions.id"], ondelete="CASCADE"
    ),
    check("number > 0", "number"),
    sa.Index("labels_time_idx", "tenant_id", "labelled_at"),
)  # fmt: skip

# A model as it was trained; tenants that learn together have a row each of one `version`. The file is read only when its
# bytes are those of `sha256`. `trained_before`: labels that were known by then.
models = table(
    "books",
    "models",
    tenant_id(),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("pool", sa.Text),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("trained_before", Timestamp, nullable=False),
    sa.Column("trained_at", Timestamp, nullable=False),
    sa.Column("label_count", sa.Integer, nullable=False),
    empty_json("parameters"),
    empty_json("metrics"),
    one_of("status", MODEL_STATUSES, default="candidate", nullable=False),
    sa.Column("reason", sa.Text),
    sa.Index(
        "models_active_key", "tenant_id", unique=True, postgresql_where=sa.text("status = 'active'")
    ),
)  # fmt: skip

# How raw probabilities become calibrated ones; the newest of a tenant holds. Fitted on decisions that were logged before
# their labels were known. Append-only.
calibrators = table(
    "books",
    "calibrators",
    tenant_id(),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("fitted_at", Timestamp, nullable=False),
    sa.Column("window_from", Timestamp, nullable=False),
    sa.Column("window_to", Timestamp, nullable=False),
    one_of("method", CALIBRATIONS, nullable=False),
    empty_json("parameters"),
    empty_json("metrics"),
    sa.Column("label_count", sa.Integer, nullable=False),
    check("window_from < window_to", "window_to"),
)

# From which calibrated probability on lines may be posted, and on what proof; no threshold: the gate is closed, and
# `reason` says why. The newest of a tenant holds. Append-only.
certificates = table(
    "books",
    "certificates",
    tenant_id(),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("certified_at", Timestamp, nullable=False),
    sa.Column("expires_at", Timestamp, nullable=False),
    _probability("threshold"),
    sa.Column("target", sa.Numeric(9, 8), nullable=False),
    _probability("lower_bound"),
    sa.Column("checked_count", sa.Integer, nullable=False),
    sa.Column("right_count", sa.Integer, nullable=False),
    sa.Column("calibrator_version", sa.Text),
    sa.Column("reason", sa.Text),
    empty_json("detail"),
    check("number > 0", "number"),
    check("(threshold is null) = (reason is not null)", "reason"),
    check("expires_at > certified_at", "expires_at"),
)

# Each decision of the machine: what it proposed, how sure, which gates it did not pass and by which versions. Append-only,
# each bound to the one before it.
decisions = table(
    "books",
    "decisions",
    tenant_id(),
    sa.Column("number", sa.BigInteger, primary_key=True),
    _of("txn_id"),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("decided_at", Timestamp, nullable=False),
    sa.Column("vendor", sa.Text, nullable=False),
    sa.Column("proposed_account", sa.Text),
    _probability("raw_p"),
    _probability("calibrated_p"),
    _probability("threshold"),
    one_of("verdict", VERDICTS, nullable=False),
    one_of("not_auto_post_reason", NOT_AUTO_POST_REASONS),
    sa.Column("failures", pg.ARRAY(sa.Text), nullable=False),
    # Drawn to be looked at by a person although it passed.
    sa.Column("is_audited", sa.Boolean, nullable=False),
    sa.Column("label_count", sa.Integer, nullable=False),
    sa.Column("is_new_vendor", sa.Boolean, nullable=False),
    sa.Column("ruleset_version", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("calibrator_version", sa.Text, nullable=False),
    sa.Column("config_version", sa.Text, nullable=False),
    sa.Column("feature_hash", sa.Text, nullable=False),
    sa.Column("explain", Json, nullable=False),
    sa.Column("previous_hash", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    check("(verdict = 'review') = (not_auto_post_reason is not null)", "reason_of_review"),
    check("verdict = 'review' or proposed_account is not null", "proposed_account"),
    sa.Index("decisions_txn_idx", "tenant_id", "txn_id", "number"),
    sa.Index("decisions_time_idx", "tenant_id", "decided_at"),
)

# How sure the second stage was of a decision's proposal, and what it had seen of the line: numbers of four bytes, in the
# order of `ml.confidence`, which is fitted on them once labels are known. Append-only.
decision_confidence = table(
    "books",
    "decision_confidence",
    tenant_id(),
    sa.Column("number", sa.BigInteger, primary_key=True),
    _probability("confidence"),
    sa.Column("seen", sa.LargeBinary, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "number"], ["books.decisions.tenant_id", "books.decisions.number"], ondelete="CASCADE"
    ),
)
