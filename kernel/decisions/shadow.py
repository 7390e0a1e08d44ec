"""Deciding without consequences: the shadow mode of a tenant, and replays of past days that leave nothing behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from uuid import NAMESPACE_OID, UUID, uuid5

import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions import bundle, cycles
from kernel.decisions.contract import KernelError, KernelInput, Trigger, canonical

_MORNING = time(6, 30, tzinfo=UTC)  # when the daily cycle of the day before runs


@dataclass(frozen=True, slots=True)
class Replayed:
    """One tenant's decision on one day. `digest` is the same exactly when the decision is, byte by byte.

    `why` is empty unless nothing could be decided.
    """

    day: date
    tenant_id: UUID
    constraint: str
    gates: tuple[str, ...]
    actions: tuple[str, ...]
    digest: str
    why: str


def set_mode(connection: sa.Connection, tenant_id: UUID, mode: Literal["enforce", "shadow"]) -> None:
    """In shadow a tenant's cycles decide and record, and none of their actions can be approved."""
    connection.execute(
        sa.text(
            "update spine.tenants set config = config || jsonb_build_object('kernel_mode', cast(:mode as text)),"
            " updated_at = now() where id = :tenant_id"
        ),
        {"tenant_id": tenant_id, "mode": mode},
    )


def backtest(
    engine: sa.Engine,
    tenant_ids: Sequence[UUID],
    first: date,
    last: date,
    *,
    decide: cycles.Decide = cycles.decide_by_rules,
    results: bundle.Results = bundle.recent,
) -> Iterator[Replayed]:
    """Decides each day as the morning after it would have, through the code that runs every day, and rolls back.

    Metrics, deals and configuration are those of the day; levers, campaigns and settings are today's. What other
    actions are live today plays no part.
    """
    day = first
    while day <= last:
        clock = datetime.combine(day + timedelta(days=1), _MORNING)
        trigger = Trigger(type="manual", source="backtest", triggered_at=clock)
        order = cycles.Order(clock, lambda at=clock: at, decide)
        with engine.connect() as connection, connection.begin() as transaction:
            tenancy.service(connection)
            found = bundle.load(connection, tenant_ids, clock, day, trigger=trigger, results=results)
            weights = bundle.weights(connection, tenant_ids, clock)
            replayed = [
                _replayed(connection, day, tenant_id, found[tenant_id], weights[tenant_id], order)
                for tenant_id in tenant_ids
            ]
            transaction.rollback()
        yield from replayed
        day += timedelta(days=1)


def _replayed(
    connection: sa.Connection,
    day: date,
    tenant_id: UUID,
    given: KernelInput | KernelError,
    weights: bundle.Weights,
    order: cycles.Order,
) -> Replayed:
    if isinstance(given, KernelError):
        return Replayed(day, tenant_id, "", (), (), "", f"{given.code}: {given.message}")
    known = tuple(result for result in given.recent_action_results if result.closed_at <= order.at)
    given = given.model_copy(update={"live_actions": (), "recent_action_results": known})
    cycle_id = uuid5(NAMESPACE_OID, f"{tenant_id} {day}")
    try:
        with connection.begin_nested():
            output = cycles.store(connection, cycle_id, given, weights, "shadow", order.at, order)
    except KernelError as error:
        return Replayed(day, tenant_id, "", (), (), "", f"{error.code}: {error.message}")
    summary = output.cycle_summary
    return Replayed(
        day=day,
        tenant_id=tenant_id,
        constraint=summary.binding_constraint,
        gates=summary.cfo_gates_triggered,
        actions=tuple(action.action_id for action in output.actions),
        digest=hashlib.sha256(canonical(output).encode()).hexdigest(),
        why="",
    )
