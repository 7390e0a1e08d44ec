-- What the watch over usage asks, of all tenants at once.

-- publish_failures --
select count(*) from usage.ingest_fallback_buffer where created_at > cast(:at as timestamptz) - interval '15 minutes'

-- drift --
-- Months of sites that were found off by more than one in a hundred at their last count.
select count(distinct (tenant_id, site_id)) from usage.billing_reconciliation_jobs
where status = 'COMPLETED' and last_drift_pct > 0.01 and updated_at > cast(:at as timestamptz) - interval '1 hour'

-- stale_jobs --
-- Counts that are due for an hour, and those whose holder fell silent.
select count(*) from usage.billing_reconciliation_jobs
where status in ('QUEUED', 'FAILED') and due_at < cast(:at as timestamptz) - interval '1 hour'
    or status = 'PROCESSING' and lease_expires_at < :at

-- dead_jobs --
select count(*) from usage.billing_reconciliation_jobs where status = 'DEAD'

-- backlog --
-- How long the oldest captured event has waited to be delivered, in seconds.
select greatest(
    (select extract(epoch from cast(:at as timestamptz) - min(created_at)) from usage.usage_outbox where handed_on_at is null),
    (select extract(epoch from cast(:at as timestamptz) - min(created_at)) from usage.ingest_fallback_buffer
        where status in ('PENDING', 'PROCESSING')),
    0
)::bigint

-- quarantine --
-- Given up, and neither tried again nor credited.
select count(*) from usage.ingest_fallback_buffer where status = 'QUARANTINE' and credited_by is null

-- refused_lately --
-- By site: each event once, however often it was sent again.
select sites.public_id as site, count(*) as events
from usage.usage_decisions as decisions
inner join usage.sites as sites on sites.tenant_id = decisions.tenant_id and sites.id = decisions.site_id
where decisions.decision = 'rejected_quota'
    and decisions.created_at > cast(:at as timestamptz) - interval '1 hour'
group by sites.public_id
order by events desc, site

-- archivable --
-- Closed months of sites whose keys have all expired, and which still stand in the ledger.
select ledger.tenant_id, tenants.slug as tenant, ledger.site_id, sites.public_id as site, ledger.year_month, ledger.row_count,
    archives.row_count as archived
from usage.invoice_snapshot as ledger
inner join usage.usage_periods as periods on periods.tenant_id = ledger.tenant_id and periods.year_month = ledger.year_month
inner join spine.tenants as tenants on tenants.id = ledger.tenant_id
inner join usage.sites as sites on sites.tenant_id = ledger.tenant_id and sites.id = ledger.site_id
left join usage.usage_archives as archives
    on archives.tenant_id = ledger.tenant_id and archives.site_id = ledger.site_id and archives.year_month = ledger.year_month
where periods.state in ('CLOSED', 'ADJUSTED') and ledger.row_count > 0
    and ((ledger.year_month || '-01')::timestamp + interval '1 month' + make_interval(days => :days)) at time zone 'UTC' <= :at
    and (cast(:only_tenant as uuid) is null or ledger.tenant_id = cast(:only_tenant as uuid))
    and exists (
        select from usage.ingest_idempotency as rows
        where rows.tenant_id = ledger.tenant_id and rows.site_id = ledger.site_id and rows.year_month = ledger.year_month
            and rows.created_at >= (ledger.year_month || '-01')::timestamp at time zone 'UTC'
            and rows.created_at < ((ledger.year_month || '-01')::timestamp + interval '1 month') at time zone 'UTC'
    )
order by tenants.slug, ledger.year_month, sites.public_id

-- note_archive --
insert into usage.usage_archives (tenant_id, site_id, year_month, place, sha256, row_count, merkle_root, created_at)
values (:tenant_id, :site_id, :month, :place, :sha256, :row_count, :merkle_root, :at)
on conflict do nothing

-- archived --
select place, sha256, row_count, merkle_root from usage.usage_archives
where tenant_id = :tenant_id and site_id = :site_id and year_month = :month

-- keys_of_month --
-- Of rows that stand in the ledger still, as they lie: that a month's rows lie together is known of their instants.
select idempotency_key from usage.ingest_idempotency
where tenant_id = :tenant_id and site_id = :site_id and year_month = :month and created_at >= :begins and created_at < :ends

-- delete_archived --
-- A key in which no time is (version 3) outlives its row: the same event again is not another one.
with gone as (
    delete from usage.ingest_idempotency
    where tenant_id = :tenant_id and site_id = :site_id and year_month = :month
        and idempotency_key = any(cast(:keys as text[]))
    returning tenant_id, site_id, idempotency_key, year_month, billing_state
)
insert into usage.archived_keys (tenant_id, site_id, idempotency_key, year_month)
select tenant_id, site_id, idempotency_key, year_month from gone
where idempotency_key like 'v3:%' and billing_state <> 'REJECTED_QUOTA'
on conflict do nothing

-- delete_messages --
-- What was handed on, of before the month's end: nothing compares it any more.
delete from usage.usage_outbox
where tenant_id = :tenant_id and site_id = :site_id and handed_on_at is not null and created_at < :ends
    and not exists (
        select from usage.ingest_idempotency as ledger
        where ledger.tenant_id = usage_outbox.tenant_id and ledger.site_id = usage_outbox.site_id
            and ledger.idempotency_key = any(usage_outbox.keys)
    )
