"""Stopping everything for one tenant, and starting again: the emergency rollback.

After `disable` nothing new is decided or applied for the tenant, whatever was on its way: cycles and dispatch ask the
tenant's switch under lock, and what a stop found on its way is not sent again after it. Taking applied changes back
stays a person's decision, action by action.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from kernel.actions import wording
from kernel.actions.executors.tickets import asks_people
from kernel.actions.stopping import stop
from kernel.errors import RefusedError
from models.actions import incidents
from models.decisions import optimization_actions as actions
from models.spine import tenants
from models.statements import statements

# Waiting for a worker or a person, or in the hands of a worker that has not sent anything.
_STOPPED = ("awaiting_ack", "approved", "scheduled", "claimed")
# A worker is between intent and settlement: the reader of intents settles it, then it can be taken back. What an
# attempt may have changed is read by the reverter.
_IN_FLIGHT = ("applying", "abort_requested", "reverting")
_IN_FORCE = ("applied", "observing", "verify_failed")
_AGREED = ("approved", "scheduled", "claimed")
_OLD_WORD = "it was agreed to before the tenant was switched off"


@dataclass(frozen=True, slots=True)
class Stop:
    """Ids of what was aborted and of what is still being settled or taken back; of what stands and could be taken back the id and
    what it changed, in words."""

    incident_id: UUID
    aborted: tuple[UUID, ...]
    in_flight: tuple[UUID, ...]
    revertible: tuple[tuple[UUID, str], ...]


def disable(connection: sa.Connection, tenant_id: UUID, *, actor: str, reason: str, at: datetime) -> Stop:
    """Switches the tenant off, aborts what is not applied, and records the incident, in one transaction.

    Raises RefusedError without a reason. Repeating it aborts what came up since.
    """
    if not reason.strip():
        raise RefusedError("an emergency stop needs its reason: say why, it is kept for good")
    # Waits for a step that has begun; the next one finds the switch off.
    _switch(connection, tenant_id, False, at)
    aborted = _stop_all(connection, tenant_id, _STOPPED, actor=actor, why=reason, at=at)
    in_flight = _in(connection, tenant_id, _IN_FLIGHT)
    revertible = _revertible(connection, tenant_id, at)
    detail = {
        "aborted": [str(each) for each in aborted],
        "in_flight": [str(each) for each in in_flight],
        "revertible": [str(each) for each, _ in revertible],
    }
    written = connection.execute(
        incidents.insert()
        .values(tenant_id=tenant_id, at=at, actor=actor, reason=reason, detail=detail)
        .returning(incidents.c.id)
    )
    return Stop(written.scalar_one(), aborted, in_flight, revertible)


def enable(connection: sa.Connection, tenant_id: UUID, *, actor: str, reason: str, at: datetime) -> None:
    """Switches the tenant on and begins its thirty days of acknowledging everything anew; recorded like a stop.

    What was approved before a tenant was switched off is not carried out after it: the next cycle proposes it anew.
    """
    if not reason.strip():
        raise RefusedError("switching a tenant on needs its reason: say why, it is kept for good")
    query = sa.select(tenants.c.revenue_os_enabled).where(tenants.c.id == tenant_id)
    was_on = connection.execute(query.with_for_update(key_share=True)).scalar()
    _switch(connection, tenant_id, True, at)
    left = () if was_on else _stop_all(connection, tenant_id, _AGREED, actor=actor, why=_OLD_WORD, at=at)
    detail = {"enabled": True, "aborted": [str(each) for each in left]}
    connection.execute(
        incidents.insert().values(tenant_id=tenant_id, at=at, actor=actor, reason=reason, detail=detail)
    )


def _stop_all(
    connection: sa.Connection,
    tenant_id: UUID,
    statuses: tuple[str, ...],
    *,
    actor: str,
    why: str,
    at: datetime,
) -> tuple[UUID, ...]:
    """The ids of what was aborted; what has to be read first is not among them."""
    return tuple(
        action_id
        for action_id in _in(connection, tenant_id, statuses)
        if stop(connection, tenant_id, action_id, actor=actor, why=why, at=at) == "aborted"
    )


def _switch(connection: sa.Connection, tenant_id: UUID, on: bool, at: datetime) -> None:
    values = {"revenue_os_enabled": on, "updated_at": at}
    if on:
        values["revenue_os_activated_at"] = at
    connection.execute(sa.update(tenants).where(tenants.c.id == tenant_id).values(values))


def _in(connection: sa.Connection, tenant_id: UUID, statuses: tuple[str, ...]) -> tuple[UUID, ...]:
    query = (
        sa.select(actions.c.id)
        .where(actions.c.tenant_id == tenant_id, actions.c.execution_status.in_(statuses))
        .order_by(actions.c.id)  # as everything locks that locks several
    )
    return tuple(connection.execute(query).scalars())


def _revertible(connection: sa.Connection, tenant_id: UUID, at: datetime) -> tuple[tuple[UUID, str], ...]:
    """What holds a changed value. A ticket changed nothing that could be taken back."""
    given = {"tenant_id": tenant_id, "everything": False, "at": at, "limit": None}
    rows = connection.execute(statements("actions")["listed"], given).mappings()
    return tuple(
        (row["id"], f"{wording.line(row)}, {_since(row)}")
        for row in rows
        if row["execution_status"] in _IN_FORCE
        and row["attributes"].get("reversible", True)
        and not asks_people(row["type"], row["subsystem"])
    )


def _since(row: sa.RowMapping) -> str:
    if row["execution_status"] == "verify_failed":
        return "sent, but the target holds something else"
    return f"in force since {row['applied_at']:%Y-%m-%d %H:%M} UTC"
