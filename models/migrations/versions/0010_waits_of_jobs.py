"""How long jobs of deliveries waited: the one rule of it, for live figures, marts and the certification."""

from __future__ import annotations

from alembic import op

from models import rls

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# A job that was put off after it began tells no more when it was due: then its run does. One that is paused, not due yet
# or ended before it began was never due. Seconds are those until it began or until `at`, and from there to its end.
_JOB_WAITS = """
create function delivery.job_waits(at timestamptz) returns table (
    tenant_id uuid, job_id uuid, channel text, due_at timestamptz, started_at timestamptz, wait_seconds numeric, work_seconds numeric
)
language sql stable as $$
    select due.tenant_id, due.id, due.channel, due.due_at, due.started_at,
        extract(epoch from coalesce(due.started_at, at) - due.due_at)::numeric(18, 3),
        extract(epoch from due.completed_at - due.started_at)::numeric(18, 3)
    from (
        select jobs.tenant_id, jobs.id, runs.channel, jobs.started_at, jobs.completed_at,
            case
                when jobs.scheduled_for <= coalesce(jobs.started_at, at) then jobs.scheduled_for
                when jobs.started_at is not null then greatest(runs.scheduled_for, jobs.created_at)
            end as due_at
        from delivery.job_queue as jobs
        inner join delivery.campaign_runs as runs on runs.tenant_id = jobs.tenant_id and runs.id = jobs.run_id
        where jobs.started_at is not null or jobs.status = 'queued'
    ) as due
    where due.due_at is not null
$$
"""


def upgrade() -> None:
    op.execute(_JOB_WAITS)
    op.execute("revoke execute on function delivery.job_waits from public")
    op.execute(f"grant execute on function delivery.job_waits to {rls.SERVICE}")
