-- Rows of large tables are found by keys that come from a list or a materialized row, never by `tenant_id = :tenant_id`
-- alone: of a tenant that came after the last analyze the planner takes one row, and then any index for as good as
-- another.

-- due --
-- Before a tenant is pinned: jobs of whichever tenants are due, in the order in which they are to be claimed.
select tenant_id, id from delivery.due_jobs()

-- claim --
select id, tenant_id, run_id, lease_token
from delivery.claim_queued_jobs(
    :worker, :max_jobs, make_interval(secs => :lease_seconds),
    tenants => cast(:tenants as uuid[]), jobs => cast(:jobs as uuid[])
)

-- lock_lease --
-- In a statement of its own: what is read after it is not older than the wait for the lock.
select from delivery.job_queue
where tenant_id = :tenant_id and id = :job_id and case status when 'locked' then true else false end and lease_token = :token
for no key update

-- hold --
-- The job, which is locked, if the lease is still this worker's, with everything that may hold it back.
with job as materialized (select cast(:tenant_id as uuid) as tenant_id, cast(:job_id as uuid) as id)
select jobs.run_id, jobs.workspace_id, jobs.lease_expires_at, clock_timestamp() as now, runs.status as run_status,
    runs.cancel_requested_at, runs.paused_at, runs.expires_at, runs.approval_expires_at, runs.channel, runs.content_id,
    runs.account_id, accounts.name as account, accounts.provider, accounts.stopped_at, accounts.stop_reason,
    accounts.is_connected, delivery.content_hash(contents, accounts) = runs.content_hash as is_as_approved,
    tenants.status <> 'suspended' as is_active, policies.hourly_cap, policies.daily_cap, policies.person_cap,
    policies.person_cap_days, policies.quiet_from, policies.quiet_until, policies.time_zone,
    contents.subject, contents.body, contents.plain_body, coalesce(accounts.sender, '') as sender, accounts.config ->> 'unsubscribe_base' as unsubscribe_base
from job
inner join delivery.job_queue as jobs on jobs.tenant_id = job.tenant_id and jobs.id = job.id
inner join delivery.campaign_runs as runs on runs.tenant_id = jobs.tenant_id and runs.id = jobs.run_id
inner join delivery.provider_accounts as accounts on accounts.tenant_id = runs.tenant_id and accounts.id = runs.account_id
inner join delivery.contents on contents.tenant_id = runs.tenant_id and contents.id = runs.content_id
inner join spine.tenants on tenants.id = jobs.tenant_id
left join delivery.channel_policies as policies on policies.tenant_id = jobs.tenant_id
    and policies.workspace_id = jobs.workspace_id and policies.channel = runs.channel
-- The case keeps the planner from the index of leased jobs, which is full of leases that ended.
where case jobs.status when 'locked' then true else false end and jobs.lease_token = :token
    and jobs.lease_expires_at > clock_timestamp()

-- renew --
update delivery.job_queue set lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds)
where tenant_id = :tenant_id and id = :job_id

-- begin_run --
update delivery.campaign_runs set status = 'running', started_at = :now, updated_at = :now
where tenant_id = :tenant_id and id = :run_id and status = 'queued'

-- pick --
-- The next items of the job in order, with the first reason each may not be sent for now; without those that wait for
-- another attempt: `backoff` are the seconds from the end of the first one on, of the second one on.
with job as materialized (select cast(:tenant_id as uuid) as tenant_id, cast(:job_id as uuid) as id),
picked as materialized (
    select items.tenant_id, items.id, ordinal, address, attempts, idempotency_key, root_run_id
    from job
    inner join delivery.channel_outbox as items on items.tenant_id = job.tenant_id and items.job_id = job.id
    where status = 'queued' and ordinal > :after
        and coalesce(settled_at + make_interval(secs => (cast(:backoff as float8[]))[least(attempts, cardinality(cast(:backoff as float8[])))]) <= :now, true)
    order by ordinal
    limit :most
    for no key update of items
)
select picked.id, picked.ordinal, picked.address, picked.attempts, picked.idempotency_key, recipients.variables,
    case
        when suppressed.reason is not null then suppressed.reason
        when cast(:person_cap as int) is not null and (
            select count(*) from delivery.contacts(
                picked.tenant_id, :channel, picked.address, cast(:now as timestamptz) - make_interval(days => :person_cap_days)
            )
        ) >= cast(:person_cap as int) then 'person_cap'
    end as skip_reason
from picked
inner join delivery.run_recipients as recipients
    on recipients.tenant_id = picked.tenant_id and recipients.run_id = picked.root_run_id and recipients.item_id = picked.id
left join lateral (
    select reason from delivery.suppressions
    where suppressions.tenant_id = picked.tenant_id and suppressions.address = picked.address
        and suppressions.channel in (:channel, 'all')
    order by created_at limit 1
) as suppressed on true
order by picked.ordinal

-- skip --
with given as materialized (
    select cast(:tenant_id as uuid) as tenant_id, id, reason
    from unnest(cast(:ids as uuid[]), cast(:reasons as text[])) as given(id, reason)
)
update delivery.channel_outbox as items
set status = 'skipped', skipped = true, skip_reason = given.reason, settled_at = :now
from given
where items.tenant_id = given.tenant_id and items.id = given.id

-- dispatch --
-- Of items that `pick` has locked.
with given as materialized (
    select cast(:tenant_id as uuid) as tenant_id, id from unnest(cast(:item_ids as uuid[])) as given(id)
)
update delivery.channel_outbox as items
set status = 'dispatching', attempts = items.attempts + 1, attempts_left = items.attempts_left - 1
from given
where items.tenant_id = given.tenant_id and items.id = given.id

-- begin_attempts --
insert into delivery.attempts (
    tenant_id, id, item_id, n, run_id, job_id, lease_token, account_id, provider, provider_key, request_hash, batch_id,
    started_at, deadline_at
)
select :tenant_id, given.id, item_id, n, :run_id, :job_id, :token, :account_id, :provider, provider_key, request_hash, batch_id,
    :now, :deadline_at
from unnest(
    cast(:attempt_ids as uuid[]), cast(:item_ids as uuid[]), cast(:numbers as int[]), cast(:provider_keys as text[]),
    cast(:hashes as text[]), cast(:batch_ids as uuid[])
) as given(id, item_id, n, provider_key, request_hash, batch_id)

-- meter --
insert into delivery.usage_entries (tenant_id, attempt_id, meter, kind, units, at)
select :tenant_id, given.id, given.meter, given.kind, 1, :now
from unnest(cast(:attempt_ids as uuid[]), cast(:meters as text[]), cast(:kinds as text[])) as given(id, meter, kind)

-- freeze_batch --
insert into delivery.provider_batches (tenant_id, id, account_id, attempt_ids, provider_key, request_hash)
values (:tenant_id, :id, :account_id, cast(:attempt_ids as uuid[]), :provider_key, :request_hash)

-- settle_attempts --
-- Those that have no outcome yet, and those that were taken for refused and are proven to be accepted: what is known is
-- never thrown away, whoever reports it. The case keeps the planner from the index of open attempts, which it takes for
-- smaller than it is.
with given as materialized (
    select cast(:tenant_id as uuid) as tenant_id, *
    from unnest(
        cast(:attempt_ids as uuid[]), cast(:states as text[]), cast(:message_ids as text[]), cast(:retryables as boolean[]),
        cast(:http_statuses as int[]), cast(:codes as text[]), cast(:errors as text[]), cast(:responses as jsonb[])
    ) as given(id, state, message_id, is_retryable, http_status, code, error, response)
)
update delivery.attempts as attempts
set state = given.state, finished_at = case when given.state = 'unknown' then null else cast(:now as timestamptz) end,
    http_status = given.http_status, error_code = given.code, error = given.error, is_retryable = given.is_retryable,
    provider_message_id = given.message_id, response = given.response
from given
inner join delivery.attempts as before on before.tenant_id = given.tenant_id and before.id = given.id
where attempts.tenant_id = given.tenant_id and attempts.id = given.id
    and case attempts.state
        when 'dispatching' then true
        when 'unknown' then given.state <> 'unknown'
        when 'rejected' then given.state = 'accepted'
        else false
    end
returning attempts.id, attempts.item_id, attempts.run_id, attempts.started_at, attempts.state,
    before.state = 'rejected' as was_refused, attempts.replays > 0 or before.state = 'unknown' as may_have_case

-- settle_items --
-- An item that was accepted once stays so, and one of which another attempt is with the provider waits for that one.
with given as materialized (
    select cast(:tenant_id as uuid) as tenant_id, *
    from unnest(
        cast(:item_ids as uuid[]), cast(:states as text[]), cast(:message_ids as text[]), cast(:retryables as boolean[]),
        cast(:errors as text[]), cast(:responses as jsonb[])
    ) as given(id, state, message_id, is_retryable, error, response)
)
update delivery.channel_outbox as items
set status = case
        when given.is_open then items.status
        when given.is_accepted then case items.channel when 'voice' then 'called' else 'sent' end
        when given.state = 'unknown' then 'unknown'
        else case when given.is_retryable and items.attempts_left > 0 and :may_retry then 'queued' else 'failed' end
    end,
    skipped = items.skipped and not given.is_accepted,
    skip_reason = case when not given.is_accepted then items.skip_reason end,
    is_retryable = given.is_retryable and not given.is_accepted, error = case when not given.is_accepted then given.error end,
    provider_message_id = case
        when items.status in ('sent', 'called', 'posted') then items.provider_message_id
        else coalesce(given.message_id, items.provider_message_id)
    end,
    provider_response = given.response, settled_at = :now
from (
    select known.tenant_id, known.id, known.state, known.message_id, known.is_retryable, known.error, known.response,
        known.state = 'accepted' or others.is_accepted as is_accepted, others.is_open
    from given as known
    cross join lateral (
        select coalesce(bool_or(state = 'accepted'), false) as is_accepted, coalesce(bool_or(state = 'dispatching'), false) as is_open
        from delivery.attempts where attempts.tenant_id = known.tenant_id and attempts.item_id = known.id
    ) as others
) as given
where items.tenant_id = given.tenant_id and items.id = given.id
returning items.id, items.status, items.channel, items.workspace_id

-- open_cases --
insert into delivery.reconciliation_cases (tenant_id, item_id, attempt_id, run_id, opened_at, reason, evidence, due_at, next_lookup_at)
select :tenant_id, item_id, id, run_id, :now, reason, jsonb_strip_nulls(jsonb_build_object('error', error)),
    cast(:now as timestamptz) + interval '24 hours', cast(:next_lookup_at as timestamptz)
from unnest(
    cast(:attempt_ids as uuid[]), cast(:item_ids as uuid[]), cast(:run_ids as uuid[]), cast(:codes as text[]), cast(:errors as text[])
) as given(id, item_id, run_id, reason, error)
on conflict (tenant_id, item_id) where resolution is null do nothing

-- close_cases --
with given as materialized (
    select cast(:tenant_id as uuid) as tenant_id, item_id, state
    from unnest(cast(:item_ids as uuid[]), cast(:states as text[])) as given(item_id, state)
)
update delivery.reconciliation_cases as cases
set resolution = given.state, resolved_at = :now, resolved_by = :actor, note = :note
from given
where cases.tenant_id = given.tenant_id and cases.item_id = given.item_id and cases.resolution is null

-- one_at_a_time --
-- Whoever asks how often people were contacted waits until whoever asked before has written down whom it contacts.
select pg_advisory_xact_lock(hashtextextended('person cap ' || cast(:tenant_id as text) || ' ' || :channel, 0))

-- room --
-- What is left of the caps, with their rows locked.
with mine as (
    insert into delivery.quota_windows (tenant_id, workspace_id, channel, span, starts_at, used)
    values
        (:tenant_id, :workspace_id, :channel, 'hour', date_trunc('hour', cast(:now as timestamptz), 'UTC'), 0),
        (:tenant_id, :workspace_id, :channel, 'day', date_trunc('day', cast(:now as timestamptz), 'UTC'), 0)
    on conflict (tenant_id, workspace_id, channel, span, starts_at) do update set used = quota_windows.used
    returning span, starts_at, used
)
select max(used) filter (where span = 'hour') as hour_used, max(used) filter (where span = 'day') as day_used,
    max(starts_at) filter (where span = 'hour') + interval '1 hour' as next_hour,
    max(starts_at) filter (where span = 'day') + interval '1 day' as next_day
from mine

-- take --
-- Units of the windows of an instant.
insert into delivery.quota_windows (tenant_id, workspace_id, channel, span, starts_at, used)
values
    (:tenant_id, :workspace_id, :channel, 'hour', date_trunc('hour', cast(:now as timestamptz), 'UTC'), :units),
    (:tenant_id, :workspace_id, :channel, 'day', date_trunc('day', cast(:now as timestamptz), 'UTC'), :units)
on conflict (tenant_id, workspace_id, channel, span, starts_at) do update set used = quota_windows.used + :units

-- take_again --
-- A unit for each of the instants, of what had been given back and was sent after all.
insert into delivery.quota_windows (tenant_id, workspace_id, channel, span, starts_at, used)
select :tenant_id, :workspace_id, :channel, span, date_trunc(span, given.at, 'UTC'), count(*)
from unnest(cast(:instants as timestamptz[])) as given(at)
cross join (values ('hour'), ('day')) as spans(span)
group by span, 5
order by span desc, 5
on conflict (tenant_id, workspace_id, channel, span, starts_at) do update set used = quota_windows.used + excluded.used

-- give_back --
-- A unit for each of the instants. Every hour is locked before any day, and each in its order, as `room` and `take` do:
-- whoever settles at the same time waits, and never for each other.
with given as materialized (
    select span, date_trunc(span, given.at, 'UTC') as starts_at, count(*) as units
    from unnest(cast(:instants as timestamptz[])) as given(at)
    cross join (values ('hour'), ('day')) as spans(span)
    group by 1, 2
),
locked as materialized (
    select windows.tenant_id, windows.workspace_id, windows.channel, windows.span, windows.starts_at, given.units
    from given
    inner join delivery.quota_windows as windows on windows.tenant_id = :tenant_id and windows.workspace_id = :workspace_id
        and windows.channel = :channel and windows.span = given.span and windows.starts_at = given.starts_at
    order by windows.span desc, windows.starts_at
    for no key update of windows
)
update delivery.quota_windows as windows set used = greatest(windows.used - locked.units, 0)
from locked
where windows.tenant_id = locked.tenant_id and windows.workspace_id = locked.workspace_id
    and windows.channel = locked.channel and windows.span = locked.span and windows.starts_at = locked.starts_at

-- left --
-- What remains of a job: items to send and when the first of them may be, by the rule of `pick`, and items whose outcome
-- somebody else owes with their latest deadline.
with job as materialized (select cast(:tenant_id as uuid) as tenant_id, cast(:job_id as uuid) as id)
select count(*) filter (where items.status = 'queued') as queued,
    count(*) filter (where items.status = 'dispatching') as dispatching,
    max(attempts.deadline_at) as deadline_at,
    min(coalesce(
        items.settled_at + make_interval(secs => (cast(:backoff as float8[]))[least(items.attempts, cardinality(cast(:backoff as float8[])))]),
        items.created_at
    )) filter (where items.status = 'queued') as due_at
from job
inner join delivery.channel_outbox as items on items.tenant_id = job.tenant_id and items.job_id = job.id
left join delivery.attempts on attempts.tenant_id = items.tenant_id and attempts.item_id = items.id and attempts.state = 'dispatching'
where items.status in ('queued', 'dispatching')

-- hand_back --
-- Not charged: the job ends in order and goes on later.
update delivery.job_queue
set status = 'queued', scheduled_for = :until, lease_expires_at = null, last_error = :why, updated_at = clock_timestamp()
where tenant_id = :tenant_id and id = :job_id and status = 'locked' and lease_token = :token

-- complete --
select delivery.complete_job(:job_id, true, null, :token)

-- fail --
select delivery.complete_job(:job_id, false, :why, :token)

-- end_queued --
-- Items of a job that are not sent any more.
update delivery.channel_outbox set status = :status, error = :why, settled_at = :now, is_retryable = :is_retryable
where tenant_id = :tenant_id and job_id = :job_id and status = 'queued'

-- lock_run --
select * from delivery.campaign_runs where tenant_id = :tenant_id and id = :run_id for no key update

-- open_jobs --
select exists (
    select from delivery.job_queue where tenant_id = :tenant_id and run_id = :run_id and status in ('queued', 'locked')
)

-- counts --
-- Of the items a run intended: those a retry took over were rejected here.
with run as materialized (
    select tenant_id, id, root_run_id from delivery.campaign_runs where tenant_id = :tenant_id and id = :run_id
)
select items.status, items.run_id = run.id as is_here, count(*) as count
from run
inner join delivery.channel_outbox as items on items.tenant_id = run.tenant_id and items.root_run_id = run.root_run_id
where run.id = run.root_run_id or exists (
    select from delivery.run_recipients as recipients
    where recipients.tenant_id = run.tenant_id and recipients.run_id = run.id and recipients.item_id = items.id
)
group by 1, 2

-- lineage --
select id from delivery.campaign_runs where tenant_id = :tenant_id and root_run_id = :root_run_id order by created_at

-- sweep --
-- Jobs whose lease ended without a word, to be taken up again.
update delivery.job_queue
set status = 'queued', attempts = attempts + 1, scheduled_for = clock_timestamp(), lease_expires_at = null,
    last_error = 'the lease ended without a word', updated_at = clock_timestamp()
where (tenant_id, id) in (
    select tenant_id, id from delivery.job_queue
    where status = 'locked' and lease_expires_at <= clock_timestamp() and attempts + 1 < max_attempts
    order by lease_expires_at limit 1000
    for update skip locked
)

-- dying --
-- Jobs whose last lease ended without a word, and dead ones that still have something to send.
(
    select tenant_id, id, run_id from delivery.job_queue
    where status = 'locked' and lease_expires_at <= clock_timestamp() and attempts + 1 >= max_attempts
    limit 1000
)
union all
(
    select tenant_id, id, run_id from delivery.job_queue as jobs
    where status = 'dead' and exists (
        select from delivery.channel_outbox as items
        where items.tenant_id = jobs.tenant_id and items.job_id = jobs.id and items.status = 'queued'
    )
    limit 1000
)

-- give_up --
update delivery.job_queue
set status = 'dead', attempts = attempts + case status when 'locked' then 1 else 0 end,
    last_error = case status when 'locked' then 'the lease ended without a word' else last_error end, lease_expires_at = null,
    updated_at = clock_timestamp()
where tenant_id = :tenant_id and id = :job_id and case status
        when 'dead' then true
        when 'locked' then lease_expires_at <= clock_timestamp() and attempts + 1 >= max_attempts
        else false
    end

-- lock_job --
-- The time is read when the lock was waited for.
with locked as materialized (
    select status from delivery.job_queue where tenant_id = :tenant_id and id = :job_id for no key update
)
select clock_timestamp() as now, status in ('queued', 'locked') as is_open, status from locked

-- lock_items --
-- Of attempts, in a statement of its own: an attempt that somebody else begins for one of them is seen afterwards.
select items.id
from (
    select tenant_id, item_id from delivery.attempts
    where tenant_id = :tenant_id and id = any(cast(:attempt_ids as uuid[]))
    offset 0
) as given
inner join delivery.channel_outbox as items on items.tenant_id = given.tenant_id and items.id = given.item_id
order by items.ordinal, items.id
for no key update of items

-- account --
select * from delivery.provider_accounts where tenant_id = :tenant_id and id = :account_id

-- prerequisites --
select delivery.check_campaign_launch_prerequisites(
    :campaign_id, :tenant_id, cast(:channel as text), cast(:step as int), cast(:at as timestamptz)
)

-- deploy --
select delivery.deploy_campaign(:campaign_id, cast(:options as jsonb))

-- by_key --
select set_config('role', :role, true), set_config('app.tenant_id', :tenant_id, true), set_config('enable_seqscan', 'off', true),
    set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)
