-- What is looked at from above: the day's actions, the gates over time, and rules that nothing may have broken.

-- actions_of_day --
-- What the cycles of a day propose, in the order of rank.
select tenants.slug as tenant, actions.priority_rank as rank, actions.owner_subsystem as subsystem,
    actions.type, actions.target_metric as target, actions.notes_for_humans as action, actions.execution_status,
    actions.cfo_score, actions.expires_at
from spine.optimization_cycles as cycles
inner join spine.tenants on tenants.id = cycles.tenant_id
inner join spine.optimization_actions as actions
    on actions.tenant_id = cycles.tenant_id and actions.optimization_cycle_id = cycles.id
where cycles.invoked_at >= :from_at and cycles.invoked_at < :until_at
order by tenants.slug, cycles.invoked_at, actions.priority_rank

-- gates_by_day --
-- On each day, the tenants whose last cycle stood under each gate.
with last_of_day as (
    select distinct on (tenant_id, (invoked_at at time zone 'UTC')::date)
        tenant_id, (invoked_at at time zone 'UTC')::date as day, cfo_gates_active
    from spine.optimization_cycles
    where status = 'completed' and invoked_at >= :from_at and invoked_at < :until_at
    order by tenant_id, (invoked_at at time zone 'UTC')::date, invoked_at desc
)

select last_of_day.day, gates.gate, count(*) filter (where gates.gate = any(last_of_day.cfo_gates_active)) as tenants
from last_of_day
cross join unnest(cast(:gates as text[])) as gates (gate)
group by last_of_day.day, gates.gate
order by last_of_day.day, gates.gate

-- unacknowledged --
-- Changes that were sent although a human had to agree and did not agree to this very change.
select actions.tenant_id, actions.id, 'sent without the acknowledgment of its content' as why
from spine.optimization_actions as actions
where actions.requires_acknowledgment
    and (actions.acknowledged_at is null or actions.acknowledged_by is null
        or actions.acknowledged_hash is distinct from actions.payload_hash)
    and exists (
        select from spine.action_intents as intents
        where intents.tenant_id = actions.tenant_id and intents.optimization_action_id = actions.id
    )

-- doubles --
-- Live actions that share family and entity.
select tenant_id, min(id::text)::uuid as id, format('%s live actions of family %s on %s %s', count(*), family,
    entity_type, entity_id) as why
from spine.optimization_actions
where not execution_status = any(cast(:dead as text[]))
group by tenant_id, family, entity_type, entity_id
having count(*) > 1

-- unseen --
-- Applied changes without a picture of the world before them.
select actions.tenant_id, actions.id, 'applied without a snapshot of the state before' as why
from spine.optimization_actions as actions
left join spine.action_snapshots as snapshots
    on snapshots.tenant_id = actions.tenant_id and snapshots.optimization_action_id = actions.id
    and snapshots.moment = 'before'
where actions.applied_at is not null and snapshots.id is null

-- applied --
-- Applied changes with the gates as they stood then and the configuration in force.
select actions.tenant_id, actions.id, actions.payload, snapshots.gate_states,
    coalesce(versions.payload, '{}'::jsonb) as config
from spine.optimization_actions as actions
inner join spine.action_snapshots as snapshots
    on snapshots.tenant_id = actions.tenant_id and snapshots.optimization_action_id = actions.id
    and snapshots.moment = 'before'
left join spine.config_versions as versions
    on versions.tenant_id = snapshots.tenant_id and versions.config_version_id = snapshots.config_version_id
where actions.applied_at >= :from_at
order by actions.applied_at

-- to_apply --
-- Approved actions whose time has come and those whose worker let its lease run out, with a digest of the attempts.
select count(*) as actions,
    coalesce(md5(string_agg(actions.id || ' ' || actions.attempts, ',' order by actions.id)), '') as digest
from spine.optimization_actions as actions
inner join spine.tenants on tenants.id = actions.tenant_id
where (
    tenants.revenue_os_enabled and (
        (actions.execution_status in ('approved', 'scheduled') and coalesce(actions.next_attempt_at, :at) <= :at)
        or (actions.execution_status = 'claimed' and actions.lease_until <= :at)
    )
) or (actions.execution_status = 'applying' and coalesce(actions.lease_until, :at) <= :at)

-- to_revert --
-- Actions that are to be taken back; the same, whoever is switched off: taking back is protection.
select count(*) as actions,
    coalesce(md5(string_agg(actions.id || ' ' || actions.attempts, ',' order by actions.id)), '') as digest
from spine.optimization_actions as actions
where (actions.execution_status = 'abort_requested' and coalesce(actions.next_attempt_at, :at) <= :at)
    or (actions.execution_status = 'reverting' and coalesce(actions.lease_until, :at) <= :at)
