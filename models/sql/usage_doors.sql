-- What the doors of usage ask beside the gate, and what late arrivals leave.

-- gauges --
-- Of all tenants, for those who watch the machinery. What was buffered and not recovered waits; drift is what the last
-- counts found, beyond one in a hundred.
select
    (select count(*) from usage.ingest_fallback_buffer where status in ('PENDING', 'PROCESSING'))
        as ingest_fallback_buffer_waiting,
    (select coalesce(extract(epoch from now() - min(created_at)), 0) from usage.ingest_fallback_buffer
        where status in ('PENDING', 'PROCESSING')) as ingest_fallback_buffer_oldest_seconds,
    (select count(*) from usage.ingest_fallback_buffer where status = 'QUARANTINE')
        as ingest_fallback_buffer_quarantined,
    count(*) filter (where status = 'COMPLETED') as billing_reconciliation_jobs_ok,
    count(*) filter (where status in ('FAILED', 'DEAD')) as billing_reconciliation_jobs_failed,
    count(distinct (tenant_id, site_id)) filter (
        where status = 'COMPLETED' and last_drift_pct > 0.01 and updated_at > now() - interval '1 hour'
    ) as billing_reconciliation_drift_sites_last1h
from usage.billing_reconciliation_jobs

-- months --
select year_month, state from usage.usage_periods
where tenant_id = :tenant_id and year_month = any(cast(:months as text[]))

-- may_begin --
-- Months that are over and that nobody has begun, of those that are closed one after the other: from the tenant's first one
-- on, and before any that is closed.
select wanted.year_month
from unnest(cast(:months as text[])) as wanted (year_month)
where wanted.year_month < :now
    and wanted.year_month >= least(
        (select min(year_month) from usage.usage_periods where tenant_id = :tenant_id),
        (select usage.utc_year_month(min(valid_from)) from usage.site_plans where tenant_id = :tenant_id)
    )
    and not exists (
        select from usage.usage_periods as periods
        where periods.tenant_id = :tenant_id and (
            periods.year_month = wanted.year_month
            or periods.year_month > wanted.year_month and periods.state in ('CLOSED', 'ADJUSTED')
        )
    )
order by wanted.year_month

-- hold_months --
-- As the gate holds them: none of them changes its state before what was decided by it is written.
select year_month, state from usage.usage_periods
where tenant_id = :tenant_id and year_month = any(cast(:months as text[]))
order by year_month
for share

-- known --
-- Which of the keys are metered, adjusted as late, or archived already. Lateral, as the gate looks them up.
select wanted.place, stored.is_refused
from unnest(cast(:keys as text[]), cast(:places as int[])) as wanted (key, place)
cross join lateral (
    select billing_state = 'REJECTED_QUOTA' as is_refused from usage.ingest_idempotency
    where tenant_id = :tenant_id and site_id = :site_id and idempotency_key = wanted.key
    union all
    select false from usage.usage_adjustments
    where tenant_id = :tenant_id and site_id = :site_id and idempotency_key = wanted.key and kind = 'late'
    union all
    select false from usage.archived_keys
    where tenant_id = :tenant_id and site_id = :site_id and idempotency_key = wanted.key
    limit 1
) as stored

-- adjust_late --
-- One unit for each event that came when its month was closed, once per key; it waits for approval.
insert into usage.usage_adjustments (
    tenant_id, site_id, year_month, of_year_month, idempotency_key, quantity, kind, reason, asked_by, created_at
)
select :tenant_id, :site_id, :month, late.*, 1, 'late', :reason, :actor, :at
from unnest(cast(:of_months as text[]), cast(:keys as text[])) as late (of_year_month, idempotency_key)
on conflict (site_id, idempotency_key, kind, tenant_id) where idempotency_key is not null and refused_at is null do nothing
returning idempotency_key

-- hold_file --
-- Of two who hand over the same file at once, one waits and finds when it came.
select pg_advisory_xact_lock(hashtextextended(:site_id || ' ' || :digest, 4))

-- archived --
-- Of these months, those whose rows left the ledger, or may at any time: what was metered of them is not known any more.
select year_month from usage.usage_archives
where tenant_id = :tenant_id and site_id = :site_id and year_month = any(cast(:months as text[]))

-- arrival --
-- When a file came first, and the version of the keys that were made of it then.
select started_at, nullif(substr(mapping_name, length('usage keys ') + 1), '') as version from ops.load_batches
where tenant_id = :tenant_id and file_sha256 = :digest and fact = 'usage' and source_system = :site
order by started_at
limit 1

-- note_arrival --
-- What failed is taken again under its own row, however often: when the file came first stands there.
with again as (
    update ops.load_batches set status = 'running', file_name = :file, finished_at = null, error = null
    where tenant_id = :tenant_id and id = (
        select id from ops.load_batches
        where tenant_id = :tenant_id and file_sha256 = :digest and fact = 'usage' and source_system = :site
            and status = 'failed'
        order by started_at limit 1
    )
    returning id
), new as (
    insert into ops.load_batches (
        tenant_id, fact, source_system, file_name, file_sha256, mapping_name, status, started_at
    )
    select :tenant_id, 'usage', :site, :file, :digest, concat('usage keys ', cast(:version as text)), 'running', :at
    where not exists (select from again)
    returning id
)
select id from again union all select id from new

-- note_end --
-- Of all tries together: what an earlier one metered comes again as duplicates.
update ops.load_batches
set status = :status, rows_read = greatest(rows_read, :read), rows_inserted = rows_inserted + :new,
    rows_unchanged = greatest(:duplicates - rows_inserted, 0), rows_rejected = greatest(rows_rejected, :refused),
    finished_at = :at, error = :error
where tenant_id = :tenant_id and id = :id

-- counted --
-- What a month of each site came to, with what was refused of it.
select sites.id, sites.public_id, sites.name, sites.closed_at, coalesce(counters.accepted, 0) as used,
    coalesce(counters.overage, 0) as overage, coalesce(counters.rejected, 0) as refused
from usage.sites
left join usage.usage_counters as counters on counters.tenant_id = sites.tenant_id
    and counters.site_id = sites.id and counters.year_month = :month
where sites.tenant_id = :tenant_id
order by sites.created_at, sites.public_id

-- close_site --
update usage.sites set status = 'closed', closed_at = :at where tenant_id = :tenant_id and id = :site_id and status = 'active'

-- revision --
select max(version_num) from alembic_version

-- drop_plans --
-- Of a closed site, those that were to begin later: they never held.
delete from usage.site_plans where tenant_id = :tenant_id and site_id = :site_id and valid_from >= :at

-- end_plans --
update usage.site_plans set valid_to = :at
where tenant_id = :tenant_id and site_id = :site_id and (valid_to is null or valid_to > :at)
