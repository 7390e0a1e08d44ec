-- What providers tell by themselves, from its arrival to the item it is about.

-- runs_made --
select id, created_at from delivery.campaign_runs where tenant_id = :tenant_id and id = any(cast(:run_ids as uuid[]))

-- run_of_item --
select run_id from delivery.channel_outbox where tenant_id = :tenant_id and id = :item_id

-- keep_event --
insert into delivery.provider_events (
    tenant_id, account_id, provider_event_id, kind, provider_message_id, reference, address, body_sha256, payload, occurred_at, received_at
) values (
    :tenant_id, :account_id, :event_id, :kind, :message_id, :reference, :address, :body_sha256, cast(:payload as jsonb), :occurred_at, :received_at
) on conflict (tenant_id, account_id, provider_event_id) do nothing

-- match --
-- Events that wait for their attempt and may find it now: by our reference, else by the provider's id. The newest are
-- asked for, those of the last month: what found nothing by then is of somebody else, as what is told of a test always is.
with tenant as materialized (select cast(:tenant_id as uuid) as id),
waiting as materialized (
    select parked.* from tenant
    cross join lateral (
        select events.tenant_id, events.id, events.account_id, events.provider_message_id,
            case when events.reference ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then cast(events.reference as uuid) end as own_id
        from delivery.provider_events as events
        where events.tenant_id = tenant.id and events.attempt_id is null
            and events.received_at > cast(:since as timestamptz)
            and coalesce(events.reference not like 'test-%', true)
        order by events.received_at desc
        limit :most
    ) as parked
)
select events.id, events.kind, events.occurred_at, events.received_at, events.provider_message_id, attempts.id as attempt_id, attempts.state, attempts.item_id,
    attempts.job_id, attempts.run_id, items.address, items.channel
from waiting
cross join lateral (
    select found.* from (
        select known.*, 1 as place from delivery.attempts as known
        where known.tenant_id = waiting.tenant_id and known.id = waiting.own_id
        union all
        select known.*, 2 as place from delivery.attempts as known
        where known.tenant_id = waiting.tenant_id and known.account_id = waiting.account_id
            and known.provider_message_id = waiting.provider_message_id
    ) as found
    where found.account_id = waiting.account_id
    order by found.place
    limit 1
) as attempts
inner join delivery.channel_outbox as items on items.tenant_id = waiting.tenant_id and items.id = attempts.item_id
inner join delivery.provider_events as events on events.tenant_id = waiting.tenant_id and events.id = waiting.id
where events.attempt_id is null
order by events.occurred_at, events.id
for update of events skip locked

-- matched --
update delivery.provider_events set attempt_id = :attempt_id where tenant_id = :tenant_id and id = :id

-- advance_delivery --
-- Only ever forward: events come late, twice and in any order.
update delivery.channel_outbox set delivery_status = :kind
where tenant_id = :tenant_id and id = :item_id
    and array_position(cast(:order as text[]), delivery_status) < array_position(cast(:order as text[]), :kind)
