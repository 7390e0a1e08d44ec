-- stalled --
-- Attempts past the deadline by which whoever began them must have written their outcome, taken over for one more.
update delivery.attempts as attempts
set deadline_at = clock_timestamp() + make_interval(secs => :seconds), replays = replays + 1
from (
    select tenant_id, id from delivery.attempts
    where state = 'dispatching' and deadline_at <= clock_timestamp()
        and (cast(:tenant_id as uuid) is null or tenant_id = :tenant_id)
    order by deadline_at limit :most
    for update skip locked
) as late
where attempts.tenant_id = late.tenant_id and attempts.id = late.id
returning attempts.tenant_id, attempts.id, attempts.job_id, attempts.run_id, attempts.account_id, attempts.batch_id

-- renew_stalled --
-- Those of a call that are still owed, taken over from now on.
update delivery.attempts set deadline_at = clock_timestamp() + make_interval(secs => :seconds)
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[])) and state = 'dispatching'

-- calls --
-- The calls of attempts as they were made: every member of a batch, in its order, also those that are settled.
select attempts.tenant_id, attempts.id, attempts.job_id, attempts.run_id, attempts.state, attempts.started_at, attempts.provider_key,
    attempts.request_hash, attempts.batch_id, batches.provider_key as batch_key,
    coalesce(array_position(batches.attempt_ids, attempts.id), 1) as place,
    items.address, items.channel, recipients.variables, contents.id as content_id, contents.subject, contents.body, contents.plain_body,
    coalesce(accounts.sender, '') as sender, accounts.config ->> 'unsubscribe_base' as unsubscribe_base, clock_timestamp() as now,
    runs.cancel_requested_at, runs.paused_at, runs.expires_at, runs.approval_expires_at, accounts.name as account,
    accounts.stopped_at, accounts.stop_reason, tenants.status <> 'suspended' as is_active,
    policies.quiet_from, policies.quiet_until, policies.time_zone, (
        select reason from delivery.suppressions
        where suppressions.tenant_id = items.tenant_id and suppressions.address = items.address
            and suppressions.channel in (items.channel, 'all')
        order by created_at limit 1
    ) as suppressed
from delivery.attempts
inner join delivery.channel_outbox as items on items.tenant_id = attempts.tenant_id and items.id = attempts.item_id
inner join delivery.run_recipients as recipients on recipients.tenant_id = items.tenant_id
    and recipients.run_id = items.root_run_id and recipients.item_id = items.id
inner join delivery.campaign_runs as runs on runs.tenant_id = attempts.tenant_id and runs.id = attempts.run_id
inner join delivery.contents on contents.tenant_id = runs.tenant_id and contents.id = runs.content_id
inner join delivery.provider_accounts as accounts on accounts.tenant_id = attempts.tenant_id and accounts.id = attempts.account_id
inner join spine.tenants on tenants.id = attempts.tenant_id
left join delivery.channel_policies as policies on policies.tenant_id = runs.tenant_id
    and policies.workspace_id = runs.workspace_id and policies.channel = runs.channel
left join delivery.provider_batches as batches on batches.tenant_id = attempts.tenant_id and batches.id = attempts.batch_id
where attempts.tenant_id = :tenant_id
    and (attempts.id = any(cast(:ids as uuid[])) or attempts.batch_id = any(cast(:batch_ids as uuid[])))
order by attempts.batch_id, place

-- due_cases --
-- Open cases whose provider may be asked again.
update delivery.reconciliation_cases as cases
set next_lookup_at = clock_timestamp() + make_interval(secs => least(60 * power(4, least(coalesce((evidence ->> 'lookups')::int, 0), 5)), 21600)),
    evidence = evidence || jsonb_build_object('lookups', coalesce((evidence ->> 'lookups')::int, 0) + 1, 'looked_up_at', clock_timestamp())
from (
    select tenant_id, id from delivery.reconciliation_cases
    where resolution is null and next_lookup_at <= clock_timestamp() and attempt_id is not null
    order by next_lookup_at limit :most
    for update skip locked
) as due
where cases.tenant_id = due.tenant_id and cases.id = due.id
returning cases.tenant_id, cases.attempt_id as id, (
    select account_id from delivery.attempts where attempts.tenant_id = cases.tenant_id and attempts.id = cases.attempt_id
) as account_id

-- case --
select cases.*, items.job_id, items.status as item_status, items.address, items.workspace_id, items.channel, attempts.started_at
from delivery.reconciliation_cases as cases
inner join delivery.channel_outbox as items on items.tenant_id = cases.tenant_id and items.id = cases.item_id
left join delivery.attempts on attempts.tenant_id = cases.tenant_id and attempts.id = cases.attempt_id
where cases.tenant_id = :tenant_id and cases.id = :id

-- hold_case --
select from delivery.reconciliation_cases where tenant_id = :tenant_id and id = :id for no key update

-- resolve_item --
-- By a person: the attempt, where there is one, takes the outcome; the item its status.
with settled as (
    update delivery.attempts set state = case :resolution when 'accepted' then 'accepted' else 'rejected' end, finished_at = :at,
        is_retryable = :resolution = 'rejected', error_code = case :resolution when 'accepted' then null else 'by_person' end
    where tenant_id = :tenant_id and id = cast(:attempt_id as uuid) and state = 'unknown'
    returning id
),
units as (
    insert into delivery.usage_entries (tenant_id, attempt_id, meter, kind, units, at)
    select :tenant_id, settled.id, items.channel, case :resolution when 'accepted' then 'commit' else 'release' end, 1, :at
    from settled inner join delivery.channel_outbox as items on items.tenant_id = :tenant_id and items.id = :item_id
)
update delivery.channel_outbox set
    status = case :resolution
        when 'accepted' then case channel when 'voice' then 'called' else 'sent' end
        when 'rejected' then 'failed' else 'abandoned'
    end,
    is_retryable = :resolution = 'rejected', error = case :resolution when 'accepted' then null else :note end, settled_at = :at
where tenant_id = :tenant_id and id = :item_id and status = 'unknown'

-- close_case --
update delivery.reconciliation_cases
set resolution = :resolution, resolved_by = :actor, resolved_at = :at, note = :note
where tenant_id = :tenant_id and id = :id and resolution is null
