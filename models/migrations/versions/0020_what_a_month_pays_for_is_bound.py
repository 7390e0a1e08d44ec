"""A snapshot binds the adjustments its month pays for, and rows leave the ledger for an archive that its snapshot proves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

# What an archive says of itself is believed when the close said the same.
_GUARD_DELETE = """
create or replace function usage.guard_ledger_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from old_rows where expires_at > clock_timestamp()) or exists (
        select from (select distinct tenant_id, site_id, year_month from old_rows) as gone
        inner join spine.tenants on tenants.id = gone.tenant_id
        left join usage.usage_archives as archives using (tenant_id, site_id, year_month)
        left join usage.invoice_snapshot as frozen using (tenant_id, site_id, year_month)
        left join usage.usage_periods as periods using (tenant_id, year_month)
        where (
            periods.state in ('CLOSED', 'ADJUSTED') and archives.sha256 ~ '^[0-9a-f]{64}$'
            and (archives.row_count, archives.merkle_root) = (frozen.row_count, frozen.merkle_root)
        ) is not true
    ) then
        raise exception 'a row of the ledger stays until its key has expired, and its month is closed and archived:'
            ' the archive has the rows and the root of the snapshot' using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$
"""


def upgrade() -> None:
    op.add_column("invoice_snapshot", sa.Column("adjustments_hash", sa.Text()), schema="usage")
    op.create_check_constraint(
        op.f("invoice_snapshot_adjustments_hash_check"), "invoice_snapshot", "adjustments_hash ~ '^[0-9a-f]{64}$'",
        schema="usage",
    )  # fmt: skip
    op.execute(_GUARD_DELETE)
