"""What a cycle proposed, stored as the kernel stores it, and the people who answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import members, tenancy
from kernel.actions import acknowledge, lifecycle
from kernel.decisions.contract import Action, GateReading
from models.decisions import optimization_cycles
from tests.fakes.approved import NOW, Company, action, one, row_of
from tests.integration.decisions.world import deciding

LATER = NOW + timedelta(hours=1)
OLGA, ANA, MAX, STRANGER = (UUID(int=number) for number in (0xA1, 0xA2, 0xA3, 0xA4))


def people(engine: sa.Engine, tenant_id: UUID) -> None:
    """olga is owner, ana approver, max member."""
    for user_id, name, role in ((OLGA, "olga", "owner"), (ANA, "ana", "approver"), (MAX, "max", "member")):
        with engine.begin() as connection:
            members.add(connection, tenant_id, user_id, name, role)


def store(
    engine: sa.Engine,
    tenant_id: UUID,
    *actions: Action,
    mode: Literal["enforce", "shadow"] = "enforce",
    gates: Sequence[GateReading] = (),
    at: datetime = NOW,
) -> list[UUID]:
    cycle_id = uuid4()
    given: Any = SimpleNamespace(tenant_id=tenant_id)
    output = deciding(*actions)(given, at, cycle_id=cycle_id, weights=None)
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        connection.execute(optimization_cycles.insert().values(tenant_id=tenant_id, id=cycle_id))
        return lifecycle.insert_actions(
            connection, tenant_id, cycle_id, output, mode=mode, gates=gates, config_version_id=None, at=at
        )


def waiting(engine: sa.Engine, tenant_id: UUID, **more: Any) -> UUID:
    """One action that waits for an answer."""
    (made,) = store(engine, tenant_id, action(requires_acknowledgment=True, **more))
    return made


def status(engine: sa.Engine, action_id: UUID) -> str:
    return one(engine, "select execution_status from spine.optimization_actions where id = :id", id=action_id)


def steps(engine: sa.Engine, action_id: UUID) -> list[tuple[str | None, str]]:
    with engine.begin() as connection:
        tenancy.service(connection)
        query = (
            "select from_status, to_status from spine.action_events"
            " where optimization_action_id = :id order by at, number"
        )
        return [(row[0], row[1]) for row in connection.execute(sa.text(query), {"id": action_id})]


def call(engine: sa.Engine, what: str, of: Company, *args: Any, **named: Any) -> Any:
    """What an act of `acknowledge` answers, in a transaction of its own."""
    with engine.begin() as connection:
        return getattr(acknowledge, what)(connection, of.id, *args, **named)


def shown(engine: sa.Engine, id_: UUID) -> str:
    return row_of(engine, id_).payload_hash
