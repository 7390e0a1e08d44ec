-- Actions as people see and move them: budgets, members, lists, and the facts a change is held against.

-- lock_budget --
-- One reservation of a tenant at a time; whoever waits counts what the other reserved.
select pg_advisory_xact_lock(hashtextextended('budget ' || cast(:tenant_id as text), 0))

-- reserved --
-- What of an action is still committed: per day, and in the month it was reserved for.
select month, sum(daily_amount) as daily_amount, sum(month_amount) as month_amount
from spine.budget_entries
where tenant_id = :tenant_id and optimization_action_id = :action_id
group by month
having sum(daily_amount) <> 0

-- committed --
-- What changes add to a month's spend.
select trim_scale(coalesce(sum(month_amount), 0)) from spine.budget_entries
where tenant_id = :tenant_id and month = :month

-- daily_spend --
-- What may be spent a day by now: the channels that run, and increases reserved for changes that are not made yet.
-- Foreign money counts at its newest rate; null when one of the channels has no rate of the last ten days.
select trim_scale(
    (
        select case when count(*) = count(running.amount) then coalesce(sum(running.amount), 0) end
        from (
            select case when campaigns.budget_currency = :currency then channels.daily_budget
                else channels.daily_budget * fx.rate end as amount
            from spine.spine_campaign_channels as channels
            inner join spine.spine_campaigns as campaigns
                on campaigns.tenant_id = channels.tenant_id and campaigns.id = channels.campaign_id
            left join lateral (
                select rate from spine.fx_rates
                where fx_rates.tenant_id = campaigns.tenant_id and base_currency = campaigns.budget_currency
                    and quote_currency = :currency
                    and rate_date between cast(:on_date as date) - 10 and cast(:on_date as date)
                order by rate_date desc limit 1
            ) as fx on true
            where channels.tenant_id = :tenant_id and channels.status = 'active' and campaigns.status = 'running'
                and channels.daily_budget > 0
        ) as running
    ) + coalesce((
        select sum(reserved.daily_amount)
        from (
            select sum(entries.daily_amount) as daily_amount
            from spine.budget_entries as entries
            inner join spine.optimization_actions as actions
                on actions.tenant_id = entries.tenant_id and actions.id = entries.optimization_action_id
            where entries.tenant_id = :tenant_id and actions.execution_status in ('claimed', 'applying', 'scheduled')
            group by actions.id
        ) as reserved
        where reserved.daily_amount > 0
    ), 0)
)

-- add_budget_entry --
insert into spine.budget_entries (tenant_id, optimization_action_id, month, daily_amount, month_amount, at, reason)
values (:tenant_id, :action_id, :month, :daily_amount, :month_amount, :at, :reason)

-- was_applied --
select applied_at is not null from spine.optimization_actions where tenant_id = :tenant_id and id = :action_id

-- budget_spent --
-- What a campaign has spent, in its own currency; days in another one are not known in it.
select case when count(*) filter (where daily.currency <> campaigns.budget_currency) > 0 then null
    else trim_scale(coalesce(sum(daily.spend), 0)) end
from spine.spine_campaigns as campaigns
left join spine.spine_campaign_channels as channels
    on channels.tenant_id = campaigns.tenant_id and channels.campaign_id = campaigns.id
left join spine.channel_spend_daily as daily
    on daily.tenant_id = channels.tenant_id and daily.channel_id = channels.id
where campaigns.tenant_id = :tenant_id and campaigns.id::text = :entity_id
group by campaigns.id

-- known_ids --
-- The ids a tenant has listed of something.
select value from spine.subsystem_settings
where tenant_id = :tenant_id and entity_type = 'tenant' and entity_id = '' and field = :field
    and subsystem = :subsystem and jsonb_typeof(value) = 'array'

-- acknowledge --
select spine.acknowledge_action(:action_id, :word, :at)

-- reject --
select spine.reject_action(:action_id, :word, :at)

-- lock_action --
select id, type, owner_subsystem, execution_status, payload, payload_hash, gate_states, expires_at
from spine.optimization_actions
where tenant_id = :tenant_id and id = :id
for update

-- dependants --
-- What another action of the same cycle makes room for and that has not ended.
select others.action_id
from spine.optimization_actions as actions
inner join spine.optimization_actions as others
    on others.tenant_id = actions.tenant_id and others.optimization_cycle_id = actions.optimization_cycle_id
where actions.tenant_id = :tenant_id and actions.id = :id and others.payload -> 'dependencies' ? actions.action_id
    and others.execution_status not in ('rejected', 'expired', 'apply_failed', 'reverted', 'aborted', 'closed')
order by others.action_id

-- overdue --
-- What waits for an answer and is too old to get one.
select tenant_id, id, expires_at from spine.optimization_actions
where execution_status = 'awaiting_ack' and expires_at <= :at
order by tenant_id, id

-- listed --
-- The actions of the tenants, those that wait first. What is snoozed, and what nobody can answer any more though it
-- is not swept up yet, only when everything is asked for.
select tenants.slug as tenant, actions.id, actions.execution_status, actions.priority_rank as rank, actions.type,
    actions.owner_subsystem as subsystem, actions.entity_type, actions.entity_id,
    coalesce(channels.channel || ' in ' || homes.name, campaigns.name) as entity_name, actions.target_metric,
    actions.notes_for_humans, actions.payload -> 'proposed_change' as change, actions.payload -> 'attributes' as attributes,
    actions.requires_acknowledgment, actions.expires_at, actions.snoozed_until, actions.applied_at, actions.outcome,
    actions.created_at
from spine.optimization_actions as actions
inner join spine.tenants on tenants.id = actions.tenant_id
left join spine.spine_campaign_channels as channels
    on actions.entity_type = 'channel' and channels.tenant_id = actions.tenant_id
    and channels.id::text = actions.entity_id
left join spine.spine_campaigns as homes on homes.tenant_id = channels.tenant_id and homes.id = channels.campaign_id
left join spine.spine_campaigns as campaigns
    on actions.entity_type = 'campaign' and campaigns.tenant_id = actions.tenant_id
    and campaigns.id::text = actions.entity_id
where (cast(:tenant_id as uuid) is null or actions.tenant_id = :tenant_id)
    and (
        :everything
        or (
            actions.execution_status not in ('proposed', 'rejected', 'expired', 'reverted', 'aborted', 'closed')
            and coalesce(actions.snoozed_until, :at) <= :at
            and (actions.execution_status <> 'awaiting_ack' or actions.expires_at > :at)
        )
    )
order by actions.execution_status <> 'awaiting_ack', tenants.slug, actions.created_at desc, actions.priority_rank
limit :limit

-- by_prefix --
select id, payload_hash from spine.optimization_actions
where tenant_id = :tenant_id and starts_with(id::text, :prefix)
limit 2

-- shown --
-- An action with its cycle and the terms of the candidate it was.
select actions.*, cycles.invoked_at, cycles.binding_constraint, cycles.raw_kernel_output #>> '{cycle_summary,diagnosis}' as diagnosis,
    proposers.name as proposer, acknowledgers.name as acknowledger,
    coalesce(channels.channel || ' in ' || homes.name, campaigns.name) as entity_name,
    (
        select candidate -> 'terms' from jsonb_array_elements(cycles.trace) as candidate
        where candidate ->> 'family' = actions.family and candidate ->> 'dropped' is null
            and coalesce(candidate #>> '{entity,id}', '') = actions.entity_id
            and coalesce(candidate #>> '{entity,type}', '') = actions.entity_type
        limit 1
    ) as terms
from spine.optimization_actions as actions
inner join spine.optimization_cycles as cycles
    on cycles.tenant_id = actions.tenant_id and cycles.id = actions.optimization_cycle_id
left join spine.user_tenants as proposers
    on proposers.tenant_id = actions.tenant_id and proposers.user_id = actions.proposed_by
left join spine.user_tenants as acknowledgers
    on acknowledgers.tenant_id = actions.tenant_id and acknowledgers.user_id = actions.acknowledged_by
left join spine.spine_campaign_channels as channels
    on actions.entity_type = 'channel' and channels.tenant_id = actions.tenant_id
    and channels.id::text = actions.entity_id
left join spine.spine_campaigns as homes on homes.tenant_id = channels.tenant_id and homes.id = channels.campaign_id
left join spine.spine_campaigns as campaigns
    on actions.entity_type = 'campaign' and campaigns.tenant_id = actions.tenant_id
    and campaigns.id::text = actions.entity_id
where actions.tenant_id = :tenant_id and actions.id = :id

-- events --
-- An action's history, people by name beside who it was.
select events.at, events.actor, users.name as person, events.from_status, events.to_status, events.note
from spine.action_events as events
left join spine.user_tenants as users
    on users.tenant_id = events.tenant_id and users.user_id::text = events.actor
where events.tenant_id = :tenant_id and events.optimization_action_id = :id
order by events.at, events.number

-- tickets --
-- Work for people, with the action it is about; what is done only when everything is asked for.
select tenants.slug as tenant, tickets.id, tickets.subsystem, tickets.title, tickets.body, tickets.status,
    tickets.optimization_action_id as action, actions.execution_status, tickets.created_at as since,
    coalesce(users.name, tickets.resolved_by) as resolved_by, tickets.resolved_at, tickets.resolution
from spine.action_tickets as tickets
inner join spine.tenants on tenants.id = tickets.tenant_id
inner join spine.optimization_actions as actions
    on actions.tenant_id = tickets.tenant_id and actions.id = tickets.optimization_action_id
left join spine.user_tenants as users
    on users.tenant_id = tickets.tenant_id and users.user_id::text = tickets.resolved_by
where (cast(:tenant_id as uuid) is null or tickets.tenant_id = :tenant_id)
    and (cast(:action_id as uuid) is null or tickets.optimization_action_id = :action_id)
    and (:everything or tickets.status = 'open')
order by tickets.status <> 'open', tenants.slug, tickets.created_at, tickets.id

-- ticket_by_prefix --
select id from spine.action_tickets
where tenant_id = :tenant_id and starts_with(id::text, :prefix)
limit 2

-- resolve_tickets --
-- One open ticket, or all that are open about an action.
update spine.action_tickets set status = 'done', resolved_by = :by, resolved_at = :at, resolution = :why
where tenant_id = :tenant_id and status = 'open' and (id = :ticket_id or optimization_action_id = :action_id)
returning optimization_action_id

-- advance --
-- Compare and set, and the audit row, in one statement: of two who try at once one finds the row changed.
with held as (
    select tenant_id, id, execution_status as was from spine.optimization_actions
    where tenant_id = :tenant_id and id = :id and execution_status = any(:expected)
    for update
),

moved as (
    update spine.optimization_actions as actions
    set execution_status = :to, updated_at = :at{columns}
    from held
    where actions.tenant_id = held.tenant_id and actions.id = held.id
    returning actions.tenant_id, actions.id, held.was
)

insert into spine.action_events (tenant_id, optimization_action_id, at, from_status, to_status, actor, note, detail)
select tenant_id, id, :at, was, :to, :actor, :note, :detail from moved
returning id
