-- Deliveries as they are looked at from above: what waits, and what is measured.

-- due_jobs --
-- Jobs that may be worked on now, with a digest that changes with every lease.
select count(*) as count, coalesce(md5(string_agg(id || ' ' || lease_token, ',' order by id)), '') as digest
from (
    select id, lease_token from delivery.job_queue
    where status = 'queued' and scheduled_for <= clock_timestamp()
    order by tenant_id, scheduled_for, id
    limit 1000
) as due

-- silent --
-- Leases that ended, dead jobs that still have something to send and attempts past their deadline; a digest that changes
-- when they are taken over.
select count(*) as count, coalesce(md5(string_agg(id || ' ' || turn, ',' order by id)), '') as digest
from (
    (select id, lease_token as turn from delivery.job_queue
    where status = 'locked' and lease_expires_at <= clock_timestamp() limit 1000)
    union all
    (select id, lease_token from delivery.job_queue as jobs
    where status = 'dead' and exists (
        select from delivery.channel_outbox as items
        where items.tenant_id = jobs.tenant_id and items.job_id = jobs.id and items.status = 'queued'
    ) limit 1000)
    union all
    (select id, replays from delivery.attempts
    where state = 'dispatching' and deadline_at <= clock_timestamp() limit 1000)
) as silent

-- due_cases --
-- Open cases whose provider may be asked again, those that a person has owed an answer for too long, and a digest that
-- changes with every look-up.
select count(*) filter (where next_lookup_at <= clock_timestamp() and attempt_id is not null) as count,
    count(*) filter (where due_at <= clock_timestamp()) as overdue,
    coalesce(md5(string_agg(id || ' ' || coalesce(evidence ->> 'lookups', '0'), ',' order by id)
        filter (where next_lookup_at <= clock_timestamp())), '') as digest
from delivery.reconciliation_cases
where resolution is null

-- overdue_cases --
select tenants.slug as tenant, items.channel, items.provider, cases.reason, cases.opened_at, cases.due_at, cases.assigned_to
from delivery.reconciliation_cases as cases
inner join spine.tenants on tenants.id = cases.tenant_id
inner join delivery.channel_outbox as items on items.tenant_id = cases.tenant_id and items.id = cases.item_id
where cases.resolution is null and cases.due_at <= clock_timestamp()
order by cases.due_at
limit :most

-- funnel --
-- The newest runs, with their items as they stand now.
with newest as materialized (
    select * from delivery.campaign_runs where created_at >= :since order by created_at desc limit :most
)
select tenants.slug as tenant, campaigns.name as campaign, newest.channel, newest.step, newest.status, newest.created_at,
    newest.retry_of_run_id is not null as is_retry, totals.*
from newest
inner join spine.tenants on tenants.id = newest.tenant_id
inner join spine.spine_campaigns as campaigns on campaigns.tenant_id = newest.tenant_id and campaigns.id = newest.campaign_id
cross join lateral (
    select count(*) as items,
        count(*) filter (where status in ('queued', 'dispatching')) as open,
        count(*) filter (where status in ('sent', 'called', 'posted')) as accepted,
        count(*) filter (where delivery_status in ('answered', 'delivered', 'opened', 'clicked')) as delivered,
        count(*) filter (where status = 'failed') as rejected,
        count(*) filter (where status = 'skipped') as suppressed,
        count(*) filter (where status = 'unknown') as unknown,
        count(*) filter (where status in ('cancelled', 'expired', 'abandoned')) as ended
    from delivery.channel_outbox as items
    where items.tenant_id = newest.tenant_id and items.run_id = newest.id
) as totals
order by newest.created_at desc

-- waits --
-- How long jobs waited for their first worker, and took from there, by the day they were due.
select (due_at at time zone 'UTC')::date as day, channel, count(*) as jobs, count(*) filter (where started_at is null) as waiting,
    percentile_cont(array[0.5, 0.95, 0.99]) within group (order by cast(wait_seconds as float8)) as start_seconds,
    percentile_cont(array[0.5, 0.95, 0.99]) within group (order by cast(work_seconds as float8)) as end_seconds
from delivery.job_waits(clock_timestamp())
where due_at >= :since
group by grouping sets ((1, 2), (1), ())
order by 1, 2

-- health --
-- Accounts with a provider: what became of their attempts since an instant and why, and when one last succeeded. Attempts
-- are those of the lineages given.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
),
tried as materialized (
    select attempts.tenant_id, attempts.account_id, attempts.state, attempts.error_code, attempts.finished_at,
        attempts.started_at >= :since as is_recent, attempts.replays > 0 as is_replayed
    from given
    inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
    inner join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
),
states as (
    select tenant_id, account_id,
        count(*) filter (where is_recent) as attempts,
        count(*) filter (where is_recent and state = 'accepted') as accepted,
        count(*) filter (where is_recent and state = 'rejected') as rejected,
        count(*) filter (where is_recent and state = 'unknown') as unknown,
        count(*) filter (where is_recent and is_replayed) as replayed,
        max(finished_at) filter (where state = 'accepted') as last_success_at
    from tried
    group by tenant_id, account_id
),
classes as (
    select tenant_id, account_id, string_agg(format('%s: %s', error_code, count), ', ' order by count desc, error_code) as error_classes
    from (
        select tenant_id, account_id, error_code, count(*) as count,
            row_number() over (partition by tenant_id, account_id order by count(*) desc, error_code) as place
        from tried
        where is_recent and error_code is not null
        group by tenant_id, account_id, error_code
    ) as counted
    where place <= 5
    group by tenant_id, account_id
)
select tenants.slug as tenant, accounts.name as account, accounts.provider, accounts.stopped_at is not null as is_stopped,
    coalesce(attempts, 0) as attempts, coalesce(accepted, 0) as accepted, coalesce(rejected, 0) as rejected,
    coalesce(unknown, 0) as unknown, coalesce(replayed, 0) as replayed, last_success_at, error_classes
from delivery.provider_accounts as accounts
inner join spine.tenants on tenants.id = accounts.tenant_id
left join states on states.tenant_id = accounts.tenant_id and states.account_id = accounts.id
left join classes on classes.tenant_id = accounts.tenant_id and classes.account_id = accounts.id
order by 1, 2

-- attempts_by_day --
-- Of the lineages given.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select (attempts.started_at at time zone 'UTC')::date as day, attempts.state, count(*) as count
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
inner join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
where attempts.started_at >= :since
group by 1, 2 order by 1, 2

-- in_flight --
-- What a fence would turn into cases.
select count(*) as items
from delivery.channel_outbox
where status in ('queued', 'dispatching') and (cast(:tenant_id as uuid) is null or tenant_id = :tenant_id)

-- due --
-- What workers of all tenants have before them: jobs that are due, and jobs that wait for their time or a resume.
select count(*) filter (where scheduled_for <= clock_timestamp()) as due_jobs,
    count(*) filter (where scheduled_for > clock_timestamp()) as waiting_jobs,
    nullif(min(scheduled_for) filter (where scheduled_for > clock_timestamp()), 'infinity') as next_at
from delivery.job_queue
where status = 'queued'

-- due_items --
select count(*)
from delivery.job_queue as jobs
inner join delivery.channel_outbox as items on items.tenant_id = jobs.tenant_id and items.job_id = jobs.id
    and items.status = 'queued'
where jobs.status = 'queued' and jobs.scheduled_for <= clock_timestamp()
