-- Carrying actions out: claiming, intents, and the configuration that our own adapter reads and writes.

-- claim --
-- Takes a lease on the most important waiting actions, every tenant's first before any tenant's second. A row that
-- another worker holds is passed over; one whose worker let the lease run out is taken again. Of tenants in the same
-- turn the one that has waited longest goes first.
with waiting as (
    select
        actions.tenant_id, actions.id, actions.execution_status,
        coalesce(actions.next_attempt_at, actions.acknowledged_at, actions.created_at) as since,
        row_number() over (
            partition by actions.tenant_id
            order by actions.priority_rank nulls last, actions.created_at, actions.id
        ) as turn
    from spine.optimization_actions as actions
    inner join spine.tenants on tenants.id = actions.tenant_id
    where tenants.revenue_os_enabled and tenants.status <> 'suspended'
        and (
            (actions.execution_status in ('approved', 'scheduled') and coalesce(actions.next_attempt_at, :now) <= :now)
            or (actions.execution_status = 'claimed' and actions.lease_until <= :now)
        )
        -- What another action makes room for waits for it.
        and not exists (
            select from spine.optimization_actions as needed
            where needed.tenant_id = actions.tenant_id
                and needed.optimization_cycle_id = actions.optimization_cycle_id
                and actions.payload -> 'dependencies' ? needed.action_id
                and needed.execution_status in ('awaiting_ack', 'approved', 'scheduled', 'claimed', 'applying')
        )
),

chosen as (
    select actions.tenant_id, actions.id, actions.execution_status, waiting.turn, waiting.since
    from waiting
    inner join spine.optimization_actions as actions using (tenant_id, id)
    -- Asked again of the locked row: it may have changed since the list was made.
    where (actions.execution_status in ('approved', 'scheduled') and coalesce(actions.next_attempt_at, :now) <= :now)
        or (actions.execution_status = 'claimed' and actions.lease_until <= :now)
    order by waiting.turn, waiting.since, actions.tenant_id
    limit :limit
    for update of actions skip locked
)

update spine.optimization_actions as actions
set lease_token = gen_random_uuid(), lease_until = :lease_until, attempts = actions.attempts + 1, updated_at = :now
from chosen
where actions.tenant_id = chosen.tenant_id and actions.id = chosen.id
returning actions.tenant_id, actions.id, actions.payload, actions.payload_hash, actions.attempts,
    actions.lease_token, chosen.execution_status as was, chosen.turn, chosen.since

-- claim_doubtful --
-- Takes over actions whose worker ended between the intent and its settlement.
update spine.optimization_actions as actions
set lease_token = gen_random_uuid(), lease_until = :lease_until, updated_at = :now
from (
    select tenant_id, id from spine.optimization_actions
    where execution_status = 'applying' and coalesce(lease_until, :now) <= :now
    order by lease_until, id
    limit :limit
    for update skip locked
) as chosen
where actions.tenant_id = chosen.tenant_id and actions.id = chosen.id
returning actions.tenant_id, actions.id, actions.payload, actions.payload_hash, actions.attempts, actions.lease_token

-- renew --
-- Of leases that nobody took. A row that somebody holds is being moved on and is passed over: waiting for several at
-- once could wait for whoever waits for one of them.
update spine.optimization_actions as actions set lease_until = :lease_until, updated_at = :now
from (
    select tenant_id, id from spine.optimization_actions
    where lease_token = any(:tokens) and execution_status in ('claimed', 'applying')
    for update skip locked
) as kept
where actions.tenant_id = kept.tenant_id and actions.id = kept.id

-- held --
-- The action under lock, if the lease is still this worker's.
select actions.id, actions.tenant_id, actions.optimization_cycle_id, actions.action_id, actions.execution_status,
    actions.owner_subsystem, actions.type, actions.target_metric, actions.target_direction, actions.family,
    actions.entity_type, actions.entity_id, actions.payload, actions.payload_hash, actions.acknowledged_hash,
    actions.requires_acknowledgment, actions.expires_at, actions.config_version_id, actions.gate_states,
    actions.expected_observation_window_days, actions.attempts
from spine.optimization_actions as actions
where actions.tenant_id = :tenant_id and actions.id = :id and actions.lease_token = :token
    and actions.execution_status = :status
for update

-- tenant_enabled --
-- Share-locked, so that switching off waits for a step that has begun and the next step sees it. Asked before the
-- action is locked: whoever stops a tenant locks the tenant and then its actions.
select revenue_os_enabled and status <> 'suspended' from spine.tenants where id = :tenant_id for share

-- may_be_sent_again --
-- Not while the tenant is off, and not what a stop has found on its way.
select tenants.revenue_os_enabled and not exists (
    select from ops.incidents
    where incidents.tenant_id = tenants.id and incidents.detail -> 'in_flight' ? cast(:id as text)
)
from spine.tenants where tenants.id = :tenant_id
for share of tenants

-- failed_dependencies --
-- What the action counted on and does not stand.
select needed.action_id, needed.execution_status
from spine.optimization_actions as needed
where needed.tenant_id = :tenant_id and needed.optimization_cycle_id = :cycle_id
    and needed.action_id = any(:dependencies)
    and needed.execution_status not in ('applied', 'observing', 'closed')
order by needed.action_id

-- leave_doubtful --
-- Gives the lease back until the target can be read again.
update spine.optimization_actions set lease_until = :until, updated_at = :now
where tenant_id = :tenant_id and id = :id and lease_token = :token

-- record_intent --
-- The first intent of an action and kind rules; a second one is not written.
insert into spine.action_intents (
    tenant_id, idempotency_key, optimization_action_id, kind, subsystem, entity_type, entity_id, field,
    before_value, wanted_value, recorded_at
) values (
    :tenant_id, :key, :action_id, :kind, :subsystem, :entity_type, :entity_id, :field,
    cast(:before as jsonb), cast(:wanted as jsonb), :at
) on conflict do nothing
returning true

-- find_intent --
select tenant_id, idempotency_key as key, optimization_action_id as action_id, kind, subsystem, entity_type,
    entity_id, field, before_value as before, wanted_value as wanted, state
from spine.action_intents
where tenant_id = :tenant_id and optimization_action_id = :action_id and kind = :kind

-- settle_intent --
-- Only an open intent can be settled.
update spine.action_intents
set state = :state, observed_value = cast(:observed as jsonb), settled_at = :settled_at
where tenant_id = :tenant_id and idempotency_key = :key and state in ('recorded', 'in_doubt')

-- intent_state --
-- Locked, so that settling waits for a write that has begun.
select state, before_value::text as before from spine.action_intents where tenant_id = :tenant_id and idempotency_key = :key for update

-- A write under an intent happens only while the value from before still stands; one without, once for its key.

-- read_channel --
-- One field of a channel and the whole of what can be changed. Money is text, for JSON numbers lose digits.
select entity -> cast(:field as text) as value, changed_by ->> cast(:field as text) as changed_by, entity
from (
    select jsonb_build_object(
        'budget_daily', trim_scale(daily_budget)::text,
        'status', case status when 'active' then 'running' else status end,
        'bidding_strategy', bidding_strategy
    ) as entity, config -> 'changed_by' as changed_by
    from spine.spine_campaign_channels where tenant_id = :tenant_id and id = :entity_id
) as channel

-- write_channel --
update spine.spine_campaign_channels set
    daily_budget = case when :field = 'budget_daily'
        then (cast(:value as jsonb) #>> '{}')::numeric else daily_budget end,
    status = case when :field = 'status'
        then case cast(:value as jsonb) #>> '{}' when 'running' then 'active' else cast(:value as jsonb) #>> '{}' end
        else status end,
    bidding_strategy = case when :field = 'bidding_strategy' then cast(:value as jsonb) else bidding_strategy end,
    config = config || jsonb_build_object(
        'changed_by', coalesce(config -> 'changed_by', '{}') || jsonb_build_object(cast(:field as text), cast(:key as text))
    ),
    updated_at = now()
where tenant_id = :tenant_id and id = :entity_id and case
    when cast(:before as jsonb) is null then config -> 'changed_by' ->> cast(:field as text) is distinct from :key
    else cast(:before as jsonb) = case :field
        when 'budget_daily' then coalesce(to_jsonb(trim_scale(daily_budget)::text), 'null')
        when 'status' then to_jsonb(case status when 'active' then 'running' else status end)
        else coalesce(bidding_strategy, 'null')
    end
end

-- read_campaign --
select entity -> cast(:field as text) as value, changed_by ->> cast(:field as text) as changed_by, entity
from (
    select jsonb_build_object(
        'budget_total', trim_scale(budget_total)::text,
        'status', status,
        'target_segment', target_segment,
        'end_date', end_date
    ) as entity, metadata -> 'changed_by' as changed_by
    from spine.spine_campaigns where tenant_id = :tenant_id and id = :entity_id
) as campaign

-- write_campaign --
update spine.spine_campaigns set
    budget_total = case when :field = 'budget_total'
        then (cast(:value as jsonb) #>> '{}')::numeric else budget_total end,
    status = case when :field = 'status' then cast(:value as jsonb) #>> '{}' else status end,
    target_segment = case when :field = 'target_segment' then nullif(cast(:value as jsonb), 'null') else target_segment end,
    end_date = case when :field = 'end_date' then (cast(:value as jsonb) #>> '{}')::date else end_date end,
    metadata = metadata || jsonb_build_object(
        'changed_by', coalesce(metadata -> 'changed_by', '{}') || jsonb_build_object(cast(:field as text), cast(:key as text))
    ),
    updated_at = now()
where tenant_id = :tenant_id and id = :entity_id and case
    when cast(:before as jsonb) is null then metadata -> 'changed_by' ->> cast(:field as text) is distinct from :key
    else cast(:before as jsonb) = case :field
        when 'budget_total' then coalesce(to_jsonb(trim_scale(budget_total)::text), 'null')
        when 'status' then to_jsonb(status)
        when 'target_segment' then coalesce(target_segment, 'null')
        else coalesce(to_jsonb(end_date), 'null')
    end
end

-- read_setting --
-- A setting nobody has set yet reads as null: any entity may get settings.
select entity -> cast(:field as text) as value, changed_by ->> cast(:field as text) as changed_by, entity
from (
    select coalesce(jsonb_object_agg(field, value), '{}') as entity, jsonb_object_agg(field, changed_by) as changed_by
    from spine.subsystem_settings
    where tenant_id = :tenant_id and subsystem = :subsystem and entity_type = :entity_type and entity_id = :entity_id
) as settings

-- write_setting --
insert into spine.subsystem_settings as settings
    (tenant_id, subsystem, entity_type, entity_id, field, value, changed_by)
select :tenant_id, :subsystem, :entity_type, :entity_id, :field, cast(:value as jsonb), :key
where coalesce(cast(:before as jsonb), 'null') = 'null' or exists (
    select from spine.subsystem_settings
    where tenant_id = :tenant_id and subsystem = :subsystem and entity_type = :entity_type and entity_id = :entity_id
        and field = :field
)
on conflict (tenant_id, subsystem, entity_type, entity_id, field) do update
set value = excluded.value, changed_by = excluded.changed_by, updated_at = now()
where case
    when cast(:before as jsonb) is null then settings.changed_by <> excluded.changed_by
    else settings.value = cast(:before as jsonb)
end

-- read_ticket --
select jsonb_build_object('title', title, 'body', body) as value, idempotency_key as changed_by
from spine.action_tickets
where tenant_id = :tenant_id and idempotency_key = :key

-- write_ticket --
insert into spine.action_tickets (tenant_id, optimization_action_id, idempotency_key, subsystem, title, body)
values (:tenant_id, :action_id, :key, :subsystem, :title, :body)
on conflict (tenant_id, idempotency_key) do nothing
