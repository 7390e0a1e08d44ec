-- What a certification asks of the database it certified in.

-- items --
-- Every person, with all that was tried and found out.
select tenants.slug as tenant, items.root_run_id as root_run, items.run_id as run, items.id, runs.account_id as account, items.provider,
    items.step, items.address, items.idempotency_key as key, items.status, items.skip_reason,
    coalesce((
        select jsonb_agg(jsonb_build_object(
            'id', id, 'n', n, 'state', state, 'key', provider_key, 'replays', replays, 'message', provider_message_id, 'error', error_code
        ) order by n)
        from delivery.attempts where attempts.tenant_id = items.tenant_id and attempts.item_id = items.id
    ), '[]') as attempts,
    coalesce((
        select jsonb_agg(jsonb_build_object('reason', reason, 'resolution', resolution) order by opened_at)
        from delivery.reconciliation_cases as cases where cases.tenant_id = items.tenant_id and cases.item_id = items.id
    ), '[]') as cases
from delivery.channel_outbox as items
inner join spine.tenants on tenants.id = items.tenant_id
inner join delivery.campaign_runs as runs on runs.tenant_id = items.tenant_id and runs.id = items.root_run_id
order by 1, runs.created_at, items.root_run_id, items.ordinal

-- events --
-- Everything that providers told.
select account_id as account, provider_event_id as event, kind, provider_message_id as message, attempt_id as attempt,
    body_sha256, received_at
from delivery.provider_events order by received_at, id

-- starts --
-- How long jobs waited. Those that nobody has begun are among them, with the time until now.
select count(*) as jobs, coalesce(max(wait_seconds), 0) as slowest,
    coalesce(percentile_disc(0.99) within group (order by wait_seconds), 0) as p99
from delivery.job_waits(clock_timestamp())

-- not_retryable --
-- Rows that a retry must not write, with what shows that it did.
select id, ctid::text, xmin::text from delivery.channel_outbox
where tenant_id = :tenant_id and not is_retryable order by id

-- jobs_of_run --
select status from delivery.job_queue where tenant_id = :tenant_id and run_id = :run_id

-- workers --
-- Who held jobs last.
select locked_by from delivery.job_queue where tenant_id = :tenant_id

-- outcomes --
select status, error, provider_message_id from delivery.channel_outbox where tenant_id = :tenant_id

-- proofs --
-- What was told about messages that were sent from here.
select kind from delivery.provider_events
where tenant_id = :tenant_id and attempt_id is not null order by received_at, id

-- is_open --
-- Whether there is work for a worker.
select exists (select from delivery.job_queue where status in ('queued', 'locked'))
    or exists (select from delivery.attempts where state = 'dispatching')
