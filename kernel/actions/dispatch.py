"""Carrying out approved actions: claimed, checked again, written down, sent, read back, settled. Each exactly once.

What a target understands stands in the executors and ports, which rules an action must meet in `matrix`, `budget`
and the gates. Every step is a short transaction of its own, and a worker may die between any two.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from threading import Lock
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import ValidationError

from kernel import tenancy
from kernel.actions import budget, intents, lifecycle, matrix
from kernel.actions.configuration import InDoubt, Rejected, Transient, Value, same
from kernel.actions.executors import REGISTRY, executor_of
from kernel.actions.executors.base import Assignment, Executor
from kernel.actions.intents import Intent
from kernel.actions.settlement import (
    MAX_ATTEMPTS,
    Lease,
    Outcome,
    Worker,
    doubt,
    drifted,
    failed,
    held,
    move,
    read_back,
    stands,
    switched_on,
)
from kernel.decisions import bundle, gates
from kernel.decisions.contract import Action, GateReading, KernelError, payload_hash
from kernel.errors import RefusedError
from models.errors import RevenueOsError
from models.statements import statements

LEASE = timedelta(minutes=5)
LANES = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DispatchReport:
    """What became of the actions that were taken, as counts.

    withheld: its tenant is switched off, or a gate closed since it was approved; in_doubt: the target could not be
    read; lost: another worker has taken the action over; broken: an error of the program, told in the log and tried
    again when the lease has run out.
    """

    applied: int = 0
    aborted: int = 0
    expired: int = 0
    withheld: int = 0
    retried: int = 0
    failed: int = 0
    verify_failed: int = 0
    in_doubt: int = 0
    lost: int = 0
    broken: int = 0

    @property
    def taken(self) -> int:
        return sum(getattr(self, name) for name in self.__dataclass_fields__)


def run_due(
    engine: sa.Engine,
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    executors: Mapping[str, Executor] = REGISTRY,
    limit: int = 100,
    worker: str,
    **means: Any,
) -> DispatchReport:
    """Carries out up to `limit` actions that are due, in turn over the tenants. `means` are fields of Worker."""
    made = Worker(engine, clock, sleep, worker, executors, **means)
    return _each(made, _claim(made, limit), _carry_out)


def reconcile(
    engine: sa.Engine,
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    executors: Mapping[str, Executor] = REGISTRY,
    limit: int = 100,
    worker: str,
    **means: Any,
) -> DispatchReport:
    """Settles what workers left between intent and settlement, by reading the target and never by sending again."""
    made = Worker(engine, clock, sleep, worker, executors, **means)
    now = clock()
    with engine.begin() as connection:
        tenancy.service(connection)
        given = {"now": now, "lease_until": now + LEASE, "limit": limit}
        rows = connection.execute(statements("dispatch")["claim_doubtful"], given).all()
    return _each(made, [_lease(row) for row in rows], _resolve)


def _each(worker: Worker, leases: list[Lease], step: Callable[[Worker, Lease], Outcome]) -> DispatchReport:
    """A tenant's actions in their order, several tenants at a time: one slow target holds up its own tenant."""
    by_tenant: dict[UUID, list[Lease]] = {}
    for lease in leases:
        by_tenant.setdefault(lease.tenant_id, []).append(lease)
    kept = _Kept(worker, leases)

    def in_order(own: list[Lease]) -> list[Outcome]:
        return [_one(worker, lease, step, kept) for lease in own]

    with ThreadPoolExecutor(LANES, worker.name) as lanes:
        return DispatchReport(**Counter(chain.from_iterable(lanes.map(in_order, by_tenant.values()))))


def _one(worker: Worker, lease: Lease, step: Callable[[Worker, Lease], Outcome], kept: _Kept) -> Outcome:
    kept.renew()
    try:
        return step(worker, lease)
    except Exception:
        # One action's trouble is no other tenant's; the lease runs out and the attempt counts.
        _log.exception("action %s of tenant %s could not be carried out", lease.id, lease.tenant_id)
        return "broken"
    finally:
        kept.done(lease)


class _Kept:
    """The leases of a run that are not worked off: a slow target must not cost the others theirs, and an attempt."""

    def __init__(self, worker: Worker, leases: list[Lease]) -> None:
        self._worker, self._tokens, self._turn = worker, {lease.token for lease in leases}, Lock()
        self._renewed_at = worker.clock()

    def renew(self) -> None:
        with self._turn:
            now = self._worker.clock()
            if now - self._renewed_at <= LEASE / 2:
                return
            try:
                with self._worker.engine.begin() as connection:
                    tenancy.service(connection)
                    given = {"tokens": list(self._tokens), "lease_until": now + LEASE, "now": now}
                    connection.execute(statements("dispatch")["renew"], given)
            except sa.exc.SQLAlchemyError:
                # Tried again before the next action; whoever loses a lease finds out under the action's lock.
                _log.exception("leases could not be renewed")
            else:
                self._renewed_at = now

    def done(self, lease: Lease) -> None:
        with self._turn:
            self._tokens.discard(lease.token)


def _claim(worker: Worker, limit: int) -> list[Lease]:
    now = worker.clock()
    with worker.engine.begin() as connection:
        tenancy.service(connection)
        given = {"now": now, "lease_until": now + LEASE, "limit": limit}
        rows = connection.execute(statements("dispatch")["claim"], given).all()
        for row in rows:
            if row.was != "claimed":
                lifecycle.advance(
                    connection,
                    row.tenant_id,
                    row.id,
                    expected=row.was,
                    to="claimed",
                    at=now,
                    actor=worker.name,
                )
    return [_lease(row) for row in sorted(rows, key=lambda row: (row.turn, row.since, row.tenant_id))]


def _lease(row: sa.Row[Any]) -> Lease:
    return Lease(row.tenant_id, row.id, row.lease_token, row.payload, row.payload_hash, row.attempts)


# Claimed: this attempt has sent nothing ------------------------------------------------------------------------------


class _Stopped(RevenueOsError):
    """A rule keeps a claimed action from being applied; `to` is where it goes, `gates` what they were then."""

    def __init__(self, to: str, why: str, gates: tuple[GateReading, ...] = ()) -> None:
        super().__init__(why)
        self.to, self.gates = to, gates


def _carry_out(worker: Worker, lease: Lease) -> Outcome:
    try:
        assignment = Assignment(lease.tenant_id, lease.id, Action.model_validate(lease.payload))
    except ValidationError as error:
        why = f"the payload is no action of the contract: {error.errors()[0]['msg']}"
        return move(worker, lease, "claimed", "aborted", why)
    try:
        executor = executor_of(assignment, worker.executors)
        wanted = intents.intended(
            lease.id, "apply", executor.address(assignment), None, executor.wanted(assignment)
        )
    except Rejected as error:
        return failed(worker, lease, assignment, "claimed", error)
    port = worker.port_of(executor)
    if lease.attempts > MAX_ATTEMPTS:
        silent = Transient(f"{MAX_ATTEMPTS} attempts ended without a word: see the log of the workers")
        return _give_up(worker, lease, assignment, executor, silent)
    try:
        found = executor.read(port, assignment)
    except (Rejected, Transient) as error:
        if isinstance(error, Rejected) or lease.attempts == MAX_ATTEMPTS:
            return _give_up(worker, lease, assignment, executor, error)
        return failed(worker, lease, assignment, "claimed", error)
    try:
        prepared = _prepare(worker, lease, assignment, executor, replace(wanted, before=found.value), found)
    except _Stopped as stop:
        return move(worker, lease, "claimed", stop.to, str(stop), assignment, found, gates=stop.gates)
    except (RefusedError, KernelError) as refused:
        return move(worker, lease, "claimed", "aborted", str(refused), assignment, found)
    if prepared is None:
        return "lost"
    intent, is_new = prepared
    error: Rejected | Transient | None = None
    # What an earlier attempt may have done is not done again: what was found before this one decides.
    if is_new or not (stands(found, intent) or drifted(found, intent)):
        try:
            executor.apply(port, intent)
        except (Rejected, Transient) as raised:
            error = raised
    if isinstance(error, InDoubt):
        doubt(worker, lease, intent)
    return read_back(worker, lease, assignment, executor, port, intent, error)


def _give_up(
    worker: Worker, lease: Lease, assignment: Assignment, executor: Executor, error: Rejected | Transient
) -> Outcome:
    """Ends what is not attempted again: by what the target holds when an earlier attempt may have changed it."""
    now = worker.clock()
    with worker.engine.begin() as connection:
        if held(connection, lease, "claimed") is None:
            return "lost"
        intent = intents.find(connection, lease.tenant_id, lease.id, "apply")
        if intent is not None:
            lifecycle.advance(
                connection, lease.tenant_id, lease.id, expected="claimed", to="applying", at=now, actor=worker.name,
                note="to be read back and not sent again", lease_until=now + LEASE,
            )  # fmt: skip
    if intent is None:
        return failed(worker, lease, assignment, "claimed", error)
    return read_back(worker, lease, assignment, executor, worker.port_of(executor), intent, error)


def _prepare(
    worker: Worker,
    lease: Lease,
    assignment: Assignment,
    executor: Executor,
    wanted: Intent,
    found: Value,
) -> tuple[Intent, bool] | None:
    """Asks every rule again and commits the intent, all under the action's lock; true when it is new.

    None when the lease is lost.
    """
    now = worker.clock()
    with worker.engine.begin() as connection:
        is_on = switched_on(connection, lease.tenant_id)
        row = held(connection, lease, "claimed")
        if row is None:
            return None
        intent = intents.find(connection, lease.tenant_id, lease.id, "apply")
        is_new = intent is None
        # What is only settled, and not sent, has no rule to meet.
        if intent is None or not (stands(found, intent) or drifted(found, intent)):
            if not is_on:
                # What was sent before and did not arrive waits for no switch: it would be another change by then.
                raise _Stopped("approved" if intent is None else "aborted", "the tenant is switched off")
            readings = _checked(worker, connection, assignment, row, now)
        if intent is None:
            _expect_unmoved(executor, assignment, wanted, found)
            _expect_as_seen(row, readings)
            change = assignment.action.attributes.daily_spend_change
            budget.reserve(connection, lease.tenant_id, lease.id, change, now)
            entity = dict(found.entity)
            worker.capture(
                connection, lease.tenant_id, row._mapping, "before", now, entity, gates_of=lambda *_: readings
            )
            worker.record_baseline(connection, lease.tenant_id, row._mapping, now)
            intent = intents.record(connection, wanted, now)
        lifecycle.advance(
            connection, lease.tenant_id, lease.id, expected="claimed", to="applying", at=now, actor=worker.name,
            detail={"idempotency_key": intent.key, "attempt": lease.attempts}, lease_until=now + LEASE,
        )  # fmt: skip
    return intent, is_new


def _checked(
    worker: Worker, connection: sa.Connection, assignment: Assignment, row: sa.Row[Any], now: datetime
) -> tuple[GateReading, ...]:
    """The gates as they stand, when every rule is met. Raises _Stopped, RefusedError or KernelError."""
    action = assignment.action
    hashes = {payload_hash(action), row.payload_hash}
    if row.requires_acknowledgment:
        hashes.add(row.acknowledged_hash)
    if len(hashes) > 1:
        raise _Stopped("aborted", "the payload is not the one that was approved")
    if row.expires_at is not None and row.expires_at <= now:
        raise _Stopped("expired", f"the approval was good until {row.expires_at}")
    if action.dependencies:
        needed = {
            "tenant_id": assignment.tenant_id,
            "cycle_id": row.optimization_cycle_id,
            "dependencies": list(action.dependencies),
        }
        for gone in connection.execute(statements("dispatch")["failed_dependencies"], needed):
            raise _Stopped("aborted", f"it depends on {gone.action_id}, and that is {gone.execution_status}")
    settled = bundle.settled(connection, [assignment.tenant_id], now)[assignment.tenant_id]
    if isinstance(settled, KernelError):
        raise settled
    guardrails = bundle.guardrails(settled.config)
    readings = worker.gates_of(connection, assignment.tenant_id, now)
    if why := gates.blocks(action, readings, guardrails):
        raise _Stopped("aborted", why)
    facts = matrix.facts_of(connection, assignment.tenant_id, action)
    matrix.validate(action, guardrails, today=now.date(), facts=facts)
    return readings


def _expect_unmoved(executor: Executor, assignment: Assignment, wanted: Intent, found: Value) -> None:
    """What was approved is the step from one value to another: from elsewhere it is another change."""
    seen = executor.seen(assignment)
    if seen is None or same(found.value, seen) or same(found.value, wanted.wanted):
        return
    raise _Stopped(
        "aborted", f"{wanted.address} is {found.value!r} by now and was {seen!r} when this was proposed"
    )


def _expect_as_seen(row: sa.Row[Any], readings: tuple[GateReading, ...]) -> None:
    """An approval holds for the gates it was given under: whoever gave it is asked again when one closed since."""
    if row.requires_acknowledgment and (why := gates.worsened(row.gate_states or {}, readings)):
        raise _Stopped("awaiting_ack", why, readings)


def _resolve(worker: Worker, lease: Lease) -> Outcome:
    """Reads what a worker that ended may have done."""
    assignment = Assignment(lease.tenant_id, lease.id, Action.model_validate(lease.payload))
    with worker.engine.begin() as connection:
        tenancy.service(connection, lease.tenant_id)
        intent = intents.find(connection, lease.tenant_id, lease.id, "apply")
    assert intent is not None  # committed together with the status
    executor = executor_of(assignment, worker.executors)
    ended = Transient("the worker ended before it could settle the change")
    return read_back(worker, lease, assignment, executor, worker.port_of(executor), intent, ended)
