"""How `revenue-os actions` tells actions, gates and histories. What is asked and answered stands in `actions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernel.decisions.contract import GateReading

# Short enough to type, long enough not to hit another by mistake.
SHORTEST = 8
# A step into or out of these is taken by whoever carries actions out.
_DISPATCHED = {"claimed", "applying", "applied"}


def instant(at: datetime | None) -> str | None:
    return f"{at:%Y-%m-%d %H:%M}" if at else None


def is_late(row: Mapping[str, Any], now: datetime) -> bool:
    """Whether it waits for an answer that nobody can give any more."""
    return row["execution_status"] == "awaiting_ack" and row["expires_at"] <= now


def listed(row: Mapping[str, Any], now: datetime, with_tenant: bool) -> dict[str, Any]:
    from kernel.actions import wording

    waits = row["execution_status"] == "awaiting_ack"
    return {
        "id": str(row["id"])[:SHORTEST],
        **({"tenant": row["tenant"]} if with_tenant else {}),
        "status": "expired" if is_late(row, now) else row["execution_status"],
        "change": wording.line(row),
        "expires": instant(row["expires_at"]) if waits else None,
    }


def ticket(row: Mapping[str, Any], with_tenant: bool, with_answer: bool) -> dict[str, Any]:
    answer = {"status": row["status"], "by": row["resolved_by"], "what was done": row["resolution"]}
    return {
        "id": str(row["id"])[:SHORTEST],
        **({"tenant": row["tenant"]} if with_tenant else {}),
        "subsystem": row["subsystem"],
        "ticket": row["title"],
        "action": f"{str(row['action'])[:SHORTEST]} {row['execution_status']}",
        "since": instant(row["since"]),
        **(answer if with_answer else {}),
    }


def action(row: Mapping[str, Any], slug: str, closed: Sequence[str]) -> dict[str, Any]:
    """`closed` are the sentences about gates that closed since the action was proposed."""
    from kernel.actions import abort, wording
    from kernel.actions.executors.tickets import asks_people
    from kernel.decisions.contract import Action

    made = Action.model_validate(row["payload"])
    is_ticket = asks_people(row["type"], row["owner_subsystem"])
    told = {"subsystem": row["owner_subsystem"], "change": row["payload"]["proposed_change"]}
    name, entity = row["entity_name"], " ".join(filter(None, (row["entity_type"], row["entity_id"])))
    stops = [abort.in_words(asked) for asked in made.guardrails.abort_conditions]
    return {
        "id": row["id"],
        "tenant": slug,
        "status": row["execution_status"],
        "hash": row["payload_hash"],
        "expires_at": row["expires_at"],
        "change": wording.line(row | told),
        "on": f"{name} ({entity})" if name else entity or "tenant",
        "for": None if is_ticket else _treated(made),
        "hypothesis": row["hypothesis"],
        "expected": "nothing: a ticket asks people" if is_ticket else _expected(made, row["proposed_by"]),
        "daily_spend_change": made.attributes.daily_spend_change,
        "stops_when": "; ".join(stops) or None,
        "diagnosis": row["diagnosis"],
        "needs_a_person_because": made.acknowledgment_why or None,
        "closed_since": "; ".join(closed) or None,
        "proposed_by": row["proposer"] or "kernel",
        "answered_by": row["acknowledger"],
        "outcome": row["outcome"],
        "reason": row["reason"],
    }


def gates(then: Mapping[str, Any], now: Sequence[GateReading]) -> list[dict[str, Any]]:
    states = {gate.gate: gate for gate in now}
    return [
        {
            "gate": gate,
            "then": then[gate]["state"] if gate in then else None,
            "now": states[gate].state if gate in states else None,
            "why now": states[gate].why if gate in states else None,
        }
        for gate in dict.fromkeys([*then, *states])
    ]


def closed_gates(then: Mapping[str, Any], now: Sequence[GateReading]) -> dict[str, str]:
    """The gates that closed since the action was proposed, each with its sentence."""
    from kernel.decisions.gates import worsened

    return {
        gate.gate: f"{gate.gate} was {then.get(gate.gate, {}).get('state', 'clear')} when this was proposed and is"
        f" {gate.state}: {gate.why}"
        for gate in now
        if worsened(then, [gate])
    }


def step(event: Mapping[str, Any]) -> dict[str, Any]:
    by_dispatch = not event["person"] and _DISPATCHED & {event["from_status"], event["to_status"]}
    return {
        "at": f"{event['at']:%Y-%m-%d %H:%M:%S}",
        "who": "dispatch" if by_dispatch else event["person"] or event["actor"],
        "from": event["from_status"],
        "to": event["to_status"],
        "note": event["note"],
    }


def score(terms: Mapping[str, Any]) -> dict[str, Decimal]:
    """The terms that are not zero, and their sum."""
    found = {name: Decimal(str(amount)) for name, amount in terms.items()}
    return {name: amount for name, amount in found.items() if amount} | {
        "score": sum(found.values(), Decimal(0))
    }


def _treated(made: Any) -> str:
    return f"{made.experiment.treatment_group_pct} % as a test" if made.experiment else "everybody"


def _expected(made: Any, editor: Any) -> str:
    impact = made.expected_impact
    whose = ", of the value that the kernel proposed" if editor else ""
    return (
        f"{impact.metric_id} {impact.direction} {impact.magnitude_pct} % (confidence {impact.confidence}) in"
        f" {made.expected_observation_window_days} days{whose}"
    )
