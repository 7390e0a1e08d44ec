"""Records of the platform's own work: loads, rejected rows, superseded rows, runs per tenant."""

from __future__ import annotations

import sqlalchemy as sa

from models import vocabulary as words
from models.base import Json, Timestamp, Uuid, check, created_at, one_of, row_id, table, tenant_id


def _count(column: str) -> sa.Column:
    return sa.Column(column, sa.BigInteger, nullable=False, server_default="0")


# One row per file and fact.
load_batches = table(
    "ops",
    "load_batches",
    tenant_id(),
    row_id(),
    sa.Column("fact", sa.Text, nullable=False),
    sa.Column("source_system", sa.Text, nullable=False),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("file_sha256", sa.Text, nullable=False),
    sa.Column("mapping_name", sa.Text, nullable=False),
    one_of("status", words.BATCH_STATUSES, default="running", nullable=False),
    _count("rows_read"),
    _count("rows_inserted"),
    _count("rows_updated"),
    _count("rows_unchanged"),
    _count("rows_rejected"),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("finished_at", Timestamp),
    sa.Column("error", sa.Text),
    sa.Index(None, "tenant_id", "file_sha256"),
)

# Kept whole, so that a row can be repaired and loaded again.
rejected_rows = table(
    "ops",
    "rejected_rows",
    tenant_id(),
    row_id(),
    sa.Column("batch_id", Uuid, nullable=False),
    sa.Column("fact", sa.Text, nullable=False),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("line_number", sa.BigInteger, nullable=False),
    sa.Column("field", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("row", Json, nullable=False),
    # The identity the row would have had, by which a later load of its repaired version is recognised.
    sa.Column("row_key", sa.Text),
    sa.Column("rejected_at", Timestamp, nullable=False),
    # Set when a later load accepts the row, or a person drops it.
    sa.Column("resolved_at", Timestamp),
    sa.Column("resolved_by", sa.Text),
    sa.ForeignKeyConstraint(
        ["tenant_id", "batch_id"], ["ops.load_batches.tenant_id", "ops.load_batches.id"], ondelete="CASCADE"
    ),
    sa.Index(None, "tenant_id", "batch_id"),
    sa.Index(None, "tenant_id", "fact", "row_key"),
)

# What a corrected row looked like before. Append-only.
row_history = table(
    "ops",
    "row_history",
    tenant_id(),
    row_id(),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("row_id", Uuid, nullable=False),
    sa.Column("row", Json, nullable=False),
    sa.Column("replaced_at", Timestamp, nullable=False),
    sa.Column("replaced_by_batch_id", Uuid),
    sa.Index(None, "tenant_id", "table_name", "row_id"),
)

# The business days for which a source has handed over everything it had. Inside them, no rows means zero.
source_coverage = table(
    "ops",
    "source_coverage",
    tenant_id(),
    sa.Column("source_system", sa.Text, primary_key=True),
    sa.Column("fact", sa.Text, primary_key=True),
    sa.Column("covered_from", sa.Date, nullable=False),
    sa.Column("covered_to", sa.Date, nullable=False),
    # A source that is not required (a one-off import, a retired system) never makes a tenant stale.
    sa.Column("is_required", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("updated_at", Timestamp, nullable=False),
    check("covered_to >= covered_from", "span"),
)

# The latest hand-over of each source on each day, from which freshness on any past day is read.
source_watermarks = table(
    "ops",
    "source_watermarks",
    tenant_id(),
    sa.Column("source_system", sa.Text, primary_key=True),
    sa.Column("fact", sa.Text, primary_key=True),
    sa.Column("ingested_date", sa.Date, primary_key=True),
    sa.Column("last_ingested_at", Timestamp, nullable=False),
)

# What became of each tenant in each run: one tenant's failure is recorded here and never stops another.
tenant_runs = table(
    "ops",
    "tenant_runs",
    tenant_id(),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("area", sa.Text, primary_key=True),
    one_of("status", words.RUN_STATUSES, nullable=False),
    sa.Column("window_start", sa.Date),
    sa.Column("window_end", sa.Date),
    # The rows that stand in the window, most of which a restatement leaves as they are.
    _count("row_count"),
    sa.Column("error", sa.Text),
    sa.Column("started_at", Timestamp, nullable=False),
    sa.Column("finished_at", Timestamp),
    created_at(),
)
