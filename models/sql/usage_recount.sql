-- Which months changed, who counts them, and what the places that know a month say about it.

-- make_watermark --
insert into usage.usage_watermark (tenant_id, txid, updated_at) values (:tenant_id, 0, :at) on conflict do nothing

-- hold_watermark --
-- One looks through a tenant's ledger at a time.
select txid from usage.usage_watermark where tenant_id = :tenant_id for update

-- find --
-- All in one snapshot: below its oldest transaction under way no row is still to come. A mark above it is that of another
-- server, from which the tenant was restored. The first look is at every row: numbers of others say nothing here.
with reach as materialized (
    select marks.txid as from_txid, now_.xmin as to_txid, marks.txid = 0 or marks.txid > now_.xmin as is_first
    from usage.usage_watermark as marks
    cross join (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xmin) as now_
    where marks.tenant_id = :tenant_id
), moved as (
    update usage.usage_watermark as marks set txid = reach.to_txid, updated_at = :at
    from reach
    where marks.tenant_id = :tenant_id
)
insert into usage.billing_reconciliation_jobs as jobs (
    tenant_id, site_id, year_month, due_at, changed_to, created_at, updated_at
)
select :tenant_id, site_id, year_month, cast(:at as timestamptz),
    coalesce(max(txid) filter (where txid < (select to_txid from reach)), 0),
    cast(:at as timestamptz), cast(:at as timestamptz)
from usage.ingest_idempotency
where tenant_id = :tenant_id and (
    (select is_first from reach) or txid >= (select from_txid from reach) and txid < (select to_txid from reach)
)
group by site_id, year_month
order by site_id, year_month
on conflict (tenant_id, site_id, year_month) do update
set status = case when jobs.status in ('PROCESSING', 'DEAD') then jobs.status else 'QUEUED' end,
    attempt_count = case when jobs.status in ('PROCESSING', 'DEAD') then jobs.attempt_count else 0 end,
    due_at = case when jobs.status in ('PROCESSING', 'DEAD') then jobs.due_at else excluded.due_at end,
    changed_to = greatest(
        case when jobs.changed_to < (select to_txid from reach) then jobs.changed_to end, excluded.changed_to
    ),
    updated_at = excluded.updated_at
returning site_id, year_month

-- queue --
-- What a person asks for, dead ones too. One that is being counted is left to whoever counts it.
insert into usage.billing_reconciliation_jobs as jobs (tenant_id, site_id, year_month, due_at, created_at, updated_at)
select :tenant_id, site_id, :month, cast(:at as timestamptz), cast(:at as timestamptz), cast(:at as timestamptz)
from unnest(cast(:sites as uuid[])) as asked (site_id)
order by site_id
on conflict (tenant_id, site_id, year_month) do update
set status = 'QUEUED', attempt_count = 0, due_at = excluded.due_at, updated_at = excluded.updated_at
where jobs.status <> 'PROCESSING'
returning site_id

-- bury --
-- Whoever held it died too often.
update usage.billing_reconciliation_jobs
set status = 'DEAD', lease_owner = null, lease_expires_at = null, updated_at = :at,
    last_error = coalesce(last_error, 'whoever counted it ended before it was done')
where status = 'PROCESSING' and lease_expires_at <= :at and attempt_count >= :attempts

-- claim --
update usage.billing_reconciliation_jobs
set status = 'PROCESSING', attempt_count = attempt_count + 1, locked_at = :at, lease_owner = :owner,
    lease_expires_at = cast(:until as timestamptz), updated_at = :at
where (tenant_id, site_id, year_month) = (
    select tenant_id, site_id, year_month
    from usage.billing_reconciliation_jobs
    where (
        status in ('QUEUED', 'FAILED') and due_at <= :at
        or status = 'PROCESSING' and lease_expires_at <= :at
    ) and (tenant_id, site_id, year_month) not in (
        select * from unnest(cast(:not_tenants as uuid[]), cast(:not_sites as uuid[]), cast(:not_months as text[]))
    ) and (cast(:only_tenant as uuid) is null or tenant_id = cast(:only_tenant as uuid))
        and (cast(:only_month as text) is null or year_month = cast(:only_month as text))
    order by due_at, tenant_id, site_id, year_month
    limit 1
    for update skip locked
)
returning tenant_id, site_id, year_month, attempt_count

-- finish --
-- What changed since the count began is counted again; a change that no transaction here can have made is that of another
-- server, and is seen by now. Nothing when somebody else took it over.
update usage.billing_reconciliation_jobs
set status = case
        when changed_to >= :counted_to and changed_to < pg_snapshot_xmin(pg_current_snapshot())::text::bigint then 'QUEUED'
        else 'COMPLETED'
    end,
    changed_to = case when changed_to < pg_snapshot_xmin(pg_current_snapshot())::text::bigint then changed_to else 0 end,
    attempt_count = 0, locked_at = null, lease_owner = null, lease_expires_at = null, last_error = null, due_at = :at,
    last_drift_pct = :share, drift = cast(:drift as jsonb), counted_to = :counted_to, updated_at = :at
where tenant_id = :tenant_id and site_id = :site_id and year_month = :month
    and status = 'PROCESSING' and lease_owner = :owner
returning status

-- fail --
update usage.billing_reconciliation_jobs
set status = case when attempt_count >= :attempts or :is_final then 'DEAD' else 'FAILED' end,
    locked_at = null, lease_owner = null, lease_expires_at = null, last_error = :error,
    due_at = cast(:at as timestamptz) + make_interval(secs => least(3600, 15 * 2 ^ attempt_count)), updated_at = :at
where tenant_id = :tenant_id and site_id = :site_id and year_month = :month
    and status = 'PROCESSING' and lease_owner = :owner
returning status

-- settle --
-- As counted by whoever closes the month and holds it: there is nothing left to change.
insert into usage.billing_reconciliation_jobs as jobs (
    tenant_id, site_id, year_month, status, last_drift_pct, drift, counted_to, due_at, created_at, updated_at
)
select :tenant_id, counted.site_id, :month, 'COMPLETED', 0, counted.drift, :counted_to,
    cast(:at as timestamptz), cast(:at as timestamptz), cast(:at as timestamptz)
from unnest(cast(:sites as uuid[]), cast(:drifts as jsonb[])) as counted (site_id, drift)
order by counted.site_id
on conflict (tenant_id, site_id, year_month) do update
set status = 'COMPLETED', last_drift_pct = 0, drift = excluded.drift, counted_to = excluded.counted_to,
    last_error = null, locked_at = null, lease_owner = null, lease_expires_at = null, updated_at = excluded.updated_at

-- oldest_under_way --
select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as txid

-- archived --
select site_id, place from usage.usage_archives
where tenant_id = :tenant_id and year_month = :month and site_id = any(cast(:sites as uuid[]))
order by site_id

-- hold_period --
select state from usage.usage_periods where tenant_id = :tenant_id and year_month = :month for share

-- correct --
-- By what it was off, and not to what it should be: captures that came since were added to both.
update usage.usage_counters
set accepted = accepted + :billable, overage = overage + :overage, rejected = rejected + :rejected, updated_at = :at
where tenant_id = :tenant_id and site_id = :site_id and year_month = :month

-- ledger --
-- `newest` is the last transaction that changed it. Rows of one that is still to come here were restored from another
-- server, as if at the beginning of this one.
select site_id, count(*) as rows, count(*) filter (where billable) as billable,
    count(*) filter (where billing_state = 'OVERAGE') as overage,
    count(*) filter (where billing_state = 'REJECTED_QUOTA') as rejected,
    max(case when txid < (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint) then txid else 0 end) as newest
from usage.ingest_idempotency
where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month
    and created_at >= :begins and created_at < :ends
group by site_id

-- counters --
select site_id, accepted as billable, overage, rejected
from usage.usage_counters
where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month

-- snapshot --
select site_id, row_count as rows, event_count as billable, overage_count as overage
from usage.invoice_snapshot
where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month

-- delivered --
-- Rows that messages carry, and those of them whose message was given up. What was recovered is counted where it waited.
select site_id, sum(events)::bigint as rows, coalesce(sum(events) filter (where is_given_up), 0)::bigint as given_up
from (
    select site_id, events, false as is_given_up from usage.usage_outbox
    where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month and of_buffer is null
    union all
    select site_id, events, status = 'QUARANTINE' from usage.ingest_fallback_buffer
    where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month
) as messages
group by site_id

-- is_built --
select to_regclass('analytics.usage_ledger_daily') is not null as daily,
    to_regclass('analytics.site_usage_monthly') is not null as monthly

-- daily_reach --
-- Rows of transactions below it were seen when it was last built here: what was restored says nothing of this server.
select coalesce(max(counted_to), 0) from analytics.usage_ledger_daily
where counted_to <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- monthly_reach --
select coalesce(max(counted_to), 0) from analytics.site_usage_monthly
where counted_to <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint

-- daily --
select site_id, sum(row_count)::bigint as rows, sum(billable_count)::bigint as billable, sum(overage_count)::bigint as overage
from analytics.usage_ledger_daily
where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month
group by site_id

-- monthly --
select site_id, row_count as rows, event_count as billable, overage_count as overage
from analytics.site_usage_monthly
where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month

-- sites_of_month --
-- Those there were: made before it ended, under a plan then, with rows, or with a correction that it pays for.
select id from usage.sites
where tenant_id = :tenant_id and (
    created_at < :ends
    or exists (select from usage.site_plans as plans
        where plans.tenant_id = sites.tenant_id and plans.site_id = sites.id and plans.valid_from < :ends)
    or exists (select from usage.usage_adjustments as adjustments
        where adjustments.tenant_id = sites.tenant_id and adjustments.site_id = sites.id and adjustments.year_month = :month)
    or exists (select from usage.usage_counters as counters
        where counters.tenant_id = sites.tenant_id and counters.site_id = sites.id and counters.year_month = :month)
    or (
        select true from usage.ingest_idempotency as ledger
        where ledger.tenant_id = sites.tenant_id and ledger.site_id = sites.id and ledger.year_month = :month
            and ledger.created_at >= :begins and ledger.created_at < :ends
        limit 1
    )
)
order by id

-- jobs --
select sites.public_id as site, jobs.site_id, jobs.year_month, jobs.status, jobs.attempt_count, jobs.last_drift_pct, jobs.drift,
    jobs.last_error, jobs.due_at, jobs.updated_at
from usage.billing_reconciliation_jobs as jobs
inner join usage.sites as sites on sites.tenant_id = jobs.tenant_id and sites.id = jobs.site_id
where jobs.tenant_id = :tenant_id and (cast(:month as text) is null or jobs.year_month = cast(:month as text))
order by jobs.year_month desc, sites.public_id

-- waiting --
-- Tenants with something to count: rows that would be found, or a count that is due.
select count(distinct tenant_id) from (
    select marks.tenant_id from usage.usage_watermark as marks
    cross join (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as xmin) as now_
    where marks.txid > now_.xmin or exists (
        select from usage.ingest_idempotency as ledger
        where ledger.tenant_id = marks.tenant_id and ledger.txid >= marks.txid and ledger.txid < now_.xmin
    )
    union all
    select sites.tenant_id from usage.sites as sites
    where not exists (select from usage.usage_watermark as marks where marks.tenant_id = sites.tenant_id)
    union all
    select tenant_id from usage.billing_reconciliation_jobs
    where status in ('QUEUED', 'FAILED') and due_at <= :at or status = 'PROCESSING' and lease_expires_at <= :at
) as found
