-- campaigns --
-- What can be launched, with what each campaign would say and how often it has gone out.
select campaigns.id, campaigns.name, campaigns.status, written.channels, written.version, runs.count as runs, runs.latest as last_run_at
from spine.spine_campaigns as campaigns
left join lateral (
    select array_agg(distinct channel order by channel) as channels, max(version) as version
    from delivery.contents where contents.tenant_id = campaigns.tenant_id and contents.campaign_id = campaigns.id
) as written on true
left join lateral (
    select count(*) as count, max(created_at) as latest
    from delivery.campaign_runs where campaign_runs.tenant_id = campaigns.tenant_id and campaign_runs.campaign_id = campaigns.id
) as runs on true
where campaigns.tenant_id = :tenant_id
order by campaigns.name, campaigns.id

-- accounts --
select accounts.id, accounts.name, accounts.channel, accounts.provider, accounts.sender, accounts.config, accounts.secret_env,
    accounts.unit_price, accounts.price_currency, accounts.is_connected, accounts.stopped_at, coalesce(people.name, accounts.stopped_by) as stopped_by, accounts.stop_reason
from delivery.provider_accounts as accounts
left join spine.user_tenants as people on people.tenant_id = accounts.tenant_id and people.user_id::text = accounts.stopped_by
where accounts.tenant_id = :tenant_id
order by accounts.name

-- switches --
-- When accounts were stopped and started again, the newest first.
select accounts.name as account, events.event = 'account_stopped' as is_stop, events.at, coalesce(people.name, events.actor) as by,
    nullif(events.detail ->> 'reason', '') as reason
from delivery.provider_accounts as accounts
inner join delivery.audit_events as events on events.tenant_id = accounts.tenant_id and events.chain = accounts.id
left join spine.user_tenants as people on people.tenant_id = accounts.tenant_id and people.user_id::text = events.actor
where accounts.tenant_id = :tenant_id
order by accounts.name, events.number desc

-- seeds --
select seeds.channel, seeds.address, coalesce(people.name, seeds.added_by) as added_by, seeds.created_at as added_at
from delivery.seeds
left join spine.user_tenants as people on people.tenant_id = seeds.tenant_id and people.user_id::text = seeds.added_by
where seeds.tenant_id = :tenant_id
order by seeds.channel, seeds.address

-- policies --
select policies.channel, policies.hourly_cap, policies.daily_cap, policies.person_cap, policies.person_cap_days,
    policies.needs_consent, policies.needs_unsubscribe, policies.quiet_from, policies.quiet_until, policies.time_zone
from delivery.channel_policies as policies
inner join delivery.workspaces on workspaces.tenant_id = policies.tenant_id and workspaces.id = policies.workspace_id
where policies.tenant_id = :tenant_id and workspaces.name = :workspace
order by policies.channel

-- runs --
-- The newest first. Counts are those of the last rollup.
select runs.id, campaigns.name as campaign, runs.campaign_id, runs.channel, runs.step, runs.occurrence, accounts.name as account,
    accounts.provider, runs.status, runs.intended, runs.accepted, runs.rejected, runs.suppressed, runs.unknown, runs.cancelled,
    runs.expired, runs.abandoned, runs.scheduled_for, runs.expires_at, runs.created_at,
    coalesce(authors.name, runs.created_by) as created_by, coalesce(approvers.name, runs.approved_by) as approved_by,
    runs.started_at, runs.completed_at, runs.paused_at, coalesce(pausers.name, runs.paused_by) as paused_by,
    runs.cancel_requested_at, coalesce(cancellers.name, runs.cancel_requested_by) as cancel_requested_by, runs.error_code,
    runs.error_message, runs.retry_of_run_id, runs.root_run_id, runs.request_id, runs.content_id, runs.content_hash
from delivery.campaign_runs as runs
inner join spine.spine_campaigns as campaigns on campaigns.tenant_id = runs.tenant_id and campaigns.id = runs.campaign_id
inner join delivery.provider_accounts as accounts on accounts.tenant_id = runs.tenant_id and accounts.id = runs.account_id
left join spine.user_tenants as authors on authors.tenant_id = runs.tenant_id and authors.user_id::text = runs.created_by
left join spine.user_tenants as approvers on approvers.tenant_id = runs.tenant_id and approvers.user_id::text = runs.approved_by
left join spine.user_tenants as pausers on pausers.tenant_id = runs.tenant_id and pausers.user_id::text = runs.paused_by
left join spine.user_tenants as cancellers on cancellers.tenant_id = runs.tenant_id
    and cancellers.user_id::text = runs.cancel_requested_by
where runs.tenant_id = :tenant_id and (cast(:run_id as uuid) is null or runs.id = :run_id)
    and (cast(:campaign_id as uuid) is null or runs.campaign_id = :campaign_id)
    and (cast(:root_run_id as uuid) is null or runs.root_run_id = :root_run_id)
order by runs.created_at desc, runs.id
limit cast(:most as bigint)

-- jobs --
select id, chunk, status, attempts, max_attempts, nullif(scheduled_for, 'infinity') as scheduled_for, locked_by, lease_expires_at, last_error, completed_at
from delivery.job_queue
where tenant_id = :tenant_id and run_id = :run_id
order by chunk

-- exclusions --
-- Whom the audience held and nothing goes to: found at launch, or only at the moment of sending.
select coalesce(recipients.excluded_because, items.skip_reason) as reason, recipients.item_id is not null as is_intended,
    recipients.excluded_because is null as found_when_sending, count(*) as people
from delivery.run_recipients as recipients
left join delivery.channel_outbox as items on items.tenant_id = recipients.tenant_id and items.id = recipients.item_id
    and items.status = 'skipped'
where recipients.tenant_id = :tenant_id and recipients.run_id = :run_id
    and (recipients.excluded_because is not null or items.skip_reason is not null)
group by 1, 2, 3
order by people desc, reason

-- people --
-- Everybody the run holds with what became of them, in its order; those who are not intended have no item.
select recipients.ordinal, recipients.item_id, recipients.recipient_id,
    nullif(concat_ws(' ', recipients.variables ->> 'first_name', recipients.variables ->> 'last_name'), '') as name,
    recipients.address, coalesce(items.status, 'excluded') as status,
    coalesce(items.skip_reason, recipients.excluded_because) as reason, items.error, items.is_retryable,
    items.provider_message_id, items.attempts, items.delivery_status, items.settled_at, items.run_id
from delivery.run_recipients as recipients
left join delivery.channel_outbox as items on items.tenant_id = recipients.tenant_id and items.id = recipients.item_id
where recipients.tenant_id = :tenant_id and recipients.run_id = :run_id and recipients.ordinal > :after
    and (cast(:status as text) is null or coalesce(items.status, 'excluded') = :status)
    and (cast(:person as text) is null or position(lower(:person) in lower(concat_ws(' ', recipients.address,
        recipients.variables ->> 'first_name', recipients.variables ->> 'last_name', recipients.item_id))) > 0)
order by recipients.ordinal
limit :most

-- attempts --
select id, n, run_id, provider, provider_key, state, started_at, deadline_at, finished_at, replays, http_status, error_code, error,
    is_retryable, provider_message_id
from delivery.attempts
where tenant_id = :tenant_id and item_id = :item_id
order by n

-- cases --
-- Open ones first, of them the most urgent.
select cases.id, cases.opened_at, cases.due_at, cases.reason, cases.evidence, cases.resolution,
    coalesce(people.name, cases.resolved_by) as resolved_by, cases.resolved_at, cases.note, cases.run_id, cases.item_id,
    cases.attempt_id, items.address, items.channel, items.provider, campaigns.name as campaign
from delivery.reconciliation_cases as cases
inner join delivery.channel_outbox as items on items.tenant_id = cases.tenant_id and items.id = cases.item_id
inner join delivery.campaign_runs as runs on runs.tenant_id = cases.tenant_id and runs.id = cases.run_id
inner join spine.spine_campaigns as campaigns on campaigns.tenant_id = runs.tenant_id and campaigns.id = runs.campaign_id
left join spine.user_tenants as people on people.tenant_id = cases.tenant_id and people.user_id::text = cases.resolved_by
where cases.tenant_id = :tenant_id and (:closed or cases.resolution is null)
    and (cast(:run_id as uuid) is null or cases.run_id = :run_id)
order by cases.resolution is not null, cases.due_at, cases.id
limit cast(:most as bigint)

-- case_counts --
select count(*) filter (where resolution is null) as open, count(*) filter (where resolution is not null) as settled
from delivery.reconciliation_cases
where tenant_id = :tenant_id and run_id = :run_id

-- campaign_by --
select id from spine.spine_campaigns
where tenant_id = :tenant_id and (id::text like :beginning or lower(name) = lower(:asked))
limit 2

-- run_by --
select id from delivery.campaign_runs where tenant_id = :tenant_id and id::text like :beginning limit 2

-- content_by --
select id from delivery.contents where tenant_id = :tenant_id and id::text like :beginning limit 2

-- case_by --
select id from delivery.reconciliation_cases where tenant_id = :tenant_id and id::text like :beginning limit 2

-- content --
select contents.id, contents.content_hash, contents.channel, contents.step, contents.version, contents.subject, contents.body,
    contents.plain_body, coalesce(people.name, contents.created_by) as written_by
from delivery.contents
left join spine.user_tenants as people on people.tenant_id = contents.tenant_id and people.user_id::text = contents.created_by
where contents.tenant_id = :tenant_id and contents.id = :id
