-- Rules that nothing may have broken: each gives the rows that break it, and none when it holds. What it looks at are
-- the lineages it is given, by the ids of their first runs, so that every row can be found by a key.

-- lineages --
-- Runs and their retries, all of them or those that go on or have changed since.
select tenant_id, root_run_id as id
from delivery.campaign_runs
group by tenant_id, root_run_id
having cast(:since as timestamptz) is null
    or bool_or(status not in ('completed', 'partial', 'failed', 'cancelled') or updated_at >= :since)
order by tenant_id, root_run_id

-- by_keys --
-- Plans for rows that are found by keys, with the keys at hand: what is known of tables that grow is always old.
select set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)

-- by_tables --
-- Plans for all rows there are: tables read once and joined by hashes, in place of a look-up for each row.
select set_config('enable_nestloop', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('work_mem', '64MB', true)

-- one_accepted_attempt_per_item --
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select items.tenant_id, items.id, format('%s attempts were accepted', count(*)) as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
inner join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
where attempts.state = 'accepted'
group by items.tenant_id, items.id
having count(*) > 1
limit :most

-- no_ended_run_has_open_items --
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select runs.tenant_id, runs.id, format('%s, with %s items that have no outcome', runs.status, count(*)) as why
from given
inner join delivery.campaign_runs as runs on runs.tenant_id = given.tenant_id and runs.root_run_id = given.id
inner join delivery.channel_outbox as items on items.tenant_id = runs.tenant_id and items.run_id = runs.id
where runs.status in ('completed', 'partial', 'failed', 'cancelled') and items.status in ('queued', 'dispatching', 'unknown')
group by runs.tenant_id, runs.id, runs.status
limit :most

-- no_dead_job_has_queued_items --
-- Of every lineage: dead jobs are few, and have an index of their own.
select jobs.tenant_id, jobs.id, format('%s items wait for a job that is dead', count(*)) as why
from delivery.job_queue as jobs
inner join delivery.channel_outbox as items on items.tenant_id = jobs.tenant_id and items.job_id = jobs.id
where jobs.status = 'dead' and items.status = 'queued'
group by jobs.tenant_id, jobs.id
limit :most

-- counts_equal_item_totals --
-- A run intends the items it launched or took up again; those that a later run took over were rejected here. Counts of
-- a run that goes on are those of its newest rollup, so that only what it intends is compared.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
),
told as (
    select runs.tenant_id, runs.id, runs.status not in ('queued', 'running', 'paused') as is_settled,
        array[runs.intended, runs.accepted, runs.rejected, runs.suppressed, runs.unknown, runs.cancelled, runs.expired, runs.abandoned]
            as kept,
        counted
    from given
    inner join delivery.campaign_runs as runs on runs.tenant_id = given.tenant_id and runs.root_run_id = given.id
    cross join lateral (
        select array[
            count(*),
            count(*) filter (where run_id = runs.id and status in ('sent', 'called', 'posted')),
            count(*) filter (where run_id <> runs.id or status = 'failed'),
            count(*) filter (where run_id = runs.id and status = 'skipped'),
            count(*) filter (where run_id = runs.id and status = 'unknown'),
            count(*) filter (where run_id = runs.id and status = 'cancelled'),
            count(*) filter (where run_id = runs.id and status = 'expired'),
            count(*) filter (where run_id = runs.id and status = 'abandoned')
        ] as counted
        from (
            select items.run_id, items.status
            from delivery.channel_outbox as items
            where items.tenant_id = runs.tenant_id and items.root_run_id = runs.id
            union all
            select items.run_id, items.status
            from delivery.run_recipients as recipients
            inner join delivery.channel_outbox as items on items.tenant_id = recipients.tenant_id and items.id = recipients.item_id
            where runs.retry_of_run_id is not null and recipients.tenant_id = runs.tenant_id and recipients.run_id = runs.id
        ) as intended
    ) as totals
)
select tenant_id, id, format(
    'intended, accepted, rejected, suppressed, unknown, cancelled, expired, abandoned are kept as %s and counted as %s', kept, counted
) as why
from told
where kept[1] <> counted[1] or (is_settled and kept <> counted)
limit :most

-- no_attempt_is_overdue_without_a_case --
-- Of every lineage: those under way are few, and have an index of their own.
select attempts.tenant_id, attempts.id, format('its outcome was due at %s', attempts.deadline_at) as why
from delivery.attempts
where attempts.state = 'dispatching' and attempts.deadline_at < clock_timestamp() - interval '15 minutes'
    and not exists (
        select from delivery.reconciliation_cases as cases
        where cases.tenant_id = attempts.tenant_id and cases.item_id = attempts.item_id and cases.resolution is null
    )
limit :most

-- no_attempt_has_a_later_token_than_its_job --
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select attempts.tenant_id, attempts.id, format('token %s, and its job has %s', attempts.lease_token, jobs.lease_token) as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
inner join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
left join delivery.job_queue as jobs on jobs.tenant_id = attempts.tenant_id and jobs.id = attempts.job_id
where jobs.id is null or attempts.lease_token > jobs.lease_token
limit :most

-- every_accepted_attempt_can_be_shown --
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select attempts.tenant_id, attempts.id, 'it has neither an id of the provider nor a note of who found it' as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
inner join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
where attempts.state = 'accepted' and attempts.provider_message_id is null
    and not exists (
        select from delivery.reconciliation_cases as cases
        where cases.tenant_id = attempts.tenant_id and cases.attempt_id = attempts.id and cases.resolution = 'accepted'
            and btrim(coalesce(cases.note, '')) <> ''
    )
limit :most

-- every_item_belongs_to_its_runs --
-- To the tenant and workspace of the run that works on it and of the run that intended it, by a job of the former.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select items.tenant_id, items.id, 'its run, its root run or its job is of another tenant, workspace or run' as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
left join delivery.campaign_runs as runs on runs.tenant_id = items.tenant_id and runs.id = items.run_id
left join delivery.campaign_runs as roots on roots.tenant_id = items.tenant_id and roots.id = items.root_run_id
left join delivery.job_queue as jobs on jobs.tenant_id = items.tenant_id and jobs.id = items.job_id
where runs.workspace_id is distinct from items.workspace_id or roots.workspace_id is distinct from items.workspace_id
    or jobs.run_id is distinct from items.run_id or runs.root_run_id is distinct from items.root_run_id
limit :most

-- nobody_is_contacted_twice --
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select items.tenant_id, items.root_run_id as id, format('step %s reached %s %s times', items.step, items.address, count(*)) as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
where items.status in ('sent', 'called', 'posted')
group by items.tenant_id, items.root_run_id, items.step, items.address
having count(*) > 1
limit :most

-- usage_is_committed_once --
-- Of what an attempt reserved, all is committed when it was accepted, all is given back when it was rejected, and
-- nothing of either has happened before. What was given back for a refusal stays so when the refusal is proven wrong.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select attempts.tenant_id, attempts.id, format(
    '%s: %s reserved, %s committed in %s entries, %s released', attempts.state, coalesce(units.reserved, 0),
    coalesce(units.committed, 0), units.commits, coalesce(units.released, 0)
) as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
inner join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
cross join lateral (
    select sum(entries.units) filter (where kind = 'reserve') as reserved,
        sum(entries.units) filter (where kind = 'commit') as committed, count(*) filter (where kind = 'commit') as commits,
        sum(entries.units) filter (where kind = 'release') as released,
        max(entries.at) filter (where kind = 'reserve') < min(entries.at) filter (where kind = 'release')
            and max(entries.at) filter (where kind = 'release') < min(entries.at) filter (where kind = 'commit') as is_released_first
    from delivery.usage_entries as entries
    where entries.tenant_id = attempts.tenant_id and entries.attempt_id = attempts.id
) as units
where coalesce(units.reserved, 0) <= 0
    or units.commits <> case attempts.state when 'accepted' then 1 else 0 end
    or coalesce(units.committed, 0) <> case attempts.state when 'accepted' then units.reserved else 0 end
    or coalesce(units.released, 0) not in (
        case attempts.state when 'rejected' then units.reserved else 0 end,
        case when attempts.state = 'rejected' or units.is_released_first then units.reserved else 0 end
    )
limit :most

-- no_message_of_a_provider_is_two_items --
-- Whether of the lineages given or not, another item's message is not this one's.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select attempts.tenant_id, min(attempts.id::text)::uuid as id,
    format('message %s stands for %s items', attempts.provider_message_id, count(distinct others.item_id) + 1) as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
inner join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
inner join delivery.attempts as others on others.tenant_id = attempts.tenant_id and others.account_id = attempts.account_id
    and others.provider_message_id = attempts.provider_message_id and others.item_id <> attempts.item_id
group by attempts.tenant_id, attempts.account_id, attempts.provider_message_id
limit :most

-- every_item_agrees_with_its_last_attempt --
-- Without an outcome of its last attempt, only a person can have said that an item was accepted, or the proof of an
-- earlier one that had been taken for refused.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
select items.tenant_id, items.id, format(
    '%s after %s attempts with message %s, and attempt %s is %s with message %s', items.status, items.attempts,
    coalesce(items.provider_message_id, 'none'), coalesce(last.n, 0), coalesce(last.state, 'none'),
    coalesce(last.provider_message_id, 'none')
) as why
from given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
left join lateral (
    select n, state, provider_message_id
    from delivery.attempts
    where attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
    order by n desc
    limit 1
) as last on true
cross join lateral (
    select items.attempts > 1 and exists (
        select from delivery.attempts
        where attempts.tenant_id = items.tenant_id and attempts.item_id = items.id and attempts.state = 'accepted'
    ) as is_accepted
) as proven
where items.attempts <> coalesce(last.n, 0)
    or not case coalesce(last.state, 'none')
        when 'accepted' then items.status in ('sent', 'called', 'posted')
            and items.provider_message_id is not distinct from last.provider_message_id
        when 'dispatching' then items.status = 'dispatching'
        when 'unknown' then items.status = 'unknown' or items.status in ('sent', 'called', 'posted') and proven.is_accepted
        else items.status <> 'dispatching' and (
            items.status not in ('sent', 'called', 'posted') or proven.is_accepted or exists (
                select from delivery.reconciliation_cases as cases
                where cases.tenant_id = items.tenant_id and cases.item_id = items.id and cases.resolution = 'accepted'
            )
        )
    end
limit :most

-- unknown_items_and_open_cases_are_the_same --
-- Open cases of every lineage: they are few, and have an index of their own.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
)
(
    select items.tenant_id, items.id, 'unknown, without an open case' as why
    from given
    inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.root_run_id = given.id
    left join delivery.reconciliation_cases as cases
        on cases.tenant_id = items.tenant_id and cases.item_id = items.id and cases.resolution is null
    where items.status = 'unknown' and cases.item_id is null
    limit :most
)
union all
(
    select cases.tenant_id, cases.item_id, 'a case is open, and its item is not unknown'
    from delivery.reconciliation_cases as cases
    inner join delivery.channel_outbox as items on items.tenant_id = cases.tenant_id and items.id = cases.item_id
    where cases.resolution is null and items.status <> 'unknown'
    limit :most
)

-- chains --
-- The audits of lineages: of their runs and jobs, and those of all accounts and campaigns, which are few.
with given as materialized (
    select tenant_id, id from unnest(cast(:tenant_ids as uuid[]), cast(:root_ids as uuid[])) as given(tenant_id, id)
),
runs as materialized (
    select runs.tenant_id, runs.id
    from given inner join delivery.campaign_runs as runs on runs.tenant_id = given.tenant_id and runs.root_run_id = given.id
)
select tenant_id, array_agg(id) as chains
from (
    select tenant_id, id from runs
    union all
    select jobs.tenant_id, jobs.id
    from runs inner join delivery.job_queue as jobs on jobs.tenant_id = runs.tenant_id and jobs.run_id = runs.id
    union all
    select accounts.tenant_id, accounts.id from delivery.provider_accounts as accounts
    union all
    select campaigns.tenant_id, campaigns.id from spine.spine_campaigns as campaigns
) as each
group by tenant_id
order by tenant_id

-- tenants --
-- Those that have an audit.
select distinct tenant_id from delivery.audit_events order by tenant_id
