"""Deciding without consequences: replays of past days that leave nothing behind.

The mode in which a tenant's cycles carry nothing out is set in `switches`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from statistics import mean
from uuid import NAMESPACE_OID, UUID, uuid5

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import baseline
from kernel.actions.observe import MAX_OBSERVED_DAYS
from kernel.decisions import bundle, cycles
from kernel.decisions.acknowledgment import TICKETS
from kernel.decisions.contract import KernelError, KernelInput, Trigger, canonical

_MORNING = time(6, 30, tzinfo=UTC)  # when the daily cycle of the day before runs


@dataclass(frozen=True, slots=True)
class Proposed:
    """What an action promised: percent of its target metric in the intended direction, at the end of its window."""

    family: str
    target_metric: str
    direction: str
    predicted_pct: Decimal
    window_days: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """One tenant's decision on one day. `digest` is the same exactly when the decision is, byte by byte.

    `why` is empty unless nothing could be decided.
    """

    day: date
    tenant_id: UUID
    constraint: str
    gates: tuple[str, ...]
    actions: tuple[Proposed, ...]
    digest: str
    why: str


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A family's promises against what its metrics did: means in percent, over the proposals whose window is known.

    Nothing was carried out, so `realised_pct` is what happens by itself: an action has to beat it.
    """

    tenant_id: UUID
    family: str
    proposals: int
    measured: int
    predicted_pct: Decimal | None
    realised_pct: Decimal | None


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
        actions=tuple(
            Proposed(
                action.family,
                action.target_metric,
                action.target_direction,
                action.expected_impact.magnitude_pct,
                action.expected_observation_window_days,
            )
            for action in output.actions
            if action.type not in TICKETS
        ),
        digest=hashlib.sha256(canonical(output).encode()).hexdigest(),
        why="",
    )


def foreseen(connection: sa.Connection, replayed: Sequence[Replayed]) -> tuple[Foreseen, ...]:
    """By tenant and family, how what replays promised compares with what the data hold."""
    by_tenant: dict[UUID, list[Replayed]] = defaultdict(list)
    for item in replayed:
        by_tenant[item.tenant_id].append(item)
    return tuple(
        row for tenant_id, items in by_tenant.items() for row in _foreseen(connection, tenant_id, items)
    )


def _foreseen(connection: sa.Connection, tenant_id: UUID, items: Sequence[Replayed]) -> Iterator[Foreseen]:
    metrics = {action.target_metric for item in items for action in item.actions}
    first = min(item.day for item in items) - timedelta(days=baseline.DAYS)
    found = baseline.series(connection, tenant_id, metrics, first, date.max)
    known = {
        metric_id: {day.date: day.value for day in days if day.value is not None}
        for metric_id, days in found.items()
    }
    moves: dict[str, list[tuple[Decimal, Decimal | None]]] = defaultdict(list)
    for item in items:
        for action in item.actions:
            moved = _moved(known.get(action.target_metric, {}), item.day, action)
            moves[action.family].append((action.predicted_pct, moved))
    for family, pairs in sorted(moves.items()):
        measured = [(predicted, moved) for predicted, moved in pairs if moved is not None]
        yield Foreseen(
            tenant_id, family, len(pairs), len(measured),
            mean(predicted for predicted, _ in measured) if measured else None,
            mean(moved for _, moved in measured) if measured else None,
        )  # fmt: skip


def _moved(known: Mapping[date, Decimal], day: date, action: Proposed) -> Decimal | None:
    """Percent of the baseline, as an observation would have compared it; None while the window is not over."""
    before = [known[at] for back in range(baseline.DAYS) if (at := day - timedelta(days=back)) in known]
    last = day + timedelta(days=1 + action.window_days)
    needed = max(1, min(MAX_OBSERVED_DAYS, action.window_days // 2))
    after = [known[at] for back in range(needed) if (at := last - timedelta(days=back)) in known]
    if not before or len(after) < needed or not (level := mean(before)):
        return None
    sign = -1 if action.direction == "decrease" else 1
    return sign * (mean(after) - level) / abs(level) * 100
