"""What people decide about actions: approve, reject, put off, change, stop, leave as it is, and report as done.

Which actions need a person is the kernel's word (`requires_acknowledgment`); who may speak is checked here and, for
approving and rejecting, in the database. Every function pins the transaction to the tenant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue

from kernel import members, tenancy
from kernel.actions import lifecycle, matrix, observe, stopping
from kernel.actions.executors import tickets
from kernel.actions.stopping import GatesOf
from kernel.actions.wording import value
from kernel.decisions import bundle, gates
from kernel.decisions.contract import Action, Attributes, GateReading, KernelError
from kernel.decisions.levers import number
from kernel.errors import RefusedError
from models.statements import statements

# What the functions of the database raise: insufficient_privilege, no_data_found, object_not_in_prerequisite_state,
# invalid_parameter_value.
_REFUSALS = ("42501", "P0002", "55000", "22023")
_KERNEL_SAID = "The kernel had said of its own proposal: "


def approve(
    connection: sa.Connection,
    tenant_id: UUID,
    user_id: UUID,
    action_id: UUID,
    payload_hash: str,
    at: datetime,
    *,
    shown: Sequence[GateReading] | None = None,
) -> None:
    """Acknowledges the payload of that hash. Raises RefusedError with the database's own sentence.

    Only an approver or owner of the tenant may, not for what they proposed themselves, not after it expired. `shown`
    are the gates as the approver was shown them: the approval holds under these. Without, it holds under those of
    the proposal, and a gate that closed since has the approver asked again.
    """
    tenancy.service(connection, tenant_id)
    with connection.begin_nested():
        if shown is not None:
            _keep_shown(connection, tenant_id, user_id, action_id, lifecycle.seen(shown), at)
        _speak(connection, tenant_id, user_id, "acknowledge", action_id, payload_hash, at)


def reject(
    connection: sa.Connection, tenant_id: UUID, user_id: UUID, action_id: UUID, why: str, at: datetime
) -> None:
    """Ends the action with the reason. Raises RefusedError as `approve` does, also without a reason."""
    _speak(connection, tenant_id, user_id, "reject", action_id, why, at)


def snooze(
    connection: sa.Connection, tenant_id: UUID, user_id: UUID, action_id: UUID, until: datetime, at: datetime
) -> None:
    """Keeps the action off the list until then. It expires when it would have."""
    who = members.approver(connection, tenant_id, user_id)
    row = _waiting(connection, tenant_id, action_id, at)
    if not at < until < row.expires_at:
        raise RefusedError(
            f"snooze until an instant between now and {row.expires_at:%Y-%m-%d %H:%M} UTC, when the action expires"
        )
    lifecycle.advance(
        connection, tenant_id, action_id, expected="awaiting_ack", to="awaiting_ack", at=at, actor=str(who.user_id),
        note=f"snoozed until {until.isoformat()}", snoozed_until=until,
    )  # fmt: skip


def edit(
    connection: sa.Connection,
    tenant_id: UUID,
    user_id: UUID,
    action_id: UUID,
    new_value: JsonValue,
    why: str,
    at: datetime,
    *,
    gates_of: GatesOf = bundle.gates_of,
) -> str:
    """Proposes another value in place of the kernel's; the hash that somebody else has to acknowledge.

    The value is held against the same rules and the gates of now, and what it does to spend and margin is worked
    out anew. When it expires does not change. Raises RefusedError naming the rule, also for an action that another
    one counts on as it is.
    """
    who = members.approver(connection, tenant_id, user_id)
    if not why.strip():
        raise RefusedError("a change needs its reason: say why")
    row = _waiting(connection, tenant_id, action_id, at)
    action = Action.model_validate(row.payload)
    given = {"tenant_id": tenant_id, "id": action_id}
    for other in connection.execute(statements("actions")["dependants"], given).scalars():
        raise RefusedError(
            f"{other} counts on this action as it is: reject this one, and that one ends with it"
        )
    tenant = bundle.settled(connection, [tenant_id], at)[tenant_id]
    if isinstance(tenant, KernelError):
        raise RefusedError(tenant.message)
    guardrails = bundle.guardrails(tenant.config)
    edited = _edited(action, new_value, who.name, why.strip())
    facts = matrix.facts_of(connection, tenant_id, edited)
    matrix.validate(edited, guardrails, today=at.date(), facts=facts)
    seen = gates_of(connection, tenant_id, at)
    if blocked := gates.blocks(edited, seen, guardrails):
        raise RefusedError(blocked)
    columns = lifecycle.of_payload(edited)
    lifecycle.advance(
        connection, tenant_id, action_id, expected="awaiting_ack", to="awaiting_ack", at=at, actor=str(who.user_id),
        note=why, detail={"payload_hash": columns["payload_hash"], "instead_of": row.payload_hash},
        **columns, hypothesis=edited.hypothesis, notes_for_humans=edited.notes_for_humans, proposed_by=who.user_id,
        snoozed_until=None, config_version_id=tenant.config_version_id, gate_states=lifecycle.seen(seen),
    )  # fmt: skip
    return columns["payload_hash"]


def abort(
    connection: sa.Connection,
    tenant_id: UUID,
    user_id: UUID,
    action_id: UUID,
    why: str,
    at: datetime,
    *,
    gates_of: GatesOf = bundle.gates_of,
) -> str:
    """Stops the action: aborted when nothing of it stands, abort_requested when it has to be read or taken back first.

    Raises RefusedError for an action that has ended or is being sent at this moment, and for one that saves spend
    which gates or caps do not allow now.
    """
    who = members.approver(connection, tenant_id, user_id)
    if not why.strip():
        raise RefusedError("an abort needs its reason: say why")
    actor = str(who.user_id)
    if stopped := stopping.stop(connection, tenant_id, action_id, actor=actor, why=why, at=at):
        return stopped
    row = _row(connection, tenant_id, action_id)
    if row.execution_status in lifecycle.APPLIED:
        action = Action.model_validate(row.payload)
        if held := stopping.held_in_force(connection, tenant_id, action_id, action, at, gates_of):
            raise RefusedError(held)
        lifecycle.advance(
            connection, tenant_id, action_id, expected=lifecycle.APPLIED, to="abort_requested", at=at, actor=actor,
            note=why, reason=why, next_attempt_at=None,
        )  # fmt: skip
        return "abort_requested"
    hint = "wait until it is settled" if row.execution_status == "applying" else "nothing was changed"
    raise RefusedError(f"the action is {row.execution_status} and cannot be aborted: {hint}")


def request_revert(
    connection: sa.Connection,
    tenant_id: UUID,
    user_id: UUID,
    action_id: UUID,
    why: str,
    at: datetime,
    *,
    gates_of: GatesOf = bundle.gates_of,
) -> None:
    """As `abort`, for what was applied alone; asking for what is asked for already changes nothing."""
    members.approver(connection, tenant_id, user_id)
    row = _row(connection, tenant_id, action_id)
    if row.execution_status in lifecycle.APPLIED:
        abort(connection, tenant_id, user_id, action_id, why, at, gates_of=gates_of)
    elif row.execution_status not in ("abort_requested", "reverting"):
        raise RefusedError(f"the action is {row.execution_status}: only what is applied can be taken back")


def settle(
    connection: sa.Connection, tenant_id: UUID, user_id: UUID, action_id: UUID, why: str, at: datetime
) -> None:
    """Ends an action that failed verification and leaves its target as it is; its tickets are done with it.

    What was reserved for it stays reserved. Raises RefusedError for an action in any other status.
    """
    who = members.approver(connection, tenant_id, user_id)
    if not why.strip():
        raise RefusedError("settling needs its reason: say what holds and why it may")
    row = _row(connection, tenant_id, action_id)
    said = {"at": at, "actor": str(who.user_id), "why": why}
    if not observe.end_unmeasured(connection, tenant_id, action_id, expected="verify_failed", **said):
        raise RefusedError(
            f"the action is {row.execution_status}: only what is verify_failed is settled as it is"
        )
    tickets.resolve_all(connection, tenant_id, action_id, str(who.user_id), why, at)


def done(
    connection: sa.Connection, tenant_id: UUID, user_id: UUID, ticket_id: UUID, why: str, at: datetime
) -> str:
    """Reports a ticket as done, by anybody of the tenant; the status of its action then.

    An action that was nothing but its ticket is closed with it. Raises RefusedError for a ticket that is not open.
    """
    who = members.get(connection, tenant_id, user_id)
    if not who.role:
        raise RefusedError(f"{who.name} does not belong to the tenant: add a membership first")
    if not why.strip():
        raise RefusedError("a ticket that is done needs a word on what was done: say why")
    said = {"why": why, "at": at}
    action_id = tickets.resolve(connection, tenant_id, ticket_id, str(who.user_id), **said)
    row = _row(connection, tenant_id, action_id)
    if tickets.asks_people(row.type, row.owner_subsystem) and observe.end_unmeasured(
        connection, tenant_id, action_id, expected="observing", actor=str(who.user_id), **said
    ):
        return "closed"
    return row.execution_status


def expire_due(connection: sa.Connection, at: datetime, tenant_ids: Sequence[UUID] | None = None) -> int:
    """Ends what nobody answered in time, of every tenant the connection may see or those named; how many that are."""
    due = connection.execute(statements("actions")["overdue"], {"at": at}).all()
    return sum(
        lifecycle.advance(
            connection, row.tenant_id, row.id, expected="awaiting_ack", to="expired", at=at, actor="clock",
            note=f"nobody answered until {row.expires_at.isoformat()}", closed_at=at,
        )
        for row in due
        if tenant_ids is None or row.tenant_id in tenant_ids
    )  # fmt: skip


def _speak(
    connection: sa.Connection,
    tenant_id: UUID,
    user_id: UUID,
    verb: str,
    action_id: UUID,
    word: str,
    at: datetime,
) -> None:
    tenancy.service(connection, tenant_id)
    connection.execute(sa.text("select set_config('app.user_id', :who, true)"), {"who": str(user_id)})
    try:
        with connection.begin_nested():
            connection.execute(statements("actions")[verb], {"action_id": action_id, "word": word, "at": at})
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _REFUSALS:
            raise
        raise RefusedError(error.orig.diag.message_primary) from None  # type: ignore[union-attr]


def _keep_shown(
    connection: sa.Connection,
    tenant_id: UUID,
    user_id: UUID,
    action_id: UUID,
    shown: dict[str, Any],
    at: datetime,
) -> None:
    """Puts the gates that were shown in place of those of the proposal, where one is in another state."""
    row = _row(connection, tenant_id, action_id)
    if _states(shown) != _states(row.gate_states):
        lifecycle.advance(
            connection, tenant_id, action_id, expected="awaiting_ack", to="awaiting_ack", at=at,
            actor=str(user_id), note=f"shown under {_states(shown)}", gate_states=shown,
        )  # fmt: skip


def _states(gate_states: Mapping[str, Any]) -> str:
    return ", ".join(f"{gate} {told['state']}" for gate, told in sorted(gate_states.items()))


def _row(connection: sa.Connection, tenant_id: UUID, action_id: UUID) -> sa.Row[Any]:
    given = {"tenant_id": tenant_id, "id": action_id}
    row = connection.execute(statements("actions")["lock_action"], given).one_or_none()
    if row is None:
        raise RefusedError(f"the tenant has no action {action_id}: see revenue-os actions list")
    return row


def _waiting(connection: sa.Connection, tenant_id: UUID, action_id: UUID, at: datetime) -> sa.Row[Any]:
    """The action under lock, while it waits for an answer."""
    row = _row(connection, tenant_id, action_id)
    if row.execution_status != "awaiting_ack":
        raise RefusedError(f"the action is {row.execution_status}, not awaiting_ack: nothing was changed")
    if row.expires_at <= at:
        raise RefusedError(
            f"the action expired at {row.expires_at}: the next cycle proposes it again if it still holds"
        )
    return row


def _edited(action: Action, new_value: JsonValue, who: str, why: str) -> Action:
    change, field = action.proposed_change, f"{action.owner_subsystem}.{action.proposed_change.field}"
    if action.type in matrix.TICKETS or change.field == "status":
        raise RefusedError(f"{field} is not edited: reject the action instead")
    if new_value == change.new_value:
        raise RefusedError(
            f"the action sets {field} to {value(new_value)} as it is: approve it, or give another value"
        )
    if new_value == change.current_value:
        raise RefusedError(f"{field} is {value(new_value)} already: reject the action instead")
    does = _consequences(action, new_value)
    spend = max(does.daily_spend_change, Decimal(0)) * does.window_days
    proposal = f"{who} proposes {change.field} {value(new_value)}"
    hypothesis = f"{proposal}: {why}"
    # Of an action that is edited again, only what the kernel said is kept.
    kernel_said = action.notes_for_humans.rpartition(_KERNEL_SAID)[2]
    described = {
        "new_value": new_value, "description": f"Set {change.field} to {value(new_value)}, proposed by {who}",
    }  # fmt: skip
    changed = {
        "hypothesis": hypothesis,
        "notes_for_humans": (
            f"{proposal} in place of {value(change.new_value)}: {why.rstrip('.')}. {_KERNEL_SAID}{kernel_said}"
        ),
        "experiment": action.experiment and action.experiment.model_dump() | {"hypothesis": hypothesis},
        "proposed_change": change.model_dump() | described,
        "attributes": does.model_dump(),
        "guardrails": action.guardrails.model_dump() | {"max_additional_spend": spend},
        "requires_acknowledgment": True,
        "acknowledgment_why": f"it was edited by {who}",
    }
    return Action.model_validate(action.model_dump() | changed)


def _consequences(action: Action, new_value: JsonValue) -> Attributes:
    """What the other value does, as gates see it; the worst where that cannot be worked out."""
    change, does = action.proposed_change, action.attributes
    before, after = number(change.current_value), number(new_value)
    known = before is not None and after is not None
    grows = not known or after > before  # type: ignore[operator]
    if action.owner_subsystem == "campaigns":
        told: dict[str, Any] = {"increases_spend": grows, "scales_channel": does.scales_channel and grows}
        if change.field == "budget_daily":
            if not known:
                raise RefusedError(
                    "campaigns.budget_daily must be an amount, and what it is now must be known"
                )
            told["daily_spend_change"] = after - before  # type: ignore[operator]
    elif action.owner_subsystem == "pricing":
        told = {"changes_price": True, "reduces_margin": grows}
    else:
        told = {}
    return does.model_copy(update=told)
