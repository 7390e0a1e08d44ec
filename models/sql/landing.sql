-- What a load records beside its rows. `incoming` and `refused` are the load's own staging tables.

-- cover --
-- Widens the span of business days a source speaks for.
insert into ops.source_coverage
    (tenant_id, source_system, fact, covered_from, covered_to, is_required, updated_at)
values (:tenant_id, :source_system, :fact, :first, :last, :is_required, :now)
on conflict (tenant_id, source_system, fact) do update set
    covered_from = least(source_coverage.covered_from, excluded.covered_from),
    covered_to = greatest(source_coverage.covered_to, excluded.covered_to),
    is_required = excluded.is_required,
    updated_at = excluded.updated_at

-- watermark --
-- The latest hand-over on each of the tenant's local days.
insert into ops.source_watermarks (tenant_id, source_system, fact, ingested_date, last_ingested_at)
select :tenant_id, :source_system, :fact, (instant at time zone :time_zone)::date, max(instant)
from (select coalesce(ingested_at, :handed_over) as instant from incoming) as handed_over
group by 4
on conflict (tenant_id, source_system, fact, ingested_date) do update set
    last_ingested_at = greatest(source_watermarks.last_ingested_at, excluded.last_ingested_at)

-- resolve --
-- Earlier rejects whose row has now been accepted.
update ops.rejected_rows set resolved_at = :now
from incoming, ops.load_batches
where rejected_rows.tenant_id = :tenant_id and rejected_rows.fact = :fact and rejected_rows.resolved_at is null
    and rejected_rows.row_key = {row_key}
    and load_batches.tenant_id = rejected_rows.tenant_id and load_batches.id = rejected_rows.batch_id
    and load_batches.source_system = :source_system

-- keep_rejects --
-- Keeps the refused rows; one that still waits from an earlier load of the same line is not kept twice.
insert into ops.rejected_rows
    (tenant_id, batch_id, fact, file_name, line_number, field, reason, row, row_key, rejected_at)
select :tenant_id, :batch_id, :fact, :file_name, line, field, reason, coalesce(row, '{}'), row_key, :now
from refused
where not exists (
    select from ops.rejected_rows as kept
    inner join ops.load_batches
        on load_batches.tenant_id = kept.tenant_id and load_batches.id = kept.batch_id
    where kept.tenant_id = :tenant_id and kept.fact = :fact and kept.resolved_at is null
        and kept.file_name = :file_name and kept.line_number = refused.line and kept.row = refused.row
        and load_batches.source_system = :source_system
)

-- what_became --
-- When a file's very content was first loaded for the tenant through the mapping, and whether it was ever refused.
select
    min(started_at) filter (where status = 'loaded') as loaded_at,
    coalesce(bool_or(status = 'failed'), false) as was_refused
from ops.load_batches
where tenant_id = :tenant_id and file_sha256 = :digest and mapping_name = :mapping_name
    and source_system = :source_system
