-- What a capture reads, holds and writes. Lists are those of its events, ordered by site and key: so every page of the
-- ledger's index is visited once.

-- hold_months --
-- Held for sharing: whoever closes a month waits for those who write into it.
select year_month, state from usage.usage_periods
where tenant_id = :tenant_id and year_month = any(cast(:months as text[]))
order by year_month
for share

-- open_months --
insert into usage.usage_periods (tenant_id, year_month)
select :tenant_id, unnest(cast(:months as text[])) on conflict do nothing

-- hold_sites --
-- One capture of a site at a time: what is new in its ledger stays new until it was written.
select id, public_id, status from usage.sites
where tenant_id = :tenant_id and id = any(cast(:sites as uuid[]))
order by id
for no key update

-- has_gone --
-- Whether the sites have keys without rows. Asked when they are held, and not while they are waited for: what another
-- capture wrote then is seen.
select exists (
    select from usage.usage_adjustments
    where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and kind = 'late' and idempotency_key is not null
) or exists (
    select from usage.archived_keys where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[]))
)

-- hold_counters --
select site_id, year_month, accepted, overage, rejected, array(
    select threshold from usage.usage_notices as told
    where told.tenant_id = counters.tenant_id and told.site_id = counters.site_id and told.year_month = counters.year_month
) as told
from usage.usage_counters as counters
where tenant_id = :tenant_id
    and (site_id, year_month) in (select * from unnest(cast(:sites as uuid[]), cast(:months as text[])))
order by site_id, year_month
for update

-- count_ledger --
-- A counter that is not there begins with what the ledger says, so that losing it gives nothing away.
insert into usage.usage_counters (tenant_id, site_id, year_month, accepted, overage, rejected)
select :tenant_id, slots.site_id, slots.year_month, counted.accepted, counted.overage, counted.rejected
from unnest(cast(:sites as uuid[]), cast(:months as text[])) as slots (site_id, year_month)
cross join lateral (
    select count(*) filter (where billable) as accepted, count(*) filter (where billing_state = 'OVERAGE') as overage,
        count(*) filter (where billing_state = 'REJECTED_QUOTA') as rejected
    from usage.ingest_idempotency as ledger
    where ledger.tenant_id = :tenant_id and ledger.site_id = slots.site_id and ledger.year_month = slots.year_month
        and ledger.created_at >= (slots.year_month || '-01')::timestamp at time zone 'UTC'
        and ledger.created_at < ((slots.year_month || '-01')::timestamp + interval '1 month') at time zone 'UTC'
) as counted
on conflict do nothing

-- look_up --
-- The rows that are there already. No list is joined: it has no statistics, and a scan of a ledger that grows by millions
-- must not look cheaper than look-ups.
select idempotency_key, billing_state, billable, payload_hash, year_month
from usage.ingest_idempotency
where tenant_id = :tenant_id and site_id = :site and idempotency_key = any(cast(:keys as text[]))

-- look_up_gone --
-- What came too late for its month and was adjusted, and what was archived: of that no payload is kept.
select idempotency_key, 'ACCEPTED' as billing_state, true as billable, null::bytea as payload_hash, year_month
from (
    select idempotency_key, of_year_month as year_month from usage.usage_adjustments
    where tenant_id = :tenant_id and site_id = :site and idempotency_key = any(cast(:keys as text[])) and kind = 'late'
    union all
    select idempotency_key, year_month from usage.archived_keys
    where tenant_id = :tenant_id and site_id = :site and idempotency_key = any(cast(:keys as text[]))
) as gone

-- insert --
-- What is the same in every row is given once, beside an empty list.
insert into usage.ingest_idempotency (
    tenant_id, site_id, idempotency_key, created_at, billing_state, billable, billing_reason, idempotency_version,
    event_category, event_action, event_label, occurred_at, plan_id, payload_hash, txid
)
select :tenant_id, coalesce(site_id, cast(:site as uuid)), key, coalesce(received_at, cast(:received_at as timestamptz)), coalesce(state, cast(:state as text)),
    coalesce(billable, cast(:billable as boolean)), coalesce(reason, cast(:reason as text)), coalesce(version, cast(:version as smallint)), coalesce(category, cast(:category as text)),
    coalesce(action, cast(:action as text)), coalesce(label, cast(:label as text)), coalesce(occurred_at, cast(:occurred_at as timestamptz)), coalesce(plan_id, cast(:plan as uuid)),
    payload_hash, (select pg_current_xact_id()::text::bigint)
from unnest(
    cast(:sites as uuid[]), cast(:keys as text[]), cast(:received_ats as timestamptz[]), cast(:states as text[]),
    cast(:billables as boolean[]), cast(:reasons as text[]), cast(:versions as smallint[]), cast(:categorys as text[]),
    cast(:actions as text[]), cast(:labels as text[]), cast(:occurred_ats as timestamptz[]), cast(:plans as uuid[]),
    cast(:hashes as bytea[])
) as incoming (
    site_id, key, received_at, state, billable, reason, version, category, action, label, occurred_at, plan_id, payload_hash
)

-- take_back --
-- Refusals that fit by now.
update usage.ingest_idempotency as ledger
set billing_state = taken.state, billable = true, billing_reason = taken.reason, plan_id = taken.plan_id,
    txid = (select pg_current_xact_id()::text::bigint)
from unnest(
    cast(:sites as uuid[]), cast(:keys as text[]), cast(:states as text[]), cast(:reasons as text[]), cast(:plans as uuid[])
) as taken (site_id, key, state, reason, plan_id)
where ledger.tenant_id = :tenant_id and ledger.site_id = taken.site_id and ledger.idempotency_key = taken.key

-- degrade --
-- Of this transaction's rows, those that could not be published. Overage stays overage: invoices count it.
update usage.ingest_idempotency as ledger set billing_state = 'DEGRADED_CAPTURE'
from unnest(cast(:keys as text[])) as lost (key)
where ledger.tenant_id = :tenant_id and ledger.site_id = :site_id and ledger.idempotency_key = lost.key
    and ledger.billing_state = 'ACCEPTED'

-- decide --
insert into usage.usage_decisions (
    tenant_id, site_id, idempotency_key, year_month, decision, reason, used_before, limit_then, plan_id, actor, created_at
)
select :tenant_id, decided.*, :actor, :at
from unnest(
    cast(:sites as uuid[]), cast(:keys as text[]), cast(:months as text[]), cast(:decisions as text[]),
    cast(:reasons as text[]), cast(:used as bigint[]), cast(:limits as bigint[]), cast(:plans as uuid[])
) as decided

-- keep_conflict --
-- What came, as far as it is short; of a key at most so many.
insert into usage.usage_conflicts (tenant_id, site_id, idempotency_key, payload_hash, payload, created_at)
select :tenant_id, :site_id, :key, :payload_hash, cast(:payload as json), :at
where (
    select count(*) from usage.usage_conflicts
    where tenant_id = :tenant_id and site_id = :site_id and idempotency_key = :key
) < :most
on conflict do nothing

-- count --
update usage.usage_counters as counters
set accepted = counters.accepted + added.accepted, overage = counters.overage + added.overage,
    rejected = counters.rejected + added.rejected, updated_at = :at
from unnest(
    cast(:sites as uuid[]), cast(:months as text[]), cast(:accepted as bigint[]), cast(:overage as bigint[]),
    cast(:rejected as bigint[])
) as added (site_id, year_month, accepted, overage, rejected)
where counters.tenant_id = :tenant_id and counters.site_id = added.site_id and counters.year_month = added.year_month

-- tell --
insert into usage.usage_notices (tenant_id, site_id, year_month, threshold, used, limit_then, created_at)
values (:tenant_id, :site_id, :month, :threshold, :used, :limit, :at)
on conflict do nothing

-- meter --
insert into usage.usage_meter_values (tenant_id, site_id, meter, idempotency_key, created_at, value, told, dimensions)
select :tenant_id, read.*
from unnest(
    cast(:sites as uuid[]), cast(:meters as text[]), cast(:keys as text[]), cast(:created_at as timestamptz[]),
    cast(:values as numeric[]), cast(:told as text[]), cast(:dimensions as jsonb[])
) as read

-- to_outbox --
insert into usage.usage_outbox (tenant_id, site_id, year_month, keys, payload, of_buffer, created_at)
values (:tenant_id, :site_id, :month, cast(:keys as text[]), cast(:payload as json), :of_buffer, :at)

-- to_buffer --
insert into usage.ingest_fallback_buffer (
    tenant_id, site_id, year_month, keys, payload, error_reason, due_at, created_at, updated_at
)
values (:tenant_id, :site_id, :month, cast(:keys as text[]), cast(:payload as json), :reason, :at, :at, :at)

-- plans_at --
select * from usage.site_plans
where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and valid_from <= :at
    and (valid_to is null or valid_to > :at)

-- hold_newest_plan --
select id, valid_from, valid_to from usage.site_plans
where tenant_id = :tenant_id and site_id = :site_id
order by valid_from desc limit 1
for no key update

-- end_plan --
update usage.site_plans set valid_to = :at where tenant_id = :tenant_id and id = :id

-- plans --
select * from usage.site_plans where tenant_id = :tenant_id and site_id = :site_id order by valid_from desc

-- hold_site_of_plan --
select id from usage.sites
where tenant_id = :tenant_id and id = (select site_id from usage.site_plans where tenant_id = :tenant_id and id = :id)
for no key update

-- plan --
select * from usage.site_plans where tenant_id = :tenant_id and id = :id

-- drop_plan --
delete from usage.site_plans where tenant_id = :tenant_id and id = :id

-- lengthen_plan --
-- The plan that would have ended where a dropped one begins, to the end that one had.
update usage.site_plans set valid_to = :ends
where tenant_id = :tenant_id and site_id = :site_id and valid_to = :begins
