"""The states of an action and the one way from one to another: compare and set, with the audit row in the same statement.

Who may ask for a step stands in `acknowledge`, what a step does to the outside world in `dispatch` and `abort`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kernel.decisions.contract import Action, GateReading, KernelOutput, payload_hash
from kernel.errors import RefusedError
from models.actions import action_events
from models.decisions import optimization_actions as actions
from models.statements import statements

# A proposal is founded on the numbers of its day: three days later another cycle has seen newer ones.
GOOD_FOR = timedelta(hours=72)
KERNEL = "kernel"

# From each status the ones that may follow. A status that leads nowhere is an end.
TRANSITIONS: Mapping[str, frozenset[str]] = {
    "proposed": frozenset(),  # of a shadow cycle: recorded, never carried out
    # To itself: snoozed, or edited and to be acknowledged anew.
    "awaiting_ack": frozenset(["awaiting_ack", "approved", "rejected", "expired", "aborted"]),
    "approved": frozenset(["claimed", "aborted"]),
    # Asked to be taken back: an attempt may have changed the target, and that is read first.
    "scheduled": frozenset(["claimed", "aborted", "abort_requested"]),
    # Nothing has been sent by this attempt. Back to approved: the tenant is switched off. Back to awaiting_ack: a gate
    # closed since, and whoever approved has not seen that.
    "claimed": frozenset(
        [
            "approved",
            "awaiting_ack",
            "scheduled",
            "applying",
            "expired",
            "aborted",
            "abort_requested",
            "apply_failed",
        ]
    ),
    # Aborted: it failed in passing, and the tenant was stopped meanwhile.
    "applying": frozenset(["applied", "scheduled", "verify_failed", "apply_failed", "aborted"]),
    "applied": frozenset(["observing", "abort_requested"]),
    "observing": frozenset(["closed", "abort_requested"]),
    # What holds is not known: a person looks and has it taken back, or leaves it as it is.
    "verify_failed": frozenset(["abort_requested", "closed"]),
    # Aborted: there turned out to be nothing to take back.
    "abort_requested": frozenset(["reverting", "aborted"]),
    "reverting": frozenset(["reverted", "verify_failed"]),
    "rejected": frozenset(),
    "expired": frozenset(),
    "apply_failed": frozenset(),
    "reverted": frozenset(),
    "aborted": frozenset(),
    "closed": frozenset(),
}
# Only a person's word does these, through the functions of the database that check who speaks and of what.
BY_WORD = frozenset([("awaiting_ack", "approved"), ("awaiting_ack", "rejected")])
TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
# Nothing of it stands outside: it ends by a word. What may stand has to be taken back; of what was attempted that is
# known when its intent is settled.
UNAPPLIED = ("awaiting_ack", "approved", "scheduled", "claimed")
ATTEMPTED = ("scheduled", "claimed")
APPLIED = ("applied", "observing", "verify_failed")
_log = logging.getLogger(__name__)


def advance(
    connection: sa.Connection,
    tenant_id: UUID,
    action_id: UUID,
    *,
    expected: str | tuple[str, ...],
    to: str,
    at: datetime,
    actor: str,
    note: str = "",
    detail: dict[str, Any] | None = None,
    **columns: Any,
) -> bool:
    """Moves the action from an expected status to `to`, sets `columns`, and records the step, all or nothing.

    False, and nothing is changed, when the action is in none of the expected statuses or not the tenant's. Of two
    who try at once one wins. Raises RefusedError for a step that TRANSITIONS does not have or that is in BY_WORD.
    """
    wanted = (expected,) if isinstance(expected, str) else expected
    for status in wanted:
        if to not in TRANSITIONS.get(status, ()):
            ways = ", ".join(sorted(TRANSITIONS.get(status, ()))) or "nothing"
            raise RefusedError(f"an action that is {status} cannot become {to}: it may become {ways}")
        if (status, to) in BY_WORD:
            raise RefusedError(f"an action that is {status} becomes {to} by an approver's word alone")
    given = {
        "tenant_id": tenant_id, "id": action_id, "expected": list(wanted), "to": to, "at": at, "actor": actor,
        "note": note or None, "detail": detail or {},
    }  # fmt: skip
    step = _step(tuple(sorted(columns)))
    return (
        connection.execute(step, given | {f"set_{name}": columns[name] for name in columns}).first()
        is not None
    )


@cache
def _step(columns: tuple[str, ...]) -> sa.TextClause:
    """The statement of `advance` for the columns it sets beside the status, which come from the table alone."""
    typed = {f"set_{name}": actions.c[name] for name in columns}
    text = statements("actions")["advance"].text.replace(
        "{columns}", "".join(f", {column.name} = :{name}" for name, column in typed.items())
    )
    binds = [sa.bindparam(name, type_=column.type) for name, column in typed.items()]
    return sa.text(text).bindparams(sa.bindparam("detail", type_=pg.JSONB), *binds)


def insert_actions(
    connection: sa.Connection,
    tenant_id: UUID,
    cycle_id: UUID,
    output: KernelOutput,
    *,
    mode: Literal["enforce", "shadow"],
    gates: Sequence[GateReading],
    config_version_id: UUID | None,
    at: datetime,
) -> list[UUID]:
    """Stores the cycle's actions with the gates as they were seen; the new ids, in the order of rank.

    An action whose family is at work on the same entity already is left out and named in the log, and so is an
    action that depends on one left out.
    """
    if not output.actions:
        return []
    shared = {
        "tenant_id": tenant_id,
        "optimization_cycle_id": cycle_id,
        "gate_states": seen(gates),
        "config_version_id": config_version_id,
        "expires_at": None if mode == "shadow" else at + GOOD_FOR,
        "created_at": at,
        "updated_at": at,
    }
    rows = [shared | _row(action, mode) for action in output.actions]
    found = connection.execute(
        pg.insert(actions).on_conflict_do_nothing().returning(actions.c.action_id, actions.c.id), rows
    )
    stored: dict[str, UUID] = dict(found.all())
    kept = _standing(output.actions, stored)
    for action in output.actions:
        if action.action_id not in kept:
            _log.warning("tenant %s: %s is left out, its like is live already", tenant_id, action.action_id)
    if without_partner := [stored[name] for name in stored.keys() - kept]:
        gone = sa.delete(actions).where(actions.c.tenant_id == tenant_id, actions.c.id.in_(without_partner))
        connection.execute(gone)
    events = [
        {
            "tenant_id": tenant_id,
            "optimization_action_id": stored[row["action_id"]],
            "at": at,
            "to_status": row["execution_status"],
            "actor": KERNEL,
            "note": row["payload"]["acknowledgment_why"] or None,
            "detail": {"payload_hash": row["payload_hash"], "cycle_id": str(cycle_id)},
        }
        for row in rows
        if row["action_id"] in kept
    ]
    if events:
        connection.execute(sa.insert(action_events), events)
    return [stored[action.action_id] for action in output.actions if action.action_id in kept]


def _standing(proposed: Sequence[Action], stored: Mapping[str, UUID]) -> set[str]:
    """Of what was stored, what does not depend on an action of the cycle that was left out."""
    kept = set(stored)
    own = {action.action_id for action in proposed}
    while fallen := {
        action.action_id
        for action in proposed
        if action.action_id in kept and (own & set(action.dependencies)) - kept
    }:
        kept -= fallen
    return kept


def _row(action: Action, mode: Literal["enforce", "shadow"]) -> dict[str, Any]:
    if mode == "shadow":
        status = "proposed"
    else:
        status = "awaiting_ack" if action.requires_acknowledgment else "approved"
    return {
        "action_id": action.action_id,
        "priority_rank": action.priority_rank,
        "owner_subsystem": action.owner_subsystem,
        "lens_emphasis": action.lens_emphasis,
        "type": action.type,
        "target_metric": action.target_metric,
        "target_direction": action.target_direction,
        "hypothesis": action.hypothesis,
        "expected_observation_window_days": action.expected_observation_window_days,
        "notes_for_humans": action.notes_for_humans,
        "execution_status": status,
        "family": action.family,
        "entity_type": action.target_entity.type if action.target_entity else "",
        "entity_id": action.target_entity.id if action.target_entity else "",
        "cfo_score": action.cfo_score,
    } | of_payload(action)


def seen(gates: Sequence[GateReading]) -> dict[str, Any]:
    """The gates as gate_states keeps them."""
    return {gate.gate: gate.model_dump(mode="json") for gate in gates}


def of_payload(action: Action) -> dict[str, Any]:
    """The columns that repeat what the payload says and change with it."""
    payload = action.model_dump(mode="json")
    return {
        "payload": payload,
        "payload_hash": payload_hash(action),
        "config": payload["proposed_change"],
        "guardrails": payload["guardrails"],
        "attributes": payload["attributes"],
        "requires_acknowledgment": action.requires_acknowledgment,
    }
