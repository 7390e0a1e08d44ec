"""Stopping an action: what ends at once, what has to be read first, and what may not be taken back as things stand.

Who may ask stands in `acknowledge` and `emergency`, the taking back itself in `abort`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import sqlalchemy as sa

from kernel.actions import budget, intents, lifecycle
from kernel.decisions import bundle, gates
from kernel.decisions.contract import Action, ActionType, Attributes, GateReading, KernelError
from kernel.errors import RefusedError
from models.statements import statements

GatesOf = Callable[[sa.Connection, UUID, datetime], tuple[GateReading, ...]]


def stop(
    connection: sa.Connection, tenant_id: UUID, action_id: UUID, *, actor: str, why: str, at: datetime
) -> Literal["aborted", "abort_requested"] | None:
    """Ends an action that is not applied; abort_requested when an attempt may have changed the target all the same.

    None, and nothing is changed, for an action in any other status.
    """
    connection.execute(statements("actions")["lock_action"], {"tenant_id": tenant_id, "id": action_id})
    step = {
        "at": at, "actor": actor, "note": why, "reason": why, "lease_token": None, "lease_until": None,
        "next_attempt_at": None,
    }  # fmt: skip
    intent = intents.find(connection, tenant_id, action_id, "apply")
    if intent is not None and intent.is_open:
        asked = lifecycle.advance(
            connection, tenant_id, action_id, expected=lifecycle.ATTEMPTED, to="abort_requested", **step
        )
        return "abort_requested" if asked else None
    if not lifecycle.advance(
        connection, tenant_id, action_id, expected=lifecycle.UNAPPLIED, to="aborted", **step, closed_at=at
    ):
        return None
    budget.release(connection, tenant_id, action_id, at)
    return "aborted"


@dataclass(frozen=True, slots=True)
class _TakingBack:
    """What gates look at, of an action that is taken back."""

    type: ActionType
    attributes: Attributes
    lever: None = None


def held_in_force(
    connection: sa.Connection,
    tenant_id: UUID,
    action_id: UUID,
    action: Action,
    at: datetime,
    gates_of: GatesOf = bundle.gates_of,
) -> str | None:
    """Why the action may not be taken back now, in one sentence, or None.

    What saved spend adds as much again when it is taken back: gates and caps have to allow that.
    """
    change = -action.attributes.daily_spend_change
    if change <= 0:
        return None
    adds = f"taking it back adds {change:f} a day, and "
    tenant = bundle.settled(connection, [tenant_id], at)[tenant_id]
    if isinstance(tenant, KernelError):
        return adds + tenant.message
    # A type that is blocked is blocked from being done, not from being undone.
    guardrails = bundle.guardrails(tenant.config).model_copy(update={"blocked_actions": ()})
    does = action.attributes.model_copy(update={"increases_spend": True, "daily_spend_change": change})
    trial = connection.begin_nested()
    try:
        seen = gates_of(connection, tenant_id, at)
        if why := gates.blocks(_TakingBack(action.type, does), seen, guardrails):
            return adds + why
        budget.reserve(connection, tenant_id, action_id, change, at)
    except (RefusedError, KernelError) as refused:
        return adds + str(refused)
    finally:
        trial.rollback()
    return None
