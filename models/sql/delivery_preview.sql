-- content --
-- A content with its account, the rules of its channel, and until when it is approved.
select contents.id as content_id, contents.campaign_id, contents.version, contents.content_hash, contents.subject, contents.body,
    contents.plain_body, accounts.id, accounts.workspace_id, accounts.name, accounts.channel, accounts.provider,
    coalesce(accounts.sender, '') as sender, accounts.config, accounts.config ->> 'unsubscribe_base' as unsubscribe_base,
    accounts.secret_env, accounts.is_connected, accounts.stopped_at, accounts.stop_reason, accounts.unit_price, accounts.price_currency,
    policies.hourly_cap, policies.daily_cap, policies.person_cap, policies.person_cap_days, policies.quiet_from, policies.quiet_until,
    coalesce(policies.time_zone, 'UTC') as time_zone, tenants.status <> 'suspended' as is_active, (
        select max(approvals.expires_at) from delivery.approvals
        where approvals.tenant_id = contents.tenant_id and approvals.content_id = contents.id
            and approvals.content_hash = contents.content_hash
    ) as approved_until
from delivery.contents
inner join delivery.provider_accounts as accounts on accounts.tenant_id = contents.tenant_id and accounts.id = contents.account_id
inner join spine.tenants on tenants.id = contents.tenant_id
left join delivery.channel_policies as policies on policies.tenant_id = contents.tenant_id
    and policies.workspace_id = contents.workspace_id and policies.channel = contents.channel
where contents.tenant_id = :tenant_id and contents.id = cast(:content_id as uuid)

-- joins --
-- Of a tenant that came after the last analyze the planner takes one row: a join in loops would take hours of a large one.
select set_config('enable_nestloop', :wanted, true)

-- audience --
-- Who would be reached, asked once: counts by reason, the first of them, whom other campaigns address as well, and whom the
-- cap of a person may leave out when everything that is queued has gone.
with audience as materialized (
    select contents.channel, people.*
    from delivery.contents
    cross join lateral delivery.audience(
        contents.tenant_id, contents.campaign_id, contents.workspace_id, contents.channel, cast(:at as timestamptz)
    ) as people
    where contents.tenant_id = :tenant_id and contents.id = cast(:content_id as uuid)
),
lately as materialized (
    select root_run_id
    from delivery.campaign_runs
    where tenant_id = :tenant_id
    group by root_run_id
    having bool_or(completed_at is null or completed_at > cast(:since as timestamptz))
),
others as materialized (
    select runs.campaign_id, items.channel, items.recipient_id, items.address,
        items.status in ('queued', 'dispatching') as is_to_come, items.settled_at
    from lately
    inner join delivery.campaign_runs as runs on runs.tenant_id = :tenant_id and runs.id = lately.root_run_id
    inner join delivery.channel_outbox as items on items.tenant_id = :tenant_id and items.root_run_id = lately.root_run_id
    where items.status in ('queued', 'dispatching', 'sent', 'called', 'posted', 'unknown')
),
met as (
    select audience.recipient_id, others.campaign_id, others.channel, others.is_to_come, others.settled_at
    from audience
    inner join others on others.recipient_id = audience.recipient_id
    where audience.excluded_because is null and others.campaign_id <> :campaign_id
    union all
    select audience.recipient_id, others.campaign_id, others.channel, others.is_to_come, others.settled_at
    from audience
    inner join others on others.address = audience.address and others.channel = audience.channel
        and others.recipient_id is distinct from audience.recipient_id
    where audience.excluded_because is null and others.campaign_id <> :campaign_id
),
conflicts as (
    select campaigns.id as campaign_id, campaigns.name as campaign, met.channel, count(distinct met.recipient_id) as people,
        count(distinct met.recipient_id) filter (where met.is_to_come) as to_come,
        max(met.settled_at) filter (where not met.is_to_come) as last_reached_at
    from met
    inner join spine.spine_campaigns as campaigns on campaigns.tenant_id = :tenant_id and campaigns.id = met.campaign_id
    group by campaigns.id, campaigns.name, met.channel
),
waiting as (
    select address, channel, count(*) as messages from others where is_to_come group by address, channel
)
select
    (
        select coalesce(jsonb_object_agg(coalesce(excluded_because, ''), people), '{}')
        from (select excluded_because, count(*) as people from audience group by excluded_because) as counted
    ) as counts,
    (
        select coalesce(jsonb_agg(jsonb_build_array(address, variables)), '[]')
        from (select address, variables from audience where excluded_because is null order by recipient_id limit :samples) as first
    ) as samples,
    (
        select coalesce(jsonb_agg(to_jsonb(conflicts) order by people desc, campaign), '[]') from conflicts
    ) as conflicts,
    (
        select count(*)
        from audience
        inner join waiting on waiting.address = audience.address and waiting.channel = audience.channel
        where audience.excluded_because is null and waiting.messages + (
            select count(*) from delivery.contacts(
                :tenant_id, audience.channel, audience.address, cast(:at as timestamptz) - make_interval(days => :person_cap_days)
            )
        ) >= cast(:person_cap as int)
    ) as capped

-- used --
-- Of the hour and the day of an instant.
select span, used from delivery.quota_windows
where tenant_id = :tenant_id and workspace_id = :workspace_id and channel = :channel and (span, starts_at) in (
    ('hour', date_trunc('hour', cast(:at as timestamptz), 'UTC')), ('day', date_trunc('day', cast(:at as timestamptz), 'UTC'))
)

-- ahead --
-- What other runs of the channel have to send by an instant.
select count(*)
from delivery.job_queue as jobs
inner join delivery.campaign_runs as runs on runs.tenant_id = jobs.tenant_id and runs.id = jobs.run_id
inner join delivery.channel_outbox as items on items.tenant_id = jobs.tenant_id and items.job_id = jobs.id
where jobs.tenant_id = :tenant_id and jobs.status in ('queued', 'locked') and jobs.scheduled_for <= :at
    and runs.workspace_id = :workspace_id and runs.channel = :channel and items.status = 'queued'

-- pace --
-- How many people were done with through the account in how many seconds, among the tenant's newest attempts behind an id.
-- The time from one attempt to the next one counts, but no longer wait than a moment's: that was a cap, a pause, or
-- nothing to do.
with newest as materialized (
    select account_id, id, started_at, finished_at, state = 'accepted' or not is_retryable as is_done
    from delivery.attempts
    where tenant_id = :tenant_id and id >= cast(:since as uuid) and finished_at is not null
    order by id desc limit :most
),
timed as (
    select is_done, least(
        coalesce(lead(started_at) over (order by started_at, id), finished_at) - started_at,
        greatest(finished_at - started_at, make_interval(secs => :moment))
    ) as taken
    from newest
    where account_id = :account_id
)
select count(*) filter (where is_done) as people, extract(epoch from sum(taken)) as seconds
from timed
