-- What came of actions: snapshots around them, baselines, observations, aborts. Totals have an empty dimension key.

-- time_zone --
-- A tenant's calendar at an instant.
select coalesce((
    select payload ->> 'time_zone' from spine.config_versions
    where tenant_id = :tenant_id and valid_from <= :at order by valid_from desc limit 1
), 'UTC')

-- config_version --
-- The configuration in force at an instant; none while the defaults decide.
select config_version_id from spine.config_versions
where tenant_id = :tenant_id and valid_from <= :at order by valid_from desc limit 1

-- series --
-- Daily totals of some metrics over a span of days.
select metric_id, date, value, value_status, is_final
from analytics.metric_snapshots_daily
where tenant_id = :tenant_id and metric_id = any(:metric_ids) and dimension_key = ''
    and date between :first and :last
order by metric_id, date

-- latest --
-- The newest days of some metrics up to a day, newest first.
select asked.metric_id, newest.date, newest.value, newest.value_status
from unnest(cast(:metric_ids as text[])) as asked (metric_id)
cross join lateral (
    select date, value, value_status from analytics.metric_snapshots_daily
    where tenant_id = :tenant_id and metric_id = asked.metric_id and dimension_key = '' and date <= :last
    order by date desc limit :days
) as newest
order by asked.metric_id, newest.date desc

-- split --
-- Daily values of the arms of an experiment, where a source tells them apart. Final days alone.
select metric_id, dimension ->> 'variant' as variant, date, value
from analytics.metric_snapshots_daily
where tenant_id = :tenant_id and metric_id = any(:metric_ids)
    and dimension_key in ('variant=control', 'variant=treatment')
    and date between :first and :last and is_final and value_status = 'ok'
order by metric_id, date

-- insert_snapshot --
-- The first capture of a moment stays: what was before cannot be seen any more once something was changed.
insert into spine.action_snapshots
    (tenant_id, optimization_action_id, moment, captured_at, config_version_id, gate_states, entity, metrics)
values (:tenant_id, :action_id, :moment, :at, :config_version_id, cast(:gate_states as jsonb),
    cast(:entity as jsonb), cast(:metrics as jsonb))
on conflict (tenant_id, optimization_action_id, moment) do nothing

-- snapshot_id --
select id from spine.action_snapshots
where tenant_id = :tenant_id and optimization_action_id = :action_id and moment = :moment

-- monitored --
-- What the cycle of an action asks to watch.
select coalesce(raw_kernel_output #> '{learning_plan,metrics_to_monitor}', '[]')
from spine.optimization_cycles where tenant_id = :tenant_id and id = :cycle_id

-- insert_results --
-- One row per action and metric, however often it is asked for: the first baseline stays.
insert into spine.optimization_action_results
    (tenant_id, optimization_action_id, metric_id, observation_start_date, baseline_value, context_snapshot, metadata)
select :tenant_id, :action_id, asked.metric_id, :start_date, asked.baseline_value, cast(:context as jsonb),
    cast(asked.metadata as jsonb)
from unnest(cast(:metric_ids as text[]), cast(:baseline_values as numeric[]), cast(:metadata as text[]))
    as asked (metric_id, baseline_value, metadata)
where not exists (
    select from spine.optimization_action_results as known
    where known.tenant_id = :tenant_id and known.optimization_action_id = :action_id
        and known.metric_id = asked.metric_id
)

-- due --
-- Actions whose window is over, of tenants that are switched on.
select actions.tenant_id, actions.id
from spine.optimization_actions as actions
inner join spine.tenants on tenants.id = actions.tenant_id
where actions.execution_status = 'observing' and actions.observation_ends_at <= :now and tenants.revenue_os_enabled
order by actions.observation_ends_at, actions.id

-- running --
-- Actions whose change is in force and that say when it must go.
select actions.tenant_id, actions.id, actions.applied_at, actions.payload
from spine.optimization_actions as actions
inner join spine.tenants on tenants.id = actions.tenant_id
where actions.execution_status in ('applied', 'observing') and actions.applied_at is not null
    and tenants.revenue_os_enabled
    and jsonb_array_length(coalesce(actions.payload #> '{guardrails,abort_conditions}', '[]')) > 0
order by actions.tenant_id, actions.id

-- to_revert --
-- Switching a tenant off does not keep its changes in force: taking back is allowed always.
select tenant_id, id from spine.optimization_actions
where execution_status in ('abort_requested', 'reverting')
order by updated_at, id

-- lock_action --
-- The action under lock, passed over when another worker holds it.
select * from spine.optimization_actions
where tenant_id = :tenant_id and id = :action_id and execution_status = any(:statuses)
for update skip locked

-- open_results --
-- The rows that wait for their window to end.
select id, metric_id, baseline_value, metadata from spine.optimization_action_results
where tenant_id = :tenant_id and optimization_action_id = :action_id and observation_end_date is null
order by metric_id

-- concurrent --
-- Other actions whose change was in force and watched while this one was; one taken back until it was taken back.
-- A ticket changes nothing by itself and takes no credit.
select id, target_metric from spine.optimization_actions
where tenant_id = :tenant_id and id <> :action_id and applied_at is not null
    and type <> all(:ticket_types) and owner_subsystem <> all(:ticket_subsystems)
    and applied_at < :ends_at and least(observation_ends_at, closed_at) > :applied_at
order by id

-- close_result --
update spine.optimization_action_results set
    observation_end_date = :end_date, observed_value = :observed_value, delta = :delta,
    delta_direction = :delta_direction, confidence = :confidence, economic_deltas = cast(:economic_deltas as jsonb),
    metadata = metadata || cast(:metadata as jsonb)
where tenant_id = :tenant_id and id = :id and observation_end_date is null

-- recent --
-- The newest ended actions of each tenant with what became of their target metric. One that its own abort condition
-- ended did harm, though it was never measured to the end. What was ended unmeasured, as tickets are, teaches nothing.
select * from (
    select
        actions.tenant_id, actions.action_id, actions.family, actions.target_metric,
        coalesce(actions.outcome, 'hurt') as outcome, actions.execution_status = 'reverted' as was_taken_back,
        coalesce(actions.closed_at, actions.updated_at) as closed_at, results.baseline_value, results.observed_value, results.delta, results.confidence,
        results.economic_deltas, results.metadata,
        row_number() over (
            partition by actions.tenant_id order by coalesce(actions.closed_at, actions.updated_at) desc, actions.id
        ) as place
    from spine.optimization_actions as actions
    inner join spine.optimization_action_results as results
        on results.tenant_id = actions.tenant_id and results.optimization_action_id = actions.id
        and results.metric_id = actions.target_metric
    where actions.tenant_id = any(cast(:tenant_ids as uuid[])) and results.observation_end_date is not null
        and (
            (actions.execution_status = 'closed' and results.metadata ? 'economics')
            or (
                actions.execution_status = 'reverted'
                and exists (
                    select from spine.action_events as events
                    where events.tenant_id = actions.tenant_id and events.optimization_action_id = actions.id
                        and events.to_status = 'abort_requested' and events.actor = 'abort monitor'
                )
            )
        )
) as closed
where place <= :limit
order by tenant_id, place

-- predictions --
-- What measured actions had promised of their target metric and what came of it, in percent of the baseline. What a
-- person edited had been promised of another value.
select actions.tenant_id, actions.family, cycles.weights_version,
    (actions.payload #>> '{expected_impact,magnitude_pct}')::numeric as predicted_pct,
    (actions.payload #>> '{expected_impact,confidence}')::numeric as confidence,
    (results.metadata ->> 'effect_pct')::numeric as realised_pct,
    (results.metadata ->> 'effect_stderr_pct')::numeric as realised_stderr_pct
from spine.optimization_actions as actions
inner join spine.optimization_cycles as cycles
    on cycles.tenant_id = actions.tenant_id and cycles.id = actions.optimization_cycle_id
inner join spine.optimization_action_results as results
    on results.tenant_id = actions.tenant_id and results.optimization_action_id = actions.id
    and results.metric_id = actions.target_metric
where (cast(:tenant_ids as uuid[]) is null or actions.tenant_id = any(:tenant_ids))
    and actions.execution_status = 'closed' and actions.proposed_by is null
    and results.metadata ->> 'effect_pct' is not null
    and (actions.payload #>> '{expected_impact,confidence}')::numeric > 0
    and (results.metadata ->> 'effect_stderr_pct')::numeric + abs((actions.payload #>> '{expected_impact,magnitude_pct}')::numeric) > 0
order by actions.closed_at, actions.id

-- withdraw_ticket --
-- What a person was asked to do need not be done any more.
update spine.action_tickets set status = 'done', resolved_by = :by, resolved_at = :at, resolution = :why
where tenant_id = :tenant_id and idempotency_key = :key and status = 'open'

-- abandon_results --
-- The rows of an action that ended without being measured, and why.
update spine.optimization_action_results set
    observation_end_date = :end_date, confidence = 0,
    metadata = metadata || jsonb_build_object('outcome', 'not_measurable', 'why', cast(:why as text))
where tenant_id = :tenant_id and optimization_action_id = :action_id and observation_end_date is null

-- try_lock --
-- One worker at a time; let go when the transaction ends, however it ends.
select pg_try_advisory_xact_lock(hashtextextended(:key, 0))
