"""Taking jobs from the queue, fairly over tenants, at a cost that does not grow with what the queue has seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from models.statements import array, statements

# Whoever becomes due after a worker has looked waits at most this long for the next look.
_LOOK_EVERY = 0.25
_AMONG = 25  # jobs that a claim tries, so that workers that have seen the same ones all get some


@dataclass(frozen=True, slots=True)
class Claimed:
    tenant_id: UUID
    job_id: UUID
    run_id: UUID
    token: int


@dataclass(slots=True)
class Queue:
    """What one worker knows of the queue: jobs that were due a moment ago, in the order of claiming.

    Looking walks over every job that was taken since the oldest snapshot of the database began; claiming what was seen
    does not. How many jobs of a tenant are leased is asked by the look.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: list[tuple[UUID, UUID]] = field(default_factory=list)
    _looked_at: float = float("-inf")

    def claim(self, engine: sa.Engine, worker: str, max_jobs: int, lease: timedelta) -> list[Claimed]:
        """Leases up to `max_jobs` jobs to the worker; none when nothing is due."""
        with engine.begin() as connection:
            tenancy.service(connection)
            if self.clock() - self._looked_at < _LOOK_EVERY and (
                jobs := self._among_seen(connection, worker, max_jobs, lease)
            ):
                return jobs
            self._seen = [(row.tenant_id, row.id) for row in connection.execute(_sql("due"))]
            self._looked_at = self.clock()
            return self._among_seen(connection, worker, max_jobs, lease)

    def _among_seen(
        self, connection: sa.Connection, worker: str, max_jobs: int, lease: timedelta
    ) -> list[Claimed]:
        while self._seen:
            part = self._seen[: max(max_jobs, _AMONG)]
            given = {
                "worker": worker, "max_jobs": max_jobs, "lease_seconds": lease.total_seconds(),
                "tenants": array(tenant_id for tenant_id, _ in part), "jobs": array(job_id for _, job_id in part),
            }  # fmt: skip
            rows = connection.execute(_sql("claim"), given).all()
            taken = {(row.tenant_id, row.id) for row in rows}
            # Those before the last one taken are somebody else's by now.
            gone = max((place for place, job in enumerate(part, 1) if job in taken), default=len(part))
            del self._seen[:gone]
            if rows:
                return [Claimed(row.tenant_id, row.id, row.run_id, row.lease_token) for row in rows]
        return []


def _sql(name: str) -> sa.TextClause:
    return statements("delivery")[name]
