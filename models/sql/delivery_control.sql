-- pause --
-- Its jobs wait without being asked for over and over.
with paused as (
    update delivery.campaign_runs set status = 'paused', paused_at = :at, paused_by = :actor, updated_at = :at
    where tenant_id = :tenant_id and id = :run_id
)
update delivery.job_queue set scheduled_for = 'infinity', updated_at = :at
where tenant_id = :tenant_id and run_id = :run_id and status = 'queued'

-- resume --
with resumed as (
    update delivery.campaign_runs
    set status = case when started_at is null then 'queued' else 'running' end, paused_at = null, paused_by = null, updated_at = :at
    where tenant_id = :tenant_id and id = :run_id
    returning scheduled_for
)
update delivery.job_queue set scheduled_for = greatest(resumed.scheduled_for, :at), updated_at = :at
from resumed
where tenant_id = :tenant_id and run_id = :run_id and status = 'queued'

-- cancel --
update delivery.campaign_runs
set cancel_requested_at = :at, cancel_requested_by = :actor, paused_at = null, paused_by = null,
    status = case when status = 'paused' then 'running' else status end, updated_at = :at
where tenant_id = :tenant_id and id = :run_id

-- cancel_items --
-- Locked in the order in which workers pick them.
with queued as materialized (
    select tenant_id, id from delivery.channel_outbox
    where tenant_id = :tenant_id and run_id = :run_id and status = 'queued'
    order by job_id, ordinal
    for no key update
)
update delivery.channel_outbox as items set status = 'cancelled', settled_at = :at, error = 'the run was cancelled'
from queued
where items.tenant_id = queued.tenant_id and items.id = queued.id

-- cancel_jobs --
-- Jobs that nobody holds; whoever holds one ends it.
update delivery.job_queue set status = 'cancelled', completed_at = :at, updated_at = :at
where tenant_id = :tenant_id and run_id = :run_id and status = 'queued'

-- by_request --
select id, intended, retry_of_run_id from delivery.campaign_runs where tenant_id = :tenant_id and request_id = :request_id

-- approval --
select approvals.*, accounts.name as account, accounts.is_connected,
    delivery.content_hash(contents, accounts) = runs.content_hash as is_as_approved
from delivery.campaign_runs as runs
inner join delivery.contents on contents.tenant_id = runs.tenant_id and contents.id = runs.content_id
inner join delivery.provider_accounts as accounts on accounts.tenant_id = runs.tenant_id and accounts.id = runs.account_id
inner join delivery.approvals on approvals.tenant_id = runs.tenant_id and approvals.content_id = runs.content_id
    and approvals.content_hash = runs.content_hash and approvals.expires_at > :at
where runs.tenant_id = :tenant_id and runs.id = :run_id
order by approvals.expires_at desc limit 1

-- retry_run --
insert into delivery.campaign_runs (
    tenant_id, id, workspace_id, campaign_id, channel, step, occurrence, content_id, content_hash, account_id, request_id,
    scheduled_for, time_zone, expires_at, retry_of_run_id, root_run_id, approved_by, approved_at, approval_expires_at, created_by,
    created_at
)
select tenant_id, :new_run_id, workspace_id, campaign_id, channel, step, occurrence, content_id, content_hash, account_id, :request_id,
    :at, time_zone, null, id, root_run_id, :approved_by, :approved_at, :approval_expires_at, :actor, :at
from delivery.campaign_runs where tenant_id = :tenant_id and id = :run_id

-- retry_recipients --
insert into delivery.run_recipients (tenant_id, run_id, ordinal, recipient_id, address, variables, consent_basis, item_id)
select recipients.tenant_id, :new_run_id, recipients.ordinal, recipients.recipient_id, recipients.address, recipients.variables,
    recipients.consent_basis, recipients.item_id
from delivery.channel_outbox as items
inner join delivery.run_recipients as recipients on recipients.tenant_id = items.tenant_id and recipients.run_id = items.run_id
    and recipients.item_id = items.id
where items.tenant_id = :tenant_id and items.run_id = :run_id and items.status = 'failed' and items.is_retryable
    and coalesce(items.settled_at, 'infinity') > (
        select coalesce(max(opened_at), '-infinity') from delivery.epochs where tenant_id = :tenant_id and number > 1
    )

-- before_restore --
-- People who failed before the database was put back: they may have been sent to since.
select count(*) as people, max(epochs.opened_at) as put_back_at
from delivery.channel_outbox as items
inner join delivery.epochs on epochs.tenant_id = items.tenant_id and epochs.number > 1 and epochs.opened_at >= items.settled_at
where items.tenant_id = :tenant_id and items.run_id = :run_id and items.status = 'failed' and items.is_retryable

-- retry_jobs --
insert into delivery.job_queue (tenant_id, workspace_id, run_id, job_type, chunk, scheduled_for, created_at)
select runs.tenant_id, runs.workspace_id, runs.id,
    case runs.channel when 'email' then 'email_send_batch' when 'sms' then 'sms_send_batch' else 'voice_call_batch' end,
    chunk, :at, :at
from delivery.campaign_runs as runs
cross join generate_series(0, (
    select (count(*) - 1) / :chunk_size from delivery.run_recipients where tenant_id = :tenant_id and run_id = :new_run_id
)) as chunk
where runs.tenant_id = :tenant_id and runs.id = :new_run_id

-- retry_items --
update delivery.channel_outbox as items
set run_id = :new_run_id, job_id = jobs.id, status = 'queued', attempts_left = 3, is_retryable = false, settled_at = null
from (
    select item_id, (row_number() over (order by ordinal) - 1) / :chunk_size as chunk
    from delivery.run_recipients where tenant_id = :tenant_id and run_id = :new_run_id
) as taken
inner join delivery.job_queue as jobs on jobs.tenant_id = :tenant_id and jobs.run_id = :new_run_id and jobs.chunk = taken.chunk
where items.tenant_id = :tenant_id and items.id = taken.item_id

-- retry_intended --
update delivery.campaign_runs set intended = :items where tenant_id = :tenant_id and id = :new_run_id
