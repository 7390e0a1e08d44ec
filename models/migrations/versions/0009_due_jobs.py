"""Which jobs are due is asked once for many claims, and a claim finds its jobs by their keys.

While anybody holds an old snapshot, every job that was ever taken still lies at the head of its tenant's queue as a dead
entry, and whoever looks walks over all of them. A claim among jobs that were seen a moment ago meets none.
"""

from __future__ import annotations

from alembic import op

from models import rls

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ARGUMENTS = "text, int, interval, timestamptz"

# Ring over the tenants from a random one, by the index: a step to the next one, never a list of all jobs. Of each no
# more than it may still have leased; first the first of every tenant, then the second.
_DUE = """
create function delivery.due_jobs(most int default 200, at timestamptz default clock_timestamp())
returns table (tenant_id uuid, id uuid)
language plpgsql stable as $$
declare
    start uuid := gen_random_uuid();
    this uuid := start;
    is_past boolean := false;
    tenants uuid[] := '{}';
begin
    while cardinality(tenants) < most loop
        select jobs.tenant_id into this from delivery.job_queue as jobs
        where jobs.status = 'queued' and jobs.tenant_id > this and (not is_past or jobs.tenant_id <= start)
        order by jobs.tenant_id limit 1;
        if this is null then
            exit when is_past;
            is_past := true;
            this := '00000000-0000-0000-0000-000000000000';
            continue;
        end if;
        if exists (
            select from delivery.job_queue as jobs
            where jobs.tenant_id = this and jobs.status = 'queued' and jobs.scheduled_for <= at
        ) then
            tenants := tenants || this;
        end if;
    end loop;
    return query
    select due.tenant_id, due.id
    from unnest(tenants) with ordinality as ring(tenant, place)
    cross join lateral (
        select jobs.tenant_id, jobs.id, row_number() over (order by jobs.scheduled_for, jobs.id) as round
        from delivery.job_queue as jobs
        where jobs.tenant_id = ring.tenant and jobs.status = 'queued' and jobs.scheduled_for <= at
        order by jobs.scheduled_for, jobs.id
        limit greatest(25 - (
            select count(*) from delivery.job_queue as leased
            where leased.tenant_id = ring.tenant and leased.status = 'locked'
        ), 0)
    ) as due
    order by due.round, ring.place
    limit most;
end $$
"""

_CLAIM = """
create function delivery.claim_queued_jobs(
    worker text, max_jobs int default 200, lease interval default '5 minutes', at timestamptz default clock_timestamp(),
    tenants uuid[] default null, jobs uuid[] default null
) returns setof delivery.job_queue
language plpgsql as $$
begin
    if jobs is null then
        select array_agg(due.tenant_id), array_agg(due.id) into tenants, jobs
        from delivery.due_jobs(greatest(max_jobs, 200), at) as due;
    end if;
    return query
    with seen as materialized (
        select * from unnest(tenants, jobs) with ordinality as seen(tenant_id, id, place)
    ),
    taken as materialized (
        select queue.tenant_id, queue.id
        from seen
        inner join delivery.job_queue as queue on queue.tenant_id = seen.tenant_id and queue.id = seen.id
        where queue.status = 'queued' and queue.scheduled_for <= at
        order by seen.place
        limit max_jobs
        for no key update of queue skip locked
    )
    update delivery.job_queue as queue
    set status = 'locked', locked_at = at, locked_by = worker, lease_token = queue.lease_token + 1,
        lease_expires_at = at + lease, started_at = coalesce(queue.started_at, at), updated_at = at
    from taken
    where queue.tenant_id = taken.tenant_id and queue.id = taken.id
    returning queue.*;
end $$
"""


def upgrade() -> None:
    op.execute(f"drop function delivery.claim_queued_jobs({_ARGUMENTS})")
    for function in (_DUE, _CLAIM):
        op.execute(function)
    op.execute("revoke execute on all functions in schema delivery from public")
    op.execute(f"grant execute on all functions in schema delivery to {rls.SERVICE}")
