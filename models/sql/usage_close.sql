-- Periods, what a close checks and freezes, invoices, adjustments, and the audit of all of them.

-- periods --
select year_month, state, closing_at, closed_at, closed_by from usage.usage_periods
where tenant_id = :tenant_id
order by year_month desc

-- first_month --
select least(
    (select min(year_month) from usage.usage_periods where tenant_id = :tenant_id),
    (select usage.utc_year_month(min(valid_from)) from usage.site_plans where tenant_id = :tenant_id)
)

-- begin_closing --
update usage.usage_periods set state = 'CLOSING', closing_at = :at, updated_at = :at
where tenant_id = :tenant_id and state = 'OPEN' and year_month < :now
returning year_month

-- missed --
-- From a tenant's first month on none is left out: a base price is due whether anything was metered or not.
select tenants.id as tenant_id, tenants.slug as tenant, months.year_month, periods.state, months.days
from spine.tenants as tenants
cross join lateral (
    select least(
        (select min(year_month) from usage.usage_periods as known where known.tenant_id = tenants.id),
        (select usage.utc_year_month(min(valid_from)) from usage.site_plans as plans where plans.tenant_id = tenants.id)
    ) as year_month
) as beginning
cross join lateral (
    select usage.utc_year_month(month at time zone 'UTC') as year_month,
        extract(day from cast(:at as timestamptz) - ((month + interval '1 month') at time zone 'UTC'))::int as days
    from generate_series(
        (beginning.year_month || '-01')::timestamp, (cast(:at as timestamptz) at time zone 'UTC'), interval '1 month'
    ) as month
    where (month + interval '1 month') at time zone 'UTC' <= cast(:at as timestamptz) - make_interval(days => :days)
) as months
left join usage.usage_periods as periods on periods.tenant_id = tenants.id and periods.year_month = months.year_month
where beginning.year_month is not null and (periods.state is null or periods.state not in ('CLOSED', 'ADJUSTED'))
order by tenants.slug, months.year_month

-- open_period --
insert into usage.usage_periods (tenant_id, year_month, updated_at) values (:tenant_id, :month, :at) on conflict do nothing

-- hold_period --
-- For the one who changes its state: those who write into the month are waited for, and wait.
select state, closed_at, closed_by from usage.usage_periods where tenant_id = :tenant_id and year_month = :month for update

-- share_period --
select state from usage.usage_periods where tenant_id = :tenant_id and year_month = :month for share

-- period --
select state from usage.usage_periods where tenant_id = :tenant_id and year_month = :month

-- set_closing --
update usage.usage_periods set state = 'CLOSING', closing_at = :at, updated_at = :at
where tenant_id = :tenant_id and year_month = :month and state = 'OPEN'

-- set_closed --
update usage.usage_periods set state = 'CLOSED', closed_at = :at, closed_by = :actor, updated_at = :at
where tenant_id = :tenant_id and year_month = :month

-- set_adjusted --
update usage.usage_periods set state = 'ADJUSTED', updated_at = :at
where tenant_id = :tenant_id and year_month = :month and state = 'CLOSED'

-- unfinished_jobs --
select status, count(*) as jobs from usage.billing_reconciliation_jobs
where tenant_id = :tenant_id and year_month = :month and status <> 'COMPLETED'
group by status order by status

-- uncredited --
-- Messages that were given up, with what of the month was billed for them and is not credited yet.
select buffer.id, buffer.site_id, ledger.year_month, count(*) as events
from usage.ingest_fallback_buffer as buffer
cross join unnest(buffer.keys) as key
inner join usage.ingest_idempotency as ledger
    on ledger.tenant_id = buffer.tenant_id and ledger.site_id = buffer.site_id and ledger.idempotency_key = key
where buffer.tenant_id = :tenant_id and buffer.status = 'QUARANTINE' and ledger.billable
    and (cast(:buffer_id as uuid) is null or buffer.id = cast(:buffer_id as uuid))
    and (cast(:month as text) is null or ledger.year_month = cast(:month as text))
    and not exists (
        select from usage.usage_adjustments as credits
        where credits.tenant_id = buffer.tenant_id and credits.site_id = buffer.site_id and credits.kind = 'credit'
            and credits.idempotency_key = concat('buffer:', buffer.id, ':', ledger.year_month)
            and credits.refused_at is null and (credits.approved_at is not null or not :is_approved)
    )
group by buffer.id, buffer.site_id, ledger.year_month
order by buffer.id, ledger.year_month

-- hold_message --
select status from usage.ingest_fallback_buffer where tenant_id = :tenant_id and id = :buffer_id for update

-- note_credit --
update usage.ingest_fallback_buffer set credited_by = :id, updated_at = :at where tenant_id = :tenant_id and id = :buffer_id

-- first_plans --
-- Of sites that had none when the month began: the first that began within it.
select distinct on (site_id) * from usage.site_plans
where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and valid_from >= :begins and valid_from < :ends
order by site_id, valid_from

-- last_hash --
select hash from usage.invoice_snapshot where tenant_id = :tenant_id order by year_month desc, site_id desc limit 1

-- snapshots --
-- In the order of their chain.
select * from usage.invoice_snapshot
where tenant_id = :tenant_id and (cast(:month as text) is null or year_month = cast(:month as text))
    and (cast(:site_id as uuid) is null or site_id = cast(:site_id as uuid))
order by year_month, site_id

-- corrections --
-- Approved adjustments that a month pays for: those of one kind and month together, those that add first, so that no count
-- goes below nothing on the way. `earlier` is what months before this one paid for already.
select found.*, coalesce((
    select sum(earlier.quantity) from usage.usage_adjustments as earlier
    where earlier.tenant_id = :tenant_id and earlier.site_id = found.site_id and earlier.of_year_month = found.of_year_month
        and earlier.approved_at is not null and earlier.year_month < :month
), 0)::bigint as earlier
from (
    select site_id, of_year_month, kind, sum(quantity)::bigint as quantity, count(*) as asked, min(reason) as reason,
        count(distinct reason) as reasons
    from usage.usage_adjustments
    where tenant_id = :tenant_id and site_id = any(cast(:sites as uuid[])) and year_month = :month and approved_at is not null
    group by site_id, of_year_month, kind, quantity > 0
) as found
order by site_id, of_year_month, quantity < 0, kind

-- adjustments --
select adjustments.*, sites.public_id as site, coalesce(askers.name, adjustments.asked_by) as asker,
    coalesce(approvers.name, adjustments.approved_by) as approver, coalesce(refusers.name, adjustments.refused_by) as refuser
from usage.usage_adjustments as adjustments
inner join usage.sites as sites on sites.tenant_id = adjustments.tenant_id and sites.id = adjustments.site_id
left join spine.user_tenants as askers on askers.tenant_id = adjustments.tenant_id and askers.user_id::text = adjustments.asked_by
left join spine.user_tenants as approvers
    on approvers.tenant_id = adjustments.tenant_id and approvers.user_id::text = adjustments.approved_by
left join spine.user_tenants as refusers
    on refusers.tenant_id = adjustments.tenant_id and refusers.user_id::text = adjustments.refused_by
where adjustments.tenant_id = :tenant_id
    and (cast(:month as text) is null or cast(:month as text) in (adjustments.year_month, adjustments.of_year_month))
order by adjustments.created_at, adjustments.id

-- hold_adjustments --
select pg_advisory_xact_lock(hashtextextended(concat('usage.usage_adjustments:', cast(:tenant_id as uuid)), 0))

-- asked --
select id, site_id, of_year_month, quantity, asked_by, approved_at, refused_at from usage.usage_adjustments
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[]))
order by of_year_month, created_at, id

-- approve --
update usage.usage_adjustments set approved_by = :actor, approved_at = :at, year_month = :pays
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[]))

-- refuse --
update usage.usage_adjustments set refused_by = :actor, refused_at = :at, refused_why = :why
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[]))

-- uncredit --
-- Messages whose credit was refused are given up again, unless a credit of another month is left.
update usage.ingest_fallback_buffer as buffer
set updated_at = :at, credited_by = (
    select credits.id from usage.usage_adjustments as credits
    where credits.tenant_id = buffer.tenant_id and credits.site_id = buffer.site_id and credits.kind = 'credit'
        and credits.idempotency_key like concat('buffer:', buffer.id, ':%') and credits.refused_at is null
    limit 1
)
where tenant_id = :tenant_id and credited_by = any(cast(:ids as uuid[]))

-- units --
-- What a site's month comes to with everything that was approved of it: frozen, or as counted so far.
select coalesce(
    (select event_count from usage.invoice_snapshot
        where tenant_id = :tenant_id and site_id = :site_id and year_month = :month),
    (select accepted from usage.usage_counters
        where tenant_id = :tenant_id and site_id = :site_id and year_month = :month),
    0
) + coalesce((
    select sum(quantity) from usage.usage_adjustments
    where tenant_id = :tenant_id and site_id = :site_id and of_year_month = :month and approved_at is not null
), 0)::bigint

-- invoices --
select * from usage.usage_invoices
where tenant_id = :tenant_id and (cast(:month as text) is null or year_month = cast(:month as text))
order by year_month desc, currency

-- hold_invoice --
select * from usage.usage_invoices where tenant_id = :tenant_id and id = :id for no key update

-- finalise --
update usage.usage_invoices set state = 'final', final_at = :at, final_by = :actor where tenant_id = :tenant_id and id = :id

-- invoice_lines --
select lines.*, sites.public_id as site
from usage.usage_invoice_lines as lines
inner join usage.sites as sites on sites.tenant_id = lines.tenant_id and sites.id = lines.site_id
where lines.tenant_id = :tenant_id and lines.invoice_id = :id
order by lines.number

-- invoice_reasons --
-- Of the lines of corrections, which are those of one kind and month together, each reason with its events.
select lines.number, adjustments.reason, sum(adjustments.quantity)::bigint as events
from usage.usage_invoice_lines as lines
inner join usage.usage_invoices as invoices on invoices.tenant_id = lines.tenant_id and invoices.id = lines.invoice_id
inner join usage.usage_adjustments as adjustments
    on adjustments.tenant_id = lines.tenant_id and adjustments.site_id = lines.site_id
    and adjustments.year_month = invoices.year_month and adjustments.of_year_month = lines.of_year_month
    and adjustments.approved_at is not null and (adjustments.quantity > 0) = (lines.quantity > 0)
    and lines.told like concat(adjustments.kind, ':%')
where lines.tenant_id = :tenant_id and lines.invoice_id = :id and lines.kind = 'adjustment'
group by lines.number, adjustments.reason
order by lines.number, min(adjustments.created_at), adjustments.reason
