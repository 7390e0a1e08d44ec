-- Cycles, from what asks for one to what it left behind.

-- enabled --
-- Who may have cycles at all.
select id from spine.tenants where revenue_os_enabled and status <> 'suspended' order by slug

-- asked --
-- Of the tenants whose triggers wait, the trigger that speaks for the cycle: the first kind in order, then the oldest.
select distinct on (triggers.tenant_id) triggers.tenant_id, triggers.trigger_type as type, triggers.source,
    triggers.triggered_at
from spine.cycle_triggers as triggers
inner join spine.tenants on tenants.id = triggers.tenant_id
where triggers.consumed_at is null and triggers.triggered_at > :not_before and triggers.triggered_at <= :at
    and tenants.revenue_os_enabled and tenants.status <> 'suspended'
order by triggers.tenant_id,
    array_position(array['scheduled', 'metric_deviation', 'lifecycle_event', 'manual'], triggers.trigger_type),
    triggers.source = :weekly desc, triggers.triggered_at, triggers.dedupe_key

-- due --
-- How many of them the separation does not hold back.
select count(distinct triggers.tenant_id)
from spine.cycle_triggers as triggers
inner join spine.tenants on tenants.id = triggers.tenant_id
where triggers.consumed_at is null and triggers.triggered_at > :not_before and triggers.triggered_at <= :at
    and tenants.revenue_os_enabled and tenants.status <> 'suspended'
    and not exists (
        select from spine.optimization_cycles as cycles
        where cycles.tenant_id = tenants.id and cycles.invoked_at > :separated_from
            and (cycles.status = 'completed' or cycles.invoked_at > :failed_from)
    )

-- lock --
-- One cycle of a tenant at a time; whoever waits looks again at what the other left.
select pg_advisory_xact_lock(hashtextextended('optimization_cycles ' || cast(:tenant_id as text), 0))

-- admission --
-- Holds the switch until the cycle is stored: turning it off waits, and stops everything after.
select tenants.revenue_os_enabled and tenants.status <> 'suspended' as is_enabled, wanted.mode,
    (
        select max(invoked_at) from spine.optimization_cycles as cycles
        where cycles.tenant_id = tenants.id and cycles.status = 'completed' and cycles.mode = wanted.mode
    ) as last_cycle_at
from spine.tenants
cross join lateral (
    -- A mode nobody knows carries nothing out.
    select case when coalesce(cast(:mode as text), config ->> 'kernel_mode', 'enforce') = 'enforce' then 'enforce' else 'shadow' end
        as mode
) as wanted
where tenants.id = :tenant_id
for share of tenants

-- start --
insert into spine.optimization_cycles
    (tenant_id, id, invoked_at, status, trigger_type, trigger_source, mode, config_version_id, weights_version,
    metrics_date)
values (:tenant_id, :id, :at, 'running', :trigger_type, :trigger_source, :mode, :config_version_id, :weights_version,
    :metrics_date)

-- complete --
update spine.optimization_cycles set
    status = 'completed', binding_constraint = :binding_constraint, priority_metric_id = :priority_metric,
    input_snapshot_ref = cast(:input_snapshot_ref as jsonb), raw_kernel_output = cast(:output as jsonb),
    trace = cast(:output as jsonb) -> 'trace', cfo_gates_active = :gates, duration_ms = :duration_ms,
    finished_at = :finished_at
where tenant_id = :tenant_id and id = :id

-- fail --
-- A failed cycle holds nothing back; a tenant that does not exist leaves no row.
insert into spine.optimization_cycles
    (tenant_id, id, invoked_at, status, error_message, trigger_type, trigger_source, mode, duration_ms, finished_at)
select tenants.id, :id, :at, 'failed', :error_message, :trigger_type, :trigger_source,
    case when coalesce(cast(:mode as text), config ->> 'kernel_mode', 'enforce') = 'enforce' then 'enforce' else 'shadow' end,
    :duration_ms, :finished_at
from spine.tenants
where tenants.id = :tenant_id

-- count --
-- The day's tally of a tenant.
insert into ops.kernel_cycle_slo
    (tenant_id, cycle_date, cycles_attempted, cycles_succeeded, cycles_failed, economics_actions_count)
select tenants.id, :cycle_date, 1, :succeeded, 1 - :succeeded, :economics_actions
from spine.tenants where tenants.id = :tenant_id
on conflict (tenant_id, cycle_date) do update set
    cycles_attempted = kernel_cycle_slo.cycles_attempted + 1,
    cycles_succeeded = kernel_cycle_slo.cycles_succeeded + excluded.cycles_succeeded,
    cycles_failed = kernel_cycle_slo.cycles_failed + excluded.cycles_failed,
    economics_actions_count = kernel_cycle_slo.economics_actions_count + excluded.economics_actions_count,
    updated_at = :at

-- consume --
-- A cycle answers everything that asked for one before it.
update spine.cycle_triggers set consumed_at = :at, optimization_cycle_id = :id
where tenant_id = :tenant_id and consumed_at is null and triggered_at <= :at

-- expire --
-- What nobody answered within the age the contract allows is put away without a cycle.
update spine.cycle_triggers set consumed_at = :at
where consumed_at is null and triggered_at <= :not_before
    and (cast(:tenant_ids as uuid[]) is null or tenant_id = any(:tenant_ids))

-- newest --
-- The newest finished cycle of each tenant.
select distinct on (tenants.slug) tenants.slug, cycles.id, cycles.invoked_at, cycles.status, cycles.error_message,
    cycles.mode, cycles.raw_kernel_output, cycles.metrics_date
from spine.optimization_cycles as cycles
inner join spine.tenants on tenants.id = cycles.tenant_id
where :everyone or cycles.tenant_id = any(cast(:tenant_ids as uuid[]))
order by tenants.slug, cycles.invoked_at desc, cycles.created_at desc

-- one --
-- A cycle by its id.
select cycles.tenant_id, tenants.slug, cycles.id, cycles.invoked_at, cycles.status, cycles.error_message, cycles.mode,
    cycles.trigger_type, cycles.trigger_source, cycles.config_version_id, cycles.weights_version,
    cycles.metrics_date, cycles.input_snapshot_ref, cycles.trace
from spine.optimization_cycles as cycles
inner join spine.tenants on tenants.id = cycles.tenant_id
where cycles.id = :id

-- states --
-- What triggers look at: the newest known values of the last week against which targets are held.
with newest as (
    select tenant_id, max(date) as day
    from analytics.metric_snapshots_daily
    where tenant_id = any(cast(:tenant_ids as uuid[])) and metric_id = 'data_coverage_pct' and dimension_key = ''
        and date <= :as_of
    group by tenant_id
),

recent as (
    select distinct on (snapshots.tenant_id, snapshots.metric_id)
        snapshots.tenant_id, snapshots.metric_id, snapshots.date, snapshots.value, snapshots.value_status
    from newest
    inner join analytics.metric_snapshots_daily as snapshots
        on snapshots.tenant_id = newest.tenant_id and snapshots.dimension_key = ''
        and snapshots.date between newest.day - 6 and newest.day
        and snapshots.metric_id in ('cac_blended', 'payback_months', 'pipeline_total', 'opps_created')
    where snapshots.value_status in ('ok', 'infinite') and snapshots.date > :as_of - 7
    order by snapshots.tenant_id, snapshots.metric_id, snapshots.date desc
)

select tenant_id, metric_id, date, value, value_status from recent
union all
-- The target for bookings is a month's, so 30 days are held against it; a month with an unknown day tells nothing.
select newest.tenant_id, 'bookings_new', newest.day, sum(snapshots.value), 'ok'
from newest
inner join analytics.metric_snapshots_daily as snapshots
    on snapshots.tenant_id = newest.tenant_id and snapshots.dimension_key = '' and snapshots.metric_id = 'bookings_new'
    and snapshots.date between newest.day - 29 and newest.day
where newest.day > :as_of - 7
group by newest.tenant_id, newest.day
having count(snapshots.value) = 30

-- trigger_states --
select tenant_id, name, is_armed, last_fired_at, watermark from spine.trigger_states
where tenant_id = any(cast(:tenant_ids as uuid[]))

-- remember --
insert into spine.trigger_states (tenant_id, name, is_armed, last_fired_at, watermark)
values (:tenant_id, :name, :is_armed, :last_fired_at, :watermark)
on conflict (tenant_id, name) do update set
    is_armed = excluded.is_armed, last_fired_at = excluded.last_fired_at, watermark = excluded.watermark

-- enqueue --
-- Asking twice is asking once.
insert into spine.cycle_triggers (tenant_id, dedupe_key, trigger_type, source, detail, triggered_at)
values (:tenant_id, :dedupe_key, :trigger_type, :source, cast(:detail as jsonb), :at)
on conflict (tenant_id, dedupe_key) do nothing
returning 1

-- launched --
-- Campaigns that have now run for 48 hours and had not at the watermark.
select campaigns.tenant_id, campaigns.id, campaigns.name
from unnest(cast(:tenant_ids as uuid[]), cast(:watermarks as timestamptz[])) as scope (tenant_id, watermark)
inner join spine.spine_campaigns as campaigns on campaigns.tenant_id = scope.tenant_id
where campaigns.status = 'running'
    and campaigns.start_date::timestamp at time zone 'UTC' + interval '48 hours' > scope.watermark
    and campaigns.start_date::timestamp at time zone 'UTC' + interval '48 hours' <= :at
order by campaigns.tenant_id, campaigns.id

-- learned --
-- Actions closed since the newest cycle, within a week.
select tenants.id as tenant_id, last_cycle.id as cycle_id, count(*) as closed
from spine.tenants
left join lateral (
    select id, invoked_at from spine.optimization_cycles as cycles
    where cycles.tenant_id = tenants.id and cycles.status = 'completed' and cycles.invoked_at <= :at
    order by invoked_at desc limit 1
) as last_cycle on true
inner join spine.optimization_actions as actions
    on actions.tenant_id = tenants.id and actions.execution_status = 'closed'
    and actions.closed_at > coalesce(last_cycle.invoked_at, '-infinity')
    and actions.closed_at > cast(:at as timestamptz) - interval '7 days' and actions.closed_at <= :at
where tenants.id = any(cast(:tenant_ids as uuid[]))
group by tenants.id, last_cycle.id
