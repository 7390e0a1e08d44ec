"""Jobs that are given up: what they had to send ends as failed, in the transaction in which they die."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import audit, rollup
from models.statements import statements


def give_up(connection: sa.Connection, tenant_id: UUID, job_id: UUID, run_id: UUID, *, actor: str) -> bool:
    """Ends a job whose last lease ended without a word, or that died with items left; False when it is neither by now."""
    connection.execute(_sql("lock_run"), {"tenant_id": tenant_id, "run_id": run_id})
    if not connection.execute(_sql("give_up"), {"tenant_id": tenant_id, "job_id": job_id}).rowcount:
        return False
    bury(connection, tenant_id, job_id, run_id, actor=actor)
    return True


def bury(connection: sa.Connection, tenant_id: UUID, job_id: UUID, run_id: UUID, *, actor: str) -> None:
    """Ends the queued items of a dead job as failed, to be retried. The caller has locked its run, then the job."""
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    ended = {"status": "failed", "why": "its job was given up", "now": now, "is_retryable": True}
    connection.execute(_sql("end_queued"), {"tenant_id": tenant_id, "job_id": job_id} | ended)
    audit.append(connection, tenant_id, job_id, "job_dead", actor=actor, at=now)
    rollup.roll_up(connection, tenant_id, run_id, now, actor=actor)


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
