"""Closing observations: what became of every metric of an action whose window is over.

How an effect is estimated and judged stands in `results`; undoing an action in `abort`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import mean
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import baseline, lifecycle, results, snapshot
from kernel.actions.baseline import Day, local_day, series
from kernel.actions.executors import REGISTRY
from kernel.actions.executors.tickets import asks_people
from kernel.actions.matrix import TICKETS
from kernel.actions.results import Estimate, Verdict, rounded
from kernel.decisions.contract import ECONOMIC_METRICS, KernelError
from kernel.decisions.dictionary import METRICS
from models.errors import RevenueOsError
from models.statements import statements

ACTOR = "observer"
HISTORY_DAYS = 84  # twelve weeks tell a trend and a drift from noise
MAX_OBSERVED_DAYS = 7
PATIENCE = timedelta(days=30)  # after the window; then nothing will make the action measurable
NOT_A_CHANGE = "a ticket asks people and changes nothing by itself"
_GOOD = {"up": 1, "down": -1, "increase": 1, "decrease": -1, "stabilize": 0}


@dataclass(frozen=True, slots=True)
class Closed:
    tenant_id: UUID
    action_id: UUID
    outcome: str
    economics: str


@dataclass(frozen=True, slots=True)
class ObserveReport:
    """`left_open` counts actions whose days are not final yet; `failed` maps an action to what went wrong."""

    closed: tuple[Closed, ...]
    left_open: int
    failed: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class _Window:
    """Whole business days: the change came into force on `applied`, the last day observed is `last`."""

    applied: date
    last: date

    @property
    def needed(self) -> int:
        return max(1, min(MAX_OBSERVED_DAYS, (self.last - self.applied).days // 2))


@dataclass(frozen=True, slots=True)
class _Measured:
    """One metric of the window. `verdict` is None when it cannot be measured, and `why` says so.

    Into and out of infinity there is a verdict and no estimate.
    """

    observed: Decimal | None
    days: int
    estimate: Estimate | None
    verdict: Verdict | None
    why: str = ""

    @property
    def outcome(self) -> str:
        return self.verdict.outcome if self.verdict else "not_measurable"


def close_due(
    engine: sa.Engine, clock: Callable[[], datetime], *, gates_of: snapshot.GatesOf | None = None
) -> ObserveReport:
    """Closes every action whose window is over and whose last days are final, in one transaction each.

    What cannot be measured stays open for 30 days after its window and is then closed as not_measurable, a ticket at
    the end of its window. Tenants that are switched off wait.
    """
    now = clock()
    with engine.begin() as connection:
        tenancy.service(connection)
        due = list(connection.execute(_sql("due"), {"now": now}))
    closed: list[Closed] = []
    failed: dict[UUID, str] = {}
    left_open = 0
    for tenant_id, action_id in due:
        try:
            with engine.begin() as connection:
                tenancy.service(connection, tenant_id)
                done = _close(connection, tenant_id, action_id, now, gates_of)
        except (RevenueOsError, KernelError, sa.exc.DBAPIError) as error:
            failed[action_id] = str(error)
            continue
        if done is None:
            left_open += 1
        else:
            closed.append(done)
    return ObserveReport(tuple(closed), left_open, failed)


def end_unmeasured(
    connection: sa.Connection,
    tenant_id: UUID,
    action_id: UUID,
    *,
    expected: str,
    at: datetime,
    actor: str,
    why: str,
) -> bool:
    """Closes the action as not_measurable with the reason; nothing is learned from it. False as `advance` is."""
    if not lifecycle.advance(
        connection, tenant_id, action_id, expected=expected, to="closed", at=at, actor=actor, note=why,
        outcome="not_measurable", reason=why, closed_at=at,
    ):  # fmt: skip
        return False
    day = local_day(connection, tenant_id, at)
    given = {"tenant_id": tenant_id, "action_id": action_id, "end_date": day, "why": why}
    connection.execute(_sql("abandon_results"), given)
    return True


def _close(
    connection: sa.Connection,
    tenant_id: UUID,
    action_id: UUID,
    now: datetime,
    gates_of: snapshot.GatesOf | None,
) -> Closed | None:
    """None when the action is not ready, or another worker holds it."""
    key = {"tenant_id": tenant_id, "action_id": action_id}
    found = (
        connection.execute(_sql("lock_action"), {**key, "statuses": ["observing"]}).mappings().one_or_none()
    )
    if found is None:
        return None
    action = dict(found)
    if asks_people(action["type"], action["owner_subsystem"]):
        end_unmeasured(
            connection, tenant_id, action_id, expected="observing", at=now, actor=ACTOR, why=NOT_A_CHANGE
        )
        return Closed(tenant_id, action_id, "not_measurable", "inconclusive")
    window = _Window(
        local_day(connection, tenant_id, action["applied_at"]),
        local_day(connection, tenant_id, action["observation_ends_at"]),
    )
    rows = list(connection.execute(_sql("open_results"), key))
    measured = _measure(connection, tenant_id, action, window, [row.metric_id for row in rows])
    target = measured.get(action["target_metric"])
    if target is None or target.verdict is None:
        if now < action["observation_ends_at"] + PATIENCE:
            return None
        target = target or _Measured(None, 0, None, None, "no baseline was recorded for the target metric")

    others = list(
        connection.execute(
            _sql("concurrent"),
            {
                **key,
                "applied_at": action["applied_at"],
                "ends_at": action["observation_ends_at"],
                "ticket_types": list(TICKETS),
                "ticket_subsystems": [name for name, each in REGISTRY.items() if each.goes_to == "tickets"],
            },
        )
    )
    economics = _economics(measured, [str(other.id) for other in others])
    deltas = {
        row.metric_id: _delta(row.baseline_value, measured[row.metric_id].observed)
        for row in rows
        if row.metric_id in ECONOMIC_METRICS
    }
    for row in rows:
        result = measured[row.metric_id]
        shared = [str(other.id) for other in others if other.target_metric == row.metric_id]
        told = _told(result, _intended(action, row.metric_id)) | {
            "confounded_by": shared,
            "weight": str(rounded(1 / (1 + len(shared)))),
        }
        is_target = row.metric_id == action["target_metric"]
        delta = _delta(row.baseline_value, result.observed)
        connection.execute(
            _sql("close_result"),
            {
                "tenant_id": tenant_id,
                "id": row.id,
                "end_date": window.last,
                "observed_value": result.observed,
                "delta": delta,
                "delta_direction": _direction(delta),
                "confidence": round(result.verdict.confidence, 4) if result.verdict else 0,
                "economic_deltas": json.dumps(deltas if is_target else {}, default=_plain),
                "metadata": json.dumps(told | ({"economics": economics} if is_target else {})),
            },
        )
    snapshot.capture(connection, tenant_id, action, "after", now, {}, gates_of=gates_of)
    note = target.why or (
        f"{action['target_metric']} {target.outcome}, economics {economics['outcome']}"
        f" over {window.applied} to {window.last}"
    )
    lifecycle.advance(
        connection,
        tenant_id,
        action_id,
        expected="observing",
        to="closed",
        at=now,
        actor=ACTOR,
        note=note,
        outcome=target.outcome,
        closed_at=now,
    )
    return Closed(tenant_id, action_id, target.outcome, economics["outcome"])


def _measure(
    connection: sa.Connection, tenant_id: UUID, action: dict[str, Any], window: _Window, metrics: list[str]
) -> dict[str, _Measured]:
    days = series(connection, tenant_id, metrics, window.applied - timedelta(days=HISTORY_DAYS), window.last)
    arms = _arms(connection, tenant_id, metrics, window) if action["type"] == "experiment" else {}
    found = {}
    for metric_id in metrics:
        arm = arms.get(metric_id, {})
        by_split = results.split(arm.get("control", []), arm.get("treatment", []))
        found[metric_id] = _measure_one(
            days[metric_id], window, by_split, _good(action, metric_id), _relevant(action, metric_id)
        )
    return found


def _measure_one(
    days: list[Day], window: _Window, by_split: Estimate | None, good: int, relevant: float
) -> _Measured:
    after = [day for day in days if day.date > window.applied and day.is_final]
    if not after or after[-1].date < window.last:
        return _Measured(None, 0, None, None, f"{window.last} is not final")
    infinite = [day.status == "infinite" for day in after[-window.needed :]]
    base = [day for day in days if timedelta() < window.applied - day.date <= timedelta(days=baseline.DAYS)]
    if all(infinite) and _known(base):
        return _Measured(None, len(infinite), None, Verdict("improved" if good > 0 else "hurt", 1.0))
    if any(infinite):
        return _Measured(None, 0, None, None, "the metric was infinite on some of the last days")
    usable = _known(after)[-window.needed :]
    if len(usable) < window.needed:
        return _Measured(
            None, len(usable), None, None, f"{window.needed} final days are needed, {len(usable)} exist"
        )
    observed = mean(day.value for day in usable)
    if base and all(day.status == "infinite" for day in base):
        return _Measured(observed, len(usable), None, Verdict("hurt" if good > 0 else "improved", 1.0))
    estimate = by_split or results.forecast(
        {day.date.toordinal(): float(day.value) for day in _known(days) if day.date < window.applied},
        {day.date.toordinal(): float(day.value) for day in usable},
        window.applied.toordinal(),
    )
    if estimate is None:
        return _Measured(observed, len(usable), None, None, "too few days before the change are known")
    return _Measured(observed, len(usable), estimate, results.verdict(estimate, good, relevant))


def _known(days: list[Day]) -> list[Day]:
    return [day for day in days if day.value is not None]


def _arms(
    connection: sa.Connection, tenant_id: UUID, metrics: list[str], window: _Window
) -> dict[str, dict[str, list[float]]]:
    """The daily values of control and treatment on every final day of the window, by metric."""
    asked = {
        "tenant_id": tenant_id,
        "metric_ids": metrics,
        "first": window.applied + timedelta(days=1),
        "last": window.last,
    }
    found: dict[str, dict[str, list[float]]] = {}
    for row in connection.execute(_sql("split"), asked):
        found.setdefault(row.metric_id, {}).setdefault(row.variant, []).append(float(row.value))
    return found


def _good(action: Mapping[str, Any], metric_id: str) -> int:
    """The dictionary says what is good; where it wants a metric to stay, an action that means to move it does."""
    known = METRICS.get(metric_id)
    good = _GOOD[known.direction] if known else 0
    return good or (_GOOD[action["target_direction"]] if metric_id == action["target_metric"] else 0)


def _intended(action: Mapping[str, Any], metric_id: str) -> int:
    """The way the action means to move its target; for other metrics the good one."""
    meant = _GOOD[action["target_direction"]] if metric_id == action["target_metric"] else 0
    return meant or _good(action, metric_id) or 1


def _relevant(action: Mapping[str, Any], metric_id: str) -> float:
    """The smallest effect that matters, as a share of the baseline: what the action promised."""
    promised = action["payload"].get("expected_impact", {})
    if promised.get("metric_id") != metric_id or not float(promised["magnitude_pct"]):
        return results.RELEVANT
    return abs(float(promised["magnitude_pct"])) / 100


def _economics(measured: Mapping[str, _Measured], others: list[str]) -> dict[str, Any]:
    """The verdict that stands beside the target's; every change in force at the time had a part in it."""
    usable = {
        metric_id: (measured[metric_id].estimate, _GOOD[METRICS[metric_id].direction])
        for metric_id in ECONOMIC_METRICS
        if metric_id in measured and measured[metric_id].estimate is not None
    }
    # No finite gain elsewhere outweighs what became infinite.
    beyond = [measured[id].outcome for id in ECONOMIC_METRICS if id in measured and id not in usable]
    judged = results.economics(usable)
    if judged is None or "hurt" in beyond:
        return {"outcome": _beyond(beyond), "metrics": list(usable), "confounded_by": others}
    estimate, verdict = judged
    return {
        "outcome": verdict.outcome,
        "confidence": round(verdict.confidence, 4),
        "effect_pct": str(rounded(estimate.effect)),
        "effect_stderr_pct": str(rounded(estimate.stderr)),
        "metrics": list(usable),
        "confounded_by": others,
    }


def _beyond(outcomes: list[str]) -> str:
    return next((outcome for outcome in ("hurt", "improved") if outcome in outcomes), "inconclusive")


def _told(result: _Measured, intended: int) -> dict[str, Any]:
    """What the row says of its effect, numbers as text. Percentages are of the baseline, in the intended direction."""
    estimate = result.estimate
    if estimate is None:
        return {"outcome": result.outcome, "why": result.why, "days": result.days}
    percent = 100 / estimate.scale if estimate.scale > 0 else None
    return {
        "outcome": result.outcome,
        "method": estimate.method,
        "days": result.days,
        "expected": str(rounded(estimate.expected)),
        "effect": str(rounded(estimate.effect)),
        "stderr": str(rounded(estimate.stderr)),
        "interval": [str(rounded(estimate.effect + sign * estimate.half_width)) for sign in (-1, 1)],
        "minimum_detectable": str(rounded(estimate.minimum_detectable)),
        "effect_pct": None if percent is None else str(rounded(intended * estimate.effect * percent)),
        "effect_stderr_pct": None if percent is None else str(rounded(estimate.stderr * percent)),
    }


def _delta(baseline: Decimal | None, observed: Decimal | None) -> Decimal | None:
    return None if baseline is None or observed is None else observed - baseline


def _direction(delta: Decimal | None) -> str | None:
    if delta is None:
        return None
    return "increase" if delta > 0 else "decrease" if delta < 0 else "neutral"


def _plain(value: Decimal) -> str:
    return str(value)


def _sql(name: str) -> sa.TextClause:
    return statements("results")[name]
