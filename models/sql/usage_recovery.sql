-- Messages after their capture: those that could not be published, and those that wait to be handed on.

-- give_up --
-- Messages whose last attempt ended without a word: whoever takes them up does not come back.
update usage.ingest_fallback_buffer
set status = 'QUARANTINE', lease_owner = null, lease_expires_at = null, updated_at = :at
where status = 'PROCESSING' and lease_expires_at <= :at and recover_attempt_count >= :attempts
returning tenant_id, id, site_id

-- claim --
-- The message that is due longest, also one whose holder died.
update usage.ingest_fallback_buffer as buffer
set status = 'PROCESSING', lease_owner = :owner, lease_expires_at = :until, recover_attempt_count = recover_attempt_count + 1,
    updated_at = :at
where (buffer.tenant_id, buffer.id) = (
    select tenant_id, id from usage.ingest_fallback_buffer
    where status = 'PENDING' and due_at <= :at or status = 'PROCESSING' and lease_expires_at <= :at
    order by due_at, created_at, id
    limit 1
    for update skip locked
)
returning tenant_id, id, site_id, recover_attempt_count

-- hold --
-- Still its holder's, with the events as they came.
select year_month, keys, array(select value::text from json_array_elements(payload)) as payloads, created_at
from usage.ingest_fallback_buffer
where tenant_id = :tenant_id and id = :id and status = 'PROCESSING' and lease_owner = :owner
for update

-- hold_months --
-- Of the message's rows, held as a capture holds them; those that still take changes.
select year_month from usage.usage_periods
where tenant_id = :tenant_id and state in ('OPEN', 'CLOSING') and year_month in (
    select ledger.year_month from usage.ingest_idempotency as ledger
    where ledger.tenant_id = :tenant_id and ledger.site_id = :site_id and ledger.idempotency_key = any(cast(:keys as text[]))
)
order by year_month
for share

-- mark --
-- Billed when they were captured: nothing but the word for how they were delivered changes.
with marked as (
    update usage.ingest_idempotency as ledger
    set billing_state = 'RECOVERED', txid = (select pg_current_xact_id()::text::bigint)
    where ledger.tenant_id = :tenant_id and ledger.site_id = :site_id and ledger.billing_state = 'DEGRADED_CAPTURE'
        and ledger.idempotency_key = any(cast(:keys as text[])) and ledger.year_month = any(cast(:months as text[]))
    returning ledger.idempotency_key, ledger.year_month, ledger.plan_id
)
insert into usage.usage_decisions (tenant_id, site_id, idempotency_key, year_month, decision, reason, plan_id, actor, created_at)
select :tenant_id, :site_id, idempotency_key, year_month, 'recovered', 'published_later', plan_id, :actor, :at from marked

-- recovered --
update usage.ingest_fallback_buffer
set status = 'RECOVERED', lease_owner = null, lease_expires_at = null, updated_at = :at
where tenant_id = :tenant_id and id = :id

-- failed --
-- Again later, or never again when it was tried often enough.
update usage.ingest_fallback_buffer
set status = case when recover_attempt_count >= :attempts then 'QUARANTINE' else 'PENDING' end,
    due_at = cast(:at as timestamptz) + least(power(2, recover_attempt_count), 60) * interval '1 minute',
    lease_owner = null, lease_expires_at = null, error_reason = :reason, updated_at = :at
where tenant_id = :tenant_id and id = :id
returning status

-- quarantined --
-- What was given up, row by row: it is billed until it is credited.
insert into usage.usage_decisions (tenant_id, site_id, idempotency_key, year_month, decision, reason, plan_id, actor, created_at)
select ledger.tenant_id, ledger.site_id, ledger.idempotency_key, ledger.year_month, 'quarantined', 'never_delivered',
    ledger.plan_id, :actor, :at
from usage.ingest_fallback_buffer as buffer
cross join unnest(buffer.keys) as key
inner join usage.ingest_idempotency as ledger
    on ledger.tenant_id = buffer.tenant_id and ledger.site_id = buffer.site_id and ledger.idempotency_key = key
where buffer.tenant_id = :tenant_id and buffer.id = :id

-- requeue --
-- By a person: what was given up is tried again from the beginning.
update usage.ingest_fallback_buffer
set status = 'PENDING', recover_attempt_count = 0, due_at = :at, updated_at = :at
where tenant_id = :tenant_id and id = :id and status = 'QUARANTINE' and credited_by is null
returning id

-- buffered --
select buffer.id, sites.public_id as site, buffer.events, buffer.status, buffer.recover_attempt_count,
    buffer.due_at, buffer.error_reason, buffer.created_at
from usage.ingest_fallback_buffer as buffer
inner join usage.sites as sites on sites.tenant_id = buffer.tenant_id and sites.id = buffer.site_id
where buffer.tenant_id = :tenant_id and (:everything or buffer.status <> 'RECOVERED')
order by buffer.created_at desc, buffer.id
limit :most

-- waiting --
-- Of all tenants: messages that may be recovered now, and those that wait to be handed on.
select
    (select count(*) from usage.ingest_fallback_buffer
        where status = 'PENDING' and due_at <= :at or status = 'PROCESSING' and lease_expires_at <= :at) as to_recover,
    (select count(*) from usage.usage_outbox where handed_on_at is null) as to_hand_on

-- take_on --
-- The oldest messages nobody else is handing on.
select messages.tenant_id, messages.id, tenants.slug as tenant, sites.public_id as site, messages.keys, messages.created_at,
    array(select value::text from json_array_elements(messages.payload)) as payloads
from usage.usage_outbox as messages
inner join usage.sites as sites on sites.tenant_id = messages.tenant_id and sites.id = messages.site_id
inner join spine.tenants as tenants on tenants.id = messages.tenant_id
where messages.handed_on_at is null
order by messages.created_at, messages.id
limit :most
for update of messages skip locked

-- handed_on --
update usage.usage_outbox set handed_on_at = :at where (tenant_id, id) in (select * from unnest(cast(:tenants as uuid[]), cast(:ids as uuid[])))
