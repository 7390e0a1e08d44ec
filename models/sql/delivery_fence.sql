-- epoch --
select epochs.number,
    epochs.system_identifier = system.system_identifier::text and epochs.timeline = checkpoint.timeline_id as is_same
from pg_control_system() as system
cross join pg_control_checkpoint() as checkpoint
left join lateral (
    select * from delivery.epochs where tenant_id = :tenant_id order by number desc limit 1
) as epochs on true

-- open --
insert into delivery.epochs (tenant_id, number, system_identifier, timeline, opened_at, fenced_items)
select :tenant_id, coalesce((select max(number) from delivery.epochs where tenant_id = :tenant_id), 0) + 1,
    system.system_identifier::text, checkpoint.timeline_id, clock_timestamp(), :fenced
from pg_control_system() as system cross join pg_control_checkpoint() as checkpoint
on conflict do nothing

-- lock_runs --
-- The runs, the jobs and then the items, as everybody who settles: runs that may have something in flight.
select id from delivery.campaign_runs
where tenant_id = :tenant_id and status not in ('completed', 'partial', 'failed', 'cancelled')
order by created_at, id
for no key update

-- lock_jobs --
select id from delivery.job_queue
where tenant_id = :tenant_id and run_id = any(cast(:run_ids as uuid[])) and status in ('queued', 'locked')
order by run_id, id
for no key update

-- fence --
-- Items that are queued may have been sent after the moment the database went back to, like those in a call.
with hit as (
    update delivery.channel_outbox set status = 'unknown', error = 'restored: it may have been sent since', settled_at = :now
    where tenant_id = :tenant_id and status in ('queued', 'dispatching')
    returning id, run_id
),
doubted as (
    update delivery.attempts set state = 'unknown', error_code = 'restored', replays = replays + 1
    from hit where attempts.tenant_id = :tenant_id and attempts.item_id = hit.id and attempts.state = 'dispatching'
    returning attempts.item_id, attempts.id
),
opened as (
    insert into delivery.reconciliation_cases (tenant_id, item_id, attempt_id, run_id, opened_at, reason, due_at, next_lookup_at)
    select :tenant_id, hit.id, doubted.id, hit.run_id, :now, 'restored', cast(:now as timestamptz) + interval '24 hours', :now
    from hit left join doubted on doubted.item_id = hit.id
    on conflict (tenant_id, item_id) where resolution is null do nothing
)
select id, run_id from hit

-- end_jobs --
update delivery.job_queue set status = 'completed', completed_at = clock_timestamp(), lease_expires_at = null, updated_at = clock_timestamp()
where tenant_id = :tenant_id and run_id = :run_id and status in ('queued', 'locked')
