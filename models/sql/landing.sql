-- What a load records beside its rows. `incoming` is the load's own staging table.

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
select :tenant_id, :source_system, :fact, ({instant} at time zone :time_zone)::date, max({instant})
from incoming
group by 4
on conflict (tenant_id, source_system, fact, ingested_date) do update set
    last_ingested_at = greatest(source_watermarks.last_ingested_at, excluded.last_ingested_at)

-- resolve --
-- Earlier rejects whose row has now been accepted.
update ops.rejected_rows set resolved_at = :now
from incoming, ops.load_batches
where rejected_rows.tenant_id = :tenant_id and rejected_rows.fact = :fact and rejected_rows.resolved_at is null
    and rejected_rows.row_key = incoming.row_key
    and load_batches.tenant_id = rejected_rows.tenant_id and load_batches.id = rejected_rows.batch_id
    and load_batches.source_system = :source_system

-- was_loaded --
-- Whether a file's very content was loaded for the tenant through the mapping before.
select exists (
    select from ops.load_batches
    where tenant_id = :tenant_id and file_sha256 = :digest and mapping_name = :mapping_name
        and source_system = :source_system and status = 'loaded'
)
