-- Deliveries as they are looked at from above: rules that nothing may have broken, what waits, and what is measured.
-- A rule gives the rows that break it, and none when it holds.

-- one_accepted_attempt_per_item --
select attempts.tenant_id, attempts.item_id as id, format('%s attempts were accepted', count(*)) as why
from delivery.attempts
where state = 'accepted'
group by tenant_id, item_id
having count(*) > 1
limit :most

-- no_ended_run_has_open_items --
select runs.tenant_id, runs.id, format('%s, with %s items that have no outcome', runs.status, count(*)) as why
from delivery.campaign_runs as runs
inner join delivery.channel_outbox as items on items.tenant_id = runs.tenant_id and items.run_id = runs.id
where runs.status in ('completed', 'partial', 'failed', 'cancelled') and items.status in ('queued', 'dispatching', 'unknown')
group by runs.tenant_id, runs.id, runs.status
limit :most

-- counts_equal_item_totals --
-- A run intends the items it launched or took up again; those that a later run took over were rejected here. Counts of
-- a run that goes on are those of its newest rollup, so that only what it intends is compared.
with intended as (
    select items.tenant_id, items.root_run_id as intending_run_id, items.run_id, items.status
    from delivery.channel_outbox as items
    union all
    select items.tenant_id, recipients.run_id, items.run_id, items.status
    from delivery.run_recipients as recipients
    inner join delivery.channel_outbox as items on items.tenant_id = recipients.tenant_id and items.id = recipients.item_id
    where items.root_run_id <> recipients.run_id
),
totals as (
    select tenant_id, intending_run_id, count(*) as intended,
        count(*) filter (where run_id = intending_run_id and status in ('sent', 'called', 'posted')) as accepted,
        count(*) filter (where run_id <> intending_run_id or status = 'failed') as rejected,
        count(*) filter (where run_id = intending_run_id and status = 'skipped') as suppressed,
        count(*) filter (where run_id = intending_run_id and status = 'unknown') as unknown,
        count(*) filter (where run_id = intending_run_id and status = 'cancelled') as cancelled,
        count(*) filter (where run_id = intending_run_id and status = 'expired') as expired,
        count(*) filter (where run_id = intending_run_id and status = 'abandoned') as abandoned
    from intended
    group by tenant_id, intending_run_id
),
told as (
    select runs.tenant_id, runs.id, runs.status not in ('queued', 'running', 'paused') as is_settled,
        array[runs.intended, runs.accepted, runs.rejected, runs.suppressed, runs.unknown, runs.cancelled, runs.expired, runs.abandoned]
            as kept,
        array[
            coalesce(totals.intended, 0), coalesce(totals.accepted, 0), coalesce(totals.rejected, 0), coalesce(totals.suppressed, 0),
            coalesce(totals.unknown, 0), coalesce(totals.cancelled, 0), coalesce(totals.expired, 0), coalesce(totals.abandoned, 0)
        ] as counted
    from delivery.campaign_runs as runs
    left join totals on totals.tenant_id = runs.tenant_id and totals.intending_run_id = runs.id
)
select tenant_id, id, format(
    'intended, accepted, rejected, suppressed, unknown, cancelled, expired, abandoned are kept as %s and counted as %s', kept, counted
) as why
from told
where kept[1] <> counted[1] or (is_settled and kept <> counted)
limit :most

-- no_attempt_is_overdue_without_a_case --
select attempts.tenant_id, attempts.id, format('its outcome was due at %s', attempts.deadline_at) as why
from delivery.attempts
where attempts.state = 'dispatching' and attempts.deadline_at < clock_timestamp() - interval '15 minutes'
    and not exists (
        select from delivery.reconciliation_cases as cases
        where cases.tenant_id = attempts.tenant_id and cases.item_id = attempts.item_id and cases.resolution is null
    )
limit :most

-- no_attempt_has_a_later_token_than_its_job --
select attempts.tenant_id, attempts.id, format('token %s, and its job has %s', attempts.lease_token, jobs.lease_token) as why
from delivery.attempts
left join delivery.job_queue as jobs on jobs.tenant_id = attempts.tenant_id and jobs.id = attempts.job_id
where jobs.id is null or attempts.lease_token > jobs.lease_token
limit :most

-- every_accepted_attempt_can_be_shown --
select attempts.tenant_id, attempts.id, 'it has neither an id of the provider nor a note of who found it' as why
from delivery.attempts
where attempts.state = 'accepted' and attempts.provider_message_id is null
    and not exists (
        select from delivery.reconciliation_cases as cases
        where cases.tenant_id = attempts.tenant_id and cases.attempt_id = attempts.id and cases.resolution = 'accepted'
            and btrim(coalesce(cases.note, '')) <> ''
    )
limit :most

-- every_item_belongs_to_its_runs --
-- To the tenant and workspace of the run that works on it and of the run that intended it, by a job of the former.
select items.tenant_id, items.id, 'its run, its root run or its job is of another tenant, workspace or run' as why
from delivery.channel_outbox as items
left join delivery.campaign_runs as runs on runs.tenant_id = items.tenant_id and runs.id = items.run_id
left join delivery.campaign_runs as roots on roots.tenant_id = items.tenant_id and roots.id = items.root_run_id
left join delivery.job_queue as jobs on jobs.tenant_id = items.tenant_id and jobs.id = items.job_id
where runs.workspace_id is distinct from items.workspace_id or roots.workspace_id is distinct from items.workspace_id
    or jobs.run_id is distinct from items.run_id or runs.root_run_id is distinct from items.root_run_id
limit :most

-- nobody_is_contacted_twice --
select tenant_id, root_run_id as id, format('step %s reached %s %s times', step, address, count(*)) as why
from delivery.channel_outbox
where status in ('sent', 'called', 'posted')
group by tenant_id, root_run_id, step, address
having count(*) > 1
limit :most

-- usage_is_committed_once --
-- Of what an attempt reserved, all is committed when it was accepted, all is given back when it was rejected, and
-- nothing of either has happened before.
select attempts.tenant_id, attempts.id, format(
    '%s: %s reserved, %s committed in %s entries, %s released', attempts.state, coalesce(units.reserved, 0),
    coalesce(units.committed, 0), coalesce(units.commits, 0), coalesce(units.released, 0)
) as why
from delivery.attempts
left join (
    select tenant_id, attempt_id, sum(usage_entries.units) filter (where kind = 'reserve') as reserved,
        sum(usage_entries.units) filter (where kind = 'commit') as committed, count(*) filter (where kind = 'commit') as commits,
        sum(usage_entries.units) filter (where kind = 'release') as released
    from delivery.usage_entries
    group by tenant_id, attempt_id
) as units on units.tenant_id = attempts.tenant_id and units.attempt_id = attempts.id
where coalesce(units.reserved, 0) <= 0
    or coalesce(units.commits, 0) <> case attempts.state when 'accepted' then 1 else 0 end
    or coalesce(units.committed, 0) <> case attempts.state when 'accepted' then units.reserved else 0 end
    or coalesce(units.released, 0) <> case attempts.state when 'rejected' then units.reserved else 0 end
limit :most

-- no_message_of_a_provider_is_two_items --
select tenant_id, min(id::text)::uuid as id, format('message %s stands for %s items', provider_message_id, count(distinct item_id)) as why
from delivery.attempts
where provider_message_id is not null
group by tenant_id, account_id, provider_message_id
having count(distinct item_id) > 1
limit :most

-- every_item_agrees_with_its_last_attempt --
-- Without an outcome of its last attempt, only a person can have said that an item was accepted.
with last as (
    select distinct on (tenant_id, item_id) tenant_id, item_id, n, state, provider_message_id
    from delivery.attempts
    order by tenant_id, item_id, n desc
)
select items.tenant_id, items.id, format(
    '%s after %s attempts with message %s, and attempt %s is %s with message %s', items.status, items.attempts,
    coalesce(items.provider_message_id, 'none'), coalesce(last.n, 0), coalesce(last.state, 'none'),
    coalesce(last.provider_message_id, 'none')
) as why
from delivery.channel_outbox as items
left join last on last.tenant_id = items.tenant_id and last.item_id = items.id
where items.attempts <> coalesce(last.n, 0)
    or not case coalesce(last.state, 'none')
        when 'accepted' then items.status in ('sent', 'called', 'posted')
            and items.provider_message_id is not distinct from last.provider_message_id
        when 'dispatching' then items.status = 'dispatching'
        when 'unknown' then items.status = 'unknown'
        else items.status <> 'dispatching' and (
            items.status not in ('sent', 'called', 'posted') or exists (
                select from delivery.reconciliation_cases as cases
                where cases.tenant_id = items.tenant_id and cases.item_id = items.id and cases.resolution = 'accepted'
            )
        )
    end
limit :most

-- unknown_items_and_open_cases_are_the_same --
select coalesce(items.tenant_id, cases.tenant_id) as tenant_id, coalesce(items.id, cases.item_id) as id,
    case when items.id is null then 'a case is open, and its item is not unknown' else 'unknown, without an open case' end as why
from (select tenant_id, id from delivery.channel_outbox where status = 'unknown') as items
full join (select tenant_id, item_id from delivery.reconciliation_cases where resolution is null) as cases
    on cases.tenant_id = items.tenant_id and cases.item_id = items.id
where items.id is null or cases.item_id is null
limit :most

-- tenants --
-- Those that have an audit.
select distinct tenant_id from delivery.audit_events order by tenant_id

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
-- Leases that ended and attempts past their deadline; a digest that changes when they are taken over.
select count(*) as count, coalesce(md5(string_agg(id || ' ' || turn, ',' order by id)), '') as digest
from (
    (select id, lease_token as turn from delivery.job_queue
    where status = 'locked' and lease_expires_at <= clock_timestamp() limit 1000)
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
-- How long jobs waited for their first worker, and took from there, by the day they were due. Jobs that are due and
-- were never begun wait until now. A job that was put off later tells no more when it was due: then its run does.
with begun as (
    select jobs.started_at, jobs.completed_at, runs.channel,
        case
            when jobs.scheduled_for <= coalesce(jobs.started_at, clock_timestamp()) then jobs.scheduled_for
            when jobs.started_at is not null then greatest(runs.scheduled_for, jobs.created_at)
        end as due_at
    from delivery.job_queue as jobs
    inner join delivery.campaign_runs as runs on runs.tenant_id = jobs.tenant_id and runs.id = jobs.run_id
    where jobs.started_at is not null or jobs.status = 'queued'
)
select (due_at at time zone 'UTC')::date as day, channel, count(*) as jobs, count(*) filter (where started_at is null) as waiting,
    percentile_cont(array[0.5, 0.95, 0.99]) within group (
        order by extract(epoch from coalesce(started_at, clock_timestamp()) - due_at)
    ) as start_seconds,
    percentile_cont(array[0.5, 0.95, 0.99]) within group (order by extract(epoch from completed_at - started_at)) as end_seconds
from begun
where due_at >= :since
group by grouping sets ((1, 2), (1), ())
order by 1, 2

-- duplicates --
-- People whom one step of a campaign reached more than once: by accepted attempts, and by what providers told of
-- messages that are not those we know.
with effects as (
    select tenant_id, item_id, id::text as effect from delivery.attempts where state = 'accepted'
    union
    select attempts.tenant_id, attempts.item_id,
        case
            when attempts.state = 'accepted' and (
                events.provider_message_id is null or attempts.provider_message_id = events.provider_message_id
                -- Known from a callback alone, it has no id of the provider's: any is its own.
                or coalesce(attempts.provider_message_id, 'callback:') like 'callback:%'
            ) then attempts.id::text
            else coalesce(events.provider_message_id, attempts.id::text)
        end
    from delivery.provider_events as events
    inner join delivery.attempts on attempts.tenant_id = events.tenant_id and attempts.id = events.attempt_id
    where events.kind <> 'unsubscribed'
),
reached as (
    select items.tenant_id, runs.campaign_id, items.channel, items.step, runs.occurrence, items.address, count(*) as effects
    from effects
    inner join delivery.channel_outbox as items on items.tenant_id = effects.tenant_id and items.id = effects.item_id
    inner join delivery.campaign_runs as runs on runs.tenant_id = items.tenant_id and runs.id = items.root_run_id
    group by 1, 2, 3, 4, 5, 6
)
select tenants.slug as tenant, campaigns.name as campaign, reached.channel, reached.step, count(*) as people,
    count(*) filter (where effects > 1) as reached_twice, sum(effects - 1) as extra_effects
from reached
inner join spine.tenants on tenants.id = reached.tenant_id
inner join spine.spine_campaigns as campaigns on campaigns.tenant_id = reached.tenant_id and campaigns.id = reached.campaign_id
group by 1, 2, 3, 4
order by extra_effects desc, 1, 2, 3, 4

-- health --
-- Accounts with a provider: what became of their attempts since an instant and why, and when one last succeeded at all.
with states as materialized (
    select tenant_id, account_id,
        count(*) filter (where started_at >= :since) as attempts,
        count(*) filter (where started_at >= :since and state = 'accepted') as accepted,
        count(*) filter (where started_at >= :since and state = 'rejected') as rejected,
        count(*) filter (where started_at >= :since and state = 'unknown') as unknown,
        count(*) filter (where started_at >= :since and replays > 0) as replayed,
        max(finished_at) filter (where state = 'accepted') as last_success_at
    from delivery.attempts
    group by tenant_id, account_id
),
classes as materialized (
    select tenant_id, account_id, string_agg(format('%s: %s', error_code, count), ', ' order by count desc, error_code) as error_classes
    from (
        select tenant_id, account_id, error_code, count(*) as count,
            row_number() over (partition by tenant_id, account_id order by count(*) desc, error_code) as place
        from delivery.attempts where started_at >= :since and error_code is not null
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
select (started_at at time zone 'UTC')::date as day, state, count(*) as count
from delivery.attempts where started_at >= :since
group by 1, 2 order by 1, 2
