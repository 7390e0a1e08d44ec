"""How an attempt ends: by what the target holds, recorded in one transaction under the action's lock and lease.

What comes before the target is touched stands in `dispatch`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import baseline, budget, intents, lifecycle, snapshot
from kernel.actions.configuration import (
    ConfigurationPort,
    Denied,
    PostgresConfiguration,
    Rejected,
    Transient,
    Value,
    same,
)
from kernel.actions.executors.base import Assignment, Executor
from kernel.actions.executors.tickets import Tickets, raise_alert
from kernel.actions.intents import Intent
from kernel.decisions import bundle
from kernel.decisions.contract import GateReading
from models.statements import statements

MAX_ATTEMPTS = 3
# After the first and the second attempt; the third wait is for a target in doubt that cannot be read.
BACKOFF = (timedelta(minutes=1), timedelta(minutes=4), timedelta(minutes=16))
# A target may answer from a copy that is a moment behind.
READ_BACK_SECONDS = (0, 1, 3)

Outcome = Literal[
    "applied",
    "aborted",
    "expired",
    "withheld",
    "retried",
    "failed",
    "verify_failed",
    "in_doubt",
    "lost",
    "broken",
]
_OUTCOMES: Mapping[str, Outcome] = {
    "approved": "withheld",
    "awaiting_ack": "withheld",
    "scheduled": "retried",
    "aborted": "aborted",
    "expired": "expired",
    "apply_failed": "failed",
    "verify_failed": "verify_failed",
}
# What was reserved for an action comes back when its change is known not to stand.
_WITHOUT_EFFECT = ("aborted", "expired", "apply_failed")


@dataclass(frozen=True, slots=True)
class Worker:
    """Who carries out and with what. `jitter` gives a number in [0, 1)."""

    engine: sa.Engine
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    name: str
    executors: Mapping[str, Executor]
    port: ConfigurationPort | None = None
    gates_of: Callable[[sa.Connection, UUID, datetime], tuple[GateReading, ...]] = bundle.gates_of
    capture: Callable[..., Any] = snapshot.capture
    record_baseline: Callable[..., Any] = baseline.record
    jitter: Callable[[], float] = random.random

    def port_of(self, executor: Executor) -> ConfigurationPort:
        if executor.goes_to == "tickets":
            return Tickets(self.engine)
        return self.port or PostgresConfiguration(self.engine)


@dataclass(frozen=True, slots=True)
class Lease:
    tenant_id: UUID
    id: UUID
    token: UUID
    payload: dict[str, Any]
    payload_hash: str
    attempts: int


def held(connection: sa.Connection, lease: Lease, status: str) -> sa.Row[Any] | None:
    """The action under lock; None when another worker has taken the lease or a person has moved the action on."""
    tenancy.service(connection, lease.tenant_id)
    given = {"tenant_id": lease.tenant_id, "id": lease.id, "token": lease.token, "status": status}
    return connection.execute(statements("dispatch")["held"], given).one_or_none()


def switched_on(connection: sa.Connection, tenant_id: UUID) -> bool:
    """Whether anything may be carried out for the tenant; to be asked before the action is locked."""
    tenancy.service(connection, tenant_id)
    return bool(
        connection.execute(statements("dispatch")["tenant_enabled"], {"tenant_id": tenant_id}).scalar()
    )


def _may_be_sent_again(connection: sa.Connection, lease: Lease) -> bool:
    tenancy.service(connection, lease.tenant_id)
    given = {"tenant_id": lease.tenant_id, "id": lease.id}
    return bool(connection.execute(statements("dispatch")["may_be_sent_again"], given).scalar())


def read_back(
    worker: Worker,
    lease: Lease,
    assignment: Assignment,
    executor: Executor,
    port: ConfigurationPort,
    intent: Intent,
    error: Rejected | Transient | None,
) -> Outcome:
    """Settles by what the target holds; `error` is why it may not hold the change."""
    found: Value | None = None
    for seconds in READ_BACK_SECONDS:
        if seconds:
            worker.sleep(seconds)
        try:
            found = port.read(intent.address)
        except Rejected as rejected:
            # The change may stand: only a person can see that now.
            return move(worker, lease, "applying", "verify_failed", str(rejected), assignment)
        except Transient:
            continue
        if error is not None or stands(found, intent) or drifted(found, intent):
            break
    if found is None:
        return doubt(worker, lease, intent, assignment)
    if stands(found, intent):
        return _confirm(worker, lease, assignment, intent, found)
    if error is None or drifted(found, intent):
        told = f", and the target said: {error}" if error else ""
        why = (
            f"{intent.address} is {found.value!r} after it was set to {intent.wanted!r}: see what holds{told}"
        )
        return move(worker, lease, "applying", "verify_failed", why, assignment, found)
    return failed(worker, lease, assignment, "applying", error, found)


def stands(found: Value, intent: Intent) -> bool:
    return same(found.value, intent.wanted)


def drifted(found: Value, intent: Intent) -> bool:
    """Whether somebody else has set the value, before our change or after it."""
    if stands(found, intent):
        return False
    return found.changed_by == intent.key or not same(found.value, intent.before)


def _confirm(worker: Worker, lease: Lease, assignment: Assignment, intent: Intent, found: Value) -> Outcome:
    now = worker.clock()
    window = timedelta(days=assignment.action.expected_observation_window_days)
    with worker.engine.begin() as connection:
        if held(connection, lease, "applying") is None:
            return "lost"
        intents.settle(connection, intent, "confirmed", found.value, now)
        step = {"at": now, "actor": worker.name}
        lifecycle.advance(
            connection, lease.tenant_id, lease.id, expected="applying", to="applied", **step, applied_at=now,
            lease_token=None, lease_until=None, next_attempt_at=None, reason=None,
        )  # fmt: skip
        lifecycle.advance(
            connection, lease.tenant_id, lease.id, expected="applied", to="observing", **step,
            observation_ends_at=now + window,
        )  # fmt: skip
    return "applied"


def doubt(worker: Worker, lease: Lease, intent: Intent, unread: Assignment | None = None) -> Outcome:
    """Keeps the action until the target can be read: neither sent again nor given up.

    A person is asked, once, about one that is `unread` though it was in doubt before.
    """
    now = worker.clock()
    with worker.engine.begin() as connection:
        if held(connection, lease, "applying") is None:
            return "lost"
        intents.settle(connection, intent, "in_doubt", None, now)
        given = {"tenant_id": lease.tenant_id, "id": lease.id, "token": lease.token, "now": now}
        connection.execute(statements("dispatch")["leave_doubtful"], given | {"until": now + BACKOFF[-1]})
        if unread is not None and intent.state == "in_doubt":
            why = f"{intent.address} may be {intent.wanted!r} or {intent.before!r} and cannot be read: see what holds"
            raise_alert(connection, unread, "in_doubt", f"in doubt: {unread.action.action_id}", why)
    return "in_doubt"


def failed(
    worker: Worker,
    lease: Lease,
    assignment: Assignment,
    status: Literal["claimed", "applying"],
    error: Rejected | Transient,
    found: Value | None = None,
) -> Outcome:
    """Later again for what may pass, never again for what may not or when the tenant was stopped meanwhile."""
    if isinstance(error, Transient) and lease.attempts < MAX_ATTEMPTS:
        return move(worker, lease, status, "scheduled", str(error), assignment, found)
    alert = isinstance(error, Denied)
    return move(worker, lease, status, "apply_failed", str(error), assignment, found, alert=alert)


def move(
    worker: Worker,
    lease: Lease,
    status: Literal["claimed", "applying"],
    to: str,
    why: str,
    assignment: Assignment | None = None,
    found: Value | None = None,
    *,
    alert: bool = False,
    gates: Sequence[GateReading] = (),
) -> Outcome:
    """Ends this attempt without a confirmed change. `found` is what the target held, None when that is not known,
    `gates` what whoever is asked again has to see.

    A person is asked to look at what was not verified, at what was in doubt to the last, and on `alert`.
    """
    now = worker.clock()
    columns: dict[str, Any] = {"lease_token": None, "lease_until": None, "next_attempt_at": None}
    with worker.engine.begin() as connection:
        if to == "scheduled" and status == "applying" and not _may_be_sent_again(connection, lease):
            to, why = "aborted", f"the tenant was stopped, and before that: {why}"
        columns["reason"] = why
        row = held(connection, lease, status)
        if row is None:
            return "lost"
        intent = intents.find(connection, lease.tenant_id, lease.id, "apply")
        if to == "scheduled":
            wait = BACKOFF[row.attempts - 1] * (1 + worker.jitter() / 4)
            columns["next_attempt_at"] = now + wait
        elif to == "approved":
            columns |= {"attempts": row.attempts - 1, "reason": None}
        elif to == "awaiting_ack":
            columns |= {
                "attempts": row.attempts - 1,
                "gate_states": lifecycle.seen(gates),
                "acknowledged_hash": None,
                "acknowledged_by": None,
                "acknowledged_at": None,
            }
        elif intent is not None:
            alert = alert or intent.state == "in_doubt"
            state = "in_doubt" if to == "verify_failed" and found is None else "refused"
            intents.settle(connection, intent, state, found.value if found else None, now)
        if to in _WITHOUT_EFFECT:
            columns["closed_at"] = now
            if intent is not None:
                budget.release(connection, lease.tenant_id, lease.id, now)
        if assignment is not None and (alert or to == "verify_failed"):
            raise_alert(connection, assignment, to, f"{to}: {assignment.action.action_id}", why)
        lifecycle.advance(
            connection, lease.tenant_id, lease.id, expected=status, to=to, at=now, actor=worker.name, note=why,
            **columns,
        )  # fmt: skip
    return _OUTCOMES[to]
