-- What became of each tenant in a run.

-- record --
-- One row per tenant and run; a retried run overwrites its own rows.
insert into ops.tenant_runs
    (tenant_id, run_id, area, status, window_start, window_end, error, started_at, finished_at)
values (:tenant_id, :run_id, :area, :status, :window_start, :window_end, :error, :started_at, :finished_at)
on conflict (tenant_id, run_id, area) do update set
    status = excluded.status, error = excluded.error, finished_at = excluded.finished_at

-- count_rows --
-- The snapshot rows that now stand in the run's window, per tenant.
update ops.tenant_runs set row_count = counted.rows
from (
    select tenant_id, count(*) as rows from analytics.metric_snapshots_daily
    where date between :window_start and :window_end and tenant_id = any(cast(:tenant_ids as uuid[]))
    group by tenant_id
) as counted
where tenant_runs.tenant_id = counted.tenant_id and run_id = :run_id and area = 'metrics'

-- of_run --
-- Every tenant of a run with its name and fate.
select tenants.slug, tenant_runs.status, tenant_runs.row_count, tenant_runs.error
from ops.tenant_runs
inner join spine.tenants on tenants.id = tenant_runs.tenant_id
where run_id = :run_id and area = 'metrics'
order by tenants.slug

-- settled --
-- Whether every tenant's span was computed, by one run that ended well, after the last of its facts came in.
select coalesce(bool_and(exists (
    select from ops.tenant_runs
    where tenant_runs.tenant_id = tenants.id and area = 'metrics' and tenant_runs.status = 'succeeded'
        and window_start <= :first and window_end >= :last
        and started_at >= all (
            select finished_at from ops.load_batches
            where load_batches.tenant_id = tenants.id and load_batches.finished_at is not null
        )
)), false)
from spine.tenants
where status <> 'suspended'
