"""What asks for a cycle: the calendar, a metric far from its target, something that happened in a tenant's life.

Triggers are queued under a key that makes asking twice asking once; `cycles.run` answers them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions import bundle, cycles
from kernel.decisions.bundle import WEEKLY, Settled
from kernel.decisions.contract import Targets
from models.statements import statements

DAILY = "daily cycle"
# A trigger that fired stays quiet this long, and until its metric was back inside in between.
COOLDOWN = timedelta(hours=72)
SURGE = Decimal(10)  # opportunities created on one day
LEARNING = 5  # actions closed since the last cycle
# By noon a tenant is decided on what there is, and the kernel says that its data are late.
LATEST_HOUR = 12
# The day decided on is yesterday's; a run that was late by a day may still decide.
LATE = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Deviation:
    """A metric that asks for a cycle when it is more than `share` of its target on the bad side of it."""

    metric_id: str
    target: Literal["cac_max", "payback_max_months", "pipeline_total", "bookings_new"]
    share: Decimal
    bad_side: Literal["above", "below"]

    def limit(self, targets: Targets) -> Decimal | None:
        target = getattr(targets, self.target)
        if target is None:
            return None
        return target * (1 + self.share if self.bad_side == "above" else 1 - self.share)

    def is_over(self, value: Decimal | None, limit: Decimal) -> bool:
        """`value` is None for an infinite cost."""
        if self.bad_side == "above":
            return value is None or value > limit
        return value is not None and value < limit


DEVIATIONS = (
    Deviation("cac_blended", "cac_max", Decimal("0.20"), "above"),
    Deviation("payback_months", "payback_max_months", Decimal("0.25"), "above"),
    Deviation("pipeline_total", "pipeline_total", Decimal("0.15"), "below"),
    Deviation("bookings_new", "bookings_new", Decimal("0.20"), "below"),
)


@dataclass(frozen=True, slots=True)
class State:
    """Whether a trigger may fire, when it last did, and how far it has read."""

    is_armed: bool = True
    last_fired_at: datetime | None = None
    watermark: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fired:
    tenant_id: UUID
    dedupe_key: str
    trigger_type: Literal["scheduled", "metric_deviation", "lifecycle_event", "manual"]
    source: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Seen:
    date: date
    value: Decimal | None


def collect(engine: sa.Engine, clock: datetime, tenant_ids: Sequence[UUID] | None = None) -> int:
    """Queues what asks for a cycle at the instant, for every enabled tenant or those named; gives how much is new."""
    with engine.begin() as connection:
        tenancy.service(connection)
        enabled = connection.execute(statements("cycles")["enabled"]).scalars().all()
        ids = [key for key in enabled if tenant_ids is None or key in tenant_ids]
        # A tenant that cannot be configured is reported by its cycle, which the calendar still asks for.
        known = bundle.settled(connection, ids, clock)
        states = _states(connection, ids)
        before = dict(states)
        fired = [
            *_calendar(connection, known, clock),
            *_metrics(connection, known, clock, states),
            *_launches(connection, ids, clock, states),
            *_learned(connection, ids, clock),
        ]
        new = sum(_enqueue(connection, item, clock) for item in fired)
        _remember(connection, {key: state for key, state in states.items() if before.get(key) != state})
    return new


def answer(
    engine: sa.Engine,
    clock: Callable[[], datetime],
    last_day: date,
    tenant_ids: Sequence[UUID] | None = None,
) -> cycles.CycleReport | None:
    """Collects and runs what is due, on metrics up to `last_day`; None when that day is past and decided long ago."""
    now = clock()
    if last_day < now.date() - LATE:
        return None
    collect(engine, now, tenant_ids)
    return cycles.run(engine, tenant_ids, clock=clock, trigger=None, as_of=last_day)


def step(state: State, is_over: bool, clock: datetime) -> tuple[State, bool]:
    """The next state and whether to fire: once on the way out, again only after the way back and the cooldown."""
    if not is_over:
        return replace(state, is_armed=True), False
    cooled = state.last_fired_at is None or clock - state.last_fired_at >= COOLDOWN
    if state.is_armed and cooled:
        return replace(state, is_armed=False, last_fired_at=clock), True
    return state, False


def _calendar(connection: sa.Connection, known: Mapping[UUID, Any], clock: datetime) -> Iterator[Fired]:
    """The day's scheduled cycle, as soon as the tenant's last closed day is computed and at noon in any case."""
    computed = bundle.newest_days(connection, list(known), clock.date())
    for tenant_id, tenant in known.items():
        zone = ZoneInfo(tenant.config.time_zone) if isinstance(tenant, Settled) else ZoneInfo("UTC")
        closed = clock.astimezone(zone).date() - timedelta(days=1)
        if clock.hour < LATEST_HOUR and computed.get(tenant_id, date.min) < closed:
            continue
        # On Mondays the deep cycle takes the place of the daily one.
        kind, source = ("weekly", WEEKLY) if clock.weekday() == 0 else ("daily", DAILY)
        yield Fired(tenant_id, f"{kind}:{clock.date()}", "scheduled", source, {})


def _metrics(
    connection: sa.Connection,
    known: Mapping[UUID, Any],
    clock: datetime,
    states: dict[tuple[UUID, str], State],
) -> Iterator[Fired]:
    rows = connection.execute(
        statements("cycles")["states"], {"tenant_ids": list(known), "as_of": clock.date()}
    )
    seen = {(row.tenant_id, row.metric_id): _Seen(row.date, row.value) for row in rows}
    for tenant_id, tenant in known.items():
        if not isinstance(tenant, Settled):
            continue
        targets = bundle.targets(tenant.config)
        for deviation in DEVIATIONS:
            limit = deviation.limit(targets)
            found = seen.get((tenant_id, deviation.metric_id))
            # A metric nobody knows neither fires nor arms.
            if found is None or limit is None:
                continue
            name = f"deviation:{deviation.metric_id}"
            if _fires(states, (tenant_id, name), deviation.is_over(found.value, limit), clock):
                detail = {
                    "value": None if found.value is None else str(found.value),
                    "limit": str(limit),
                    "date": str(found.date),
                }
                yield Fired(
                    tenant_id, f"{name}:{found.date}", "metric_deviation", deviation.metric_id, detail
                )
        created = seen.get((tenant_id, "opps_created"))
        if created is not None and created.value is not None:
            name = "opportunities_surge"
            if _fires(states, (tenant_id, name), created.value >= SURGE, clock):
                detail = {"created": str(created.value), "date": str(created.date)}
                yield Fired(tenant_id, f"{name}:{created.date}", "lifecycle_event", name, detail)


def _fires(
    states: dict[tuple[UUID, str], State], key: tuple[UUID, str], is_over: bool, clock: datetime
) -> bool:
    states[key], fires = step(states.get(key, State()), is_over, clock)
    return fires


def _launches(
    connection: sa.Connection,
    ids: Sequence[UUID],
    clock: datetime,
    states: dict[tuple[UUID, str], State],
) -> Iterator[Fired]:
    """Once per campaign, 48 hours after its first day. Without a watermark the last day is looked at."""
    name = "campaign_launch"
    marks = {
        tenant_id: states.get((tenant_id, name), State()).watermark or clock - timedelta(days=1)
        for tenant_id in ids
    }
    rows = connection.execute(
        statements("cycles")["launched"],
        {"tenant_ids": list(marks), "watermarks": list(marks.values()), "at": clock},
    )
    for row in rows:
        yield Fired(
            row.tenant_id, f"{name}:{row.id}", "lifecycle_event", name,
            {"campaign_id": str(row.id), "campaign": row.name},
        )  # fmt: skip
    for tenant_id in ids:
        states[tenant_id, name] = State(watermark=clock)


def _learned(connection: sa.Connection, ids: Sequence[UUID], clock: datetime) -> Iterator[Fired]:
    for row in connection.execute(statements("cycles")["learned"], {"tenant_ids": list(ids), "at": clock}):
        if row.closed >= LEARNING:
            # Closed actions are counted from the last cycle on, so each cycle can be asked about once.
            yield Fired(
                row.tenant_id, f"learning_ready:{row.cycle_id}", "lifecycle_event", "learning_ready",
                {"closed": row.closed},
            )  # fmt: skip


def _states(connection: sa.Connection, ids: Sequence[UUID]) -> dict[tuple[UUID, str], State]:
    rows = connection.execute(statements("cycles")["trigger_states"], {"tenant_ids": list(ids)})
    return {(row.tenant_id, row.name): State(row.is_armed, row.last_fired_at, row.watermark) for row in rows}


def _remember(connection: sa.Connection, states: Mapping[tuple[UUID, str], State]) -> None:
    rows = [
        {
            "tenant_id": tenant_id,
            "name": name,
            "is_armed": state.is_armed,
            "last_fired_at": state.last_fired_at,
            "watermark": state.watermark,
        }
        for (tenant_id, name), state in states.items()
    ]
    if rows:
        connection.execute(statements("cycles")["remember"], rows)


def _enqueue(connection: sa.Connection, item: Fired, clock: datetime) -> int:
    values = {
        "tenant_id": item.tenant_id,
        "dedupe_key": item.dedupe_key,
        "trigger_type": item.trigger_type,
        "source": item.source,
        "detail": json.dumps(dict(item.detail)),
        "at": clock,
    }
    return len(connection.execute(statements("cycles")["enqueue"], values).all())
