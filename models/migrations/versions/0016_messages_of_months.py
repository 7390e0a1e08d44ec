"""Messages name their month, so that a month's are counted without a look at each key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models.base import Uuid

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_MESSAGES = ("usage_outbox", "ingest_fallback_buffer")
_MONTH = r"year_month ~ '^\d{4}-(0[1-9]|1[0-2])$'"

# The month of a message's rows; of one that has rows no more, the month it was written in.
_FILL = """
update usage.{table} as messages set year_month = coalesce(
    (
        select ledger.year_month from usage.ingest_idempotency as ledger
        where ledger.tenant_id = messages.tenant_id and ledger.site_id = messages.site_id
            and ledger.idempotency_key = messages.keys[1]
    ),
    usage.utc_year_month(created_at)
)
"""
# What was recovered was written to the outbox again, under the same keys.
_FILL_COPIES = """
update usage.usage_outbox as messages set of_buffer = buffer.id
from usage.ingest_fallback_buffer as buffer
where buffer.tenant_id = messages.tenant_id and buffer.site_id = messages.site_id and buffer.status = 'RECOVERED'
    and buffer.keys = messages.keys
"""

# The number is read once a statement and not once a row.
_GUARD_TXID = """
create or replace function usage.guard_ledger_txid() returns trigger
language plpgsql as $$
declare
    this constant bigint := pg_current_xact_id()::text::bigint;
begin
    if exists (select from new_rows where txid <> this) then
        raise exception 'txid is the number of the transaction that writes the row: leave it to its default'
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$
"""


def upgrade() -> None:
    for table in _MESSAGES:
        op.add_column(table, sa.Column("year_month", sa.Text), schema="usage")
        op.execute(_FILL.format(table=table))
        op.alter_column(table, "year_month", nullable=False, schema="usage")
        op.create_check_constraint(op.f(f"{table}_year_month_check"), table, _MONTH, schema="usage")
        op.add_column(
            table,
            sa.Column("events", sa.Integer, sa.Computed("cardinality(keys)", persisted=True), nullable=False),
            schema="usage",
        )
        op.create_index(f"{table}_month_idx", table, ["site_id", "year_month", "tenant_id"], schema="usage")
    op.add_column("usage_outbox", sa.Column("of_buffer", Uuid), schema="usage")
    op.execute(_FILL_COPIES)
    # Digests: compressing them costs more than it saves.
    for table in _MESSAGES:
        op.execute(f"alter table usage.{table} alter column keys set storage external")
    op.execute(_GUARD_TXID)
