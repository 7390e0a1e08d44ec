"""Workload 4: carrying out what was approved, from the claim to the change read back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa

from bench.decisions import MORNING, populate
from bench.measure import database
from kernel import members, tenancy
from kernel.actions import acknowledge, dispatch
from kernel.decisions import cycles
from kernel.decisions.contract import Trigger

_APPROVER = UUID(int=1)


@dataclass(frozen=True, slots=True)
class Point:
    """`changes` were due; the rest of them was aborted by a rule when its turn came."""

    changes: int
    applied: int
    seconds: float
    changes_per_second: float


def measure(changes: int = 1000) -> Point:
    """Dispatches at least `changes` configuration changes that cycles of as many tenants as it takes proposed."""
    with database() as (engine, _):
        populate(engine, changes // 2)
        trigger = Trigger(type="manual", source="bench", triggered_at=MORNING)
        cycles.run(engine, None, clock=lambda: MORNING, trigger=trigger)
        _approve(engine, changes)
        return _point(engine)


def _approve(engine: sa.Engine, changes: int) -> None:
    """Approves that many changes of configuration and puts everything else away."""
    with engine.begin() as connection:
        tenancy.service(connection)
        rows = connection.execute(sa.text(_PROPOSED), {"changes": changes}).all()
    if len(rows) < changes:
        raise RuntimeError(f"{changes} changes were asked for and the cycles proposed {len(rows)}")
    for tenant_id in {row.tenant_id for row in rows}:
        with engine.begin() as connection:
            members.add(connection, tenant_id, _APPROVER, "bench", "owner")
    for row in rows:
        if row.execution_status == "awaiting_ack":
            with engine.begin() as connection:
                acknowledge.approve(connection, row.tenant_id, _APPROVER, row.id, row.payload_hash, MORNING)
    with engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(sa.text(_PUT_AWAY), {"kept": [row.id for row in rows]})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("analyze"))


def _point(engine: sa.Engine) -> Point:
    started = time.perf_counter()
    taken = applied = 0
    while True:
        report = dispatch.run_due(engine, clock=lambda: MORNING, sleep=time.sleep, worker="bench")
        if not report.taken:
            break
        taken, applied = taken + report.taken, applied + report.applied
    seconds = time.perf_counter() - started
    return Point(taken, applied, round(seconds, 1), round(taken / seconds, 1))


# In the order of rank, so that every tenant gives its best first.
_PROPOSED = """
select tenant_id, id, execution_status, payload_hash from spine.optimization_actions
where type not in ('alert', 'data_correction', 'forecast_update') and owner_subsystem not in ('data', 'lifecycle')
    and payload -> 'dependencies' = '[]'
order by priority_rank, tenant_id
limit :changes
"""
_PUT_AWAY = """
update spine.optimization_actions set execution_status = 'aborted'
where execution_status in ('awaiting_ack', 'approved') and id <> all(:kept)
"""
