-- The weekly digest: what CFOs are told. Test tenants and tenants that are switched off are in none of it.

-- tenants --
-- Who the digest speaks of: everyone for the platform, else the tenants of the user.
select tenants.id, tenants.slug, tenants.name, tenants.cfo_expansion_enabled as gates_enabled,
    tenants.revenue_os_activated_at as activated_at,
    coalesce(config.payload ->> 'reporting_currency', tenants.default_currency) as currency
from spine.tenants
left join lateral (
    select payload from spine.config_versions
    where config_versions.tenant_id = tenants.id and valid_from < :until order by valid_from desc limit 1
) as config on true
where tenants.status = 'active' and tenants.revenue_os_enabled
    and (cast(:tenant_ids as uuid[]) is null or tenants.id = any(cast(:tenant_ids as uuid[])))
    and (:platform or exists (
        select from spine.user_tenants
        where user_tenants.tenant_id = tenants.id and user_tenants.user_id = :user_id
    ))
order by tenants.name, tenants.id

-- memberships --
-- Those of some tenants that a user belongs to.
select tenant_id from spine.user_tenants where user_id = :user_id and tenant_id = any(cast(:tenant_ids as uuid[]))

-- users --
-- Everybody who belongs to any tenant.
select distinct user_id, name from spine.user_tenants

-- metrics --
-- Each metric's newest known value up to the week's end, with day and status of its newest row; the newest known
-- value of the week before; and the mean of the 14 days before the tenant was switched on.
select tenants.id as tenant_id, asked.metric_id, known.date, known.value, newest.value_status as status, newest.date as computed,
    earlier.value as earlier_value, baseline.value as baseline_value
from spine.tenants
cross join unnest(cast(:metric_ids as text[])) as asked (metric_id)
left join lateral (
    select date, value from analytics.metric_snapshots_daily
    where tenant_id = tenants.id and metric_id = asked.metric_id and dimension_key = '' and value_status = 'ok'
        and date between :oldest and :last
    order by date desc limit 1
) as known on true
left join lateral (
    select date, value_status from analytics.metric_snapshots_daily
    where tenant_id = tenants.id and metric_id = asked.metric_id and dimension_key = '' and date <= :last
    order by date desc limit 1
) as newest on true
left join lateral (
    select value from analytics.metric_snapshots_daily
    where tenant_id = tenants.id and metric_id = asked.metric_id and dimension_key = '' and value_status = 'ok'
        and date >= :first - 7 and date < :first
    order by date desc limit 1
) as earlier on true
left join lateral (
    select avg(value) as value from analytics.metric_snapshots_daily
    where tenant_id = tenants.id and metric_id = asked.metric_id and dimension_key = '' and value_status = 'ok'
        and date >= (tenants.revenue_os_activated_at at time zone 'UTC')::date - 14
        and date < (tenants.revenue_os_activated_at at time zone 'UTC')::date
) as baseline on true
where tenants.id = any(cast(:tenant_ids as uuid[]))

-- actions --
-- Every action that came to its end in the week, whatever its target, with who approved it.
select actions.tenant_id, actions.action_id, actions.hypothesis, actions.target_metric, actions.execution_status,
    actions.outcome, actions.reason, actions.closed_at, actions.requires_acknowledgment,
    coalesce(approvers.name, actions.acknowledged_by::text) as approver,
    results.baseline_value, results.observed_value, results.confidence,
    results.metadata #>> '{economics,outcome}' as economics
from spine.optimization_actions as actions
left join spine.user_tenants as approvers
    on approvers.tenant_id = actions.tenant_id and approvers.user_id = actions.acknowledged_by
left join spine.optimization_action_results as results
    on results.tenant_id = actions.tenant_id and results.optimization_action_id = actions.id
    and results.metric_id = actions.target_metric
where actions.tenant_id = any(cast(:tenant_ids as uuid[])) and actions.execution_status in ('closed', 'reverted')
    and actions.closed_at >= :since and actions.closed_at < :until
order by actions.closed_at, actions.id

-- gates --
-- In how many cycles of the week each gate was triggered.
select cycles.tenant_id, gate, count(*) as cycles
from spine.optimization_cycles as cycles
cross join unnest(cycles.cfo_gates_active) as gate
where cycles.tenant_id = any(cast(:tenant_ids as uuid[])) and cycles.status = 'completed'
    and cycles.invoked_at >= :since and cycles.invoked_at < :until
group by cycles.tenant_id, gate
order by cycles.tenant_id, gate
