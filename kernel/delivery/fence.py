"""The fence after a restore: a database that went back in time knows nothing of what was sent since.

Each tenant's deliveries belong to an epoch, the cluster and timeline they were made on. On another one, and when a
person says that a copy of the files was put back, everything in flight becomes a case before anything is sent.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import audit, rollup
from models.statements import statements


def is_due(connection: sa.Connection, tenant_id: UUID) -> bool:
    """Whether the tenant's epoch is another than the server's; begins the first one. The caller is pinned."""
    known = connection.execute(statements("delivery_fence")["epoch"], {"tenant_id": tenant_id}).one()
    if known.number is None:
        connection.execute(statements("delivery_fence")["open"], {"tenant_id": tenant_id, "fenced": 0})
        return False
    return not known.is_same


def close(connection: sa.Connection, tenant_id: UUID, *, actor: str) -> int:
    """Turns everything in flight into cases and begins a new epoch; how many items that are. The caller is pinned."""
    runs = connection.scalars(statements("delivery_fence")["lock_runs"], {"tenant_id": tenant_id}).all()
    connection.execute(
        statements("delivery_fence")["lock_jobs"], {"tenant_id": tenant_id, "run_ids": list(runs)}
    )
    at: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    fenced = connection.execute(
        statements("delivery_fence")["fence"], {"tenant_id": tenant_id, "now": at}
    ).all()
    connection.execute(statements("delivery_fence")["open"], {"tenant_id": tenant_id, "fenced": len(fenced)})
    for run_id in sorted({row.run_id for row in fenced}):
        connection.execute(statements("delivery")["lock_run"], {"tenant_id": tenant_id, "run_id": run_id})
        count = sum(row.run_id == run_id for row in fenced)
        audit.append(connection, tenant_id, run_id, "fenced", actor=actor, at=at, items=count)
        connection.execute(
            statements("delivery_fence")["end_jobs"], {"tenant_id": tenant_id, "run_id": run_id}
        )
        rollup.roll_up(connection, tenant_id, run_id, at, actor=actor)
    return len(fenced)
