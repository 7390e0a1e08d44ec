"""What people, checks and sensors look at from above: the day's actions, gates over time, what waits to be carried
out, and rules that nothing may have broken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions import bundle, gates
from kernel.decisions.contract import Action, GateReading
from models.statements import statements
from models.vocabulary import CFO_GATES, DEAD_EXECUTION_STATUSES

# What was applied longer ago was looked at on its own day.
_RECENT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Violation:
    tenant_id: UUID
    action_id: UUID
    why: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many actions wait. `key` changes with the actions, with every attempt, and with the quarter of an hour.

    The last because a worker that was lost before it began leaves the attempts as they were.
    """

    actions: int
    key: str


def to_apply(connection: sa.Connection, at: datetime) -> Waiting:
    return _waiting(connection, "to_apply", at)


def to_revert(connection: sa.Connection, at: datetime) -> Waiting:
    return _waiting(connection, "to_revert", at)


def _waiting(connection: sa.Connection, name: str, at: datetime) -> Waiting:
    found = connection.execute(_sql(name), {"at": at}).one()
    return Waiting(found.actions, f"{name}:{found.digest}:{int(at.timestamp()) // 900}")


def actions_of_day(connection: sa.Connection, day: date) -> list[dict[str, Any]]:
    """tenant, rank, subsystem, type, target, action (one sentence), execution_status, cfo_score, expires_at."""
    rows = connection.execute(_sql("actions_of_day"), _span(day, day))
    return [dict(row._mapping) for row in rows]


def gates_by_day(connection: sa.Connection, first: date, last: date) -> dict[str, pd.Series]:
    """For each gate, on how many tenants it was triggered, by day; days without cycles are absent."""
    rows = connection.execute(_sql("gates_by_day"), _span(first, last) | {"gates": list(CFO_GATES)})
    frame = pd.DataFrame([dict(row._mapping) for row in rows], columns=list(rows.keys()))
    return {str(gate): part.set_index("day")["tenants"] for gate, part in frame.groupby("gate")}


def violations(connection: sa.Connection, at: datetime) -> dict[str, tuple[Violation, ...]]:
    """By the name of the rule, everything that breaks it."""
    found = {
        "what_was_sent_was_acknowledged": _told(connection, "unacknowledged"),
        "no_live_action_has_a_double": _told(connection, "doubles", dead=list(DEAD_EXECUTION_STATUSES)),
        "every_applied_action_has_its_snapshot": _told(connection, "unseen"),
        "nothing_was_applied_against_a_gate": _against_gates(connection, at),
    }
    return {rule: tuple(broken) for rule, broken in found.items()}


def _told(connection: sa.Connection, name: str, **values: Any) -> Iterator[Violation]:
    for row in connection.execute(_sql(name), values):
        yield Violation(row.tenant_id, row.id, row.why)


def _against_gates(connection: sa.Connection, at: datetime) -> Iterator[Violation]:
    for row in connection.execute(_sql("applied"), {"from_at": at - _RECENT}):
        action = Action.model_validate(row.payload)
        seen = [GateReading.model_validate(reading) for reading in row.gate_states.values()]
        guardrails = bundle.guardrails(tenancy.parsed_config(row.config))
        if why := gates.blocks(action, seen, guardrails):
            yield Violation(row.tenant_id, row.id, f"applied although {why}")


def _span(first: date, last: date) -> dict[str, datetime]:
    start = datetime.combine(first, time(), UTC)
    return {"from_at": start, "until_at": datetime.combine(last, time(), UTC) + timedelta(days=1)}


def _sql(name: str) -> sa.TextClause:
    return statements("oversight")[name]
