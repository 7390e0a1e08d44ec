"""The CFO gates: the one rule for when a gate is triggered, clear or unknown, and what a gate keeps an action from.

Used wherever gates matter: deciding, applying, digest, certification. Gates look at what an action does (its
attributes), never at its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from kernel.decisions import dictionary
from kernel.decisions.contract import (
    ActionType,
    Attributes,
    CfoGuardrails,
    Gate,
    GateReading,
    GateState,
    Guardrails,
    Lever,
    Reading,
)

# A metric of yesterday is computed tonight; two more days allow for one late run and for time zones.
STALE_AFTER = timedelta(days=2)
# How far back a breach is remembered. What lies before says nothing about this month.
MEMORY = timedelta(days=35)
LEAVE_AFTER_DAYS = 3
CASH_MAX_WINDOW_DAYS = 7
CASH_MAX_EXPOSURE_PCT = Decimal(10)
# Gross margin moves by a point within a month by its rounding and late costs alone; two are a change.
MARGIN_STEP_POINTS = Decimal(2)
# Runway is known per closed month, so one month is the smallest change that is new information.
RUNWAY_STEP_MONTHS = Decimal(1)
METRICS = ("payback_months", "gross_margin_pct", "cash_runway_months")


class Proposal(Protocol):
    """What a gate needs to know of an action or of a draft of one."""

    @property
    def type(self) -> ActionType: ...
    @property
    def lever(self) -> Lever | None: ...
    @property
    def attributes(self) -> Attributes: ...


@dataclass(frozen=True, slots=True)
class _Rule:
    """`threshold` is breached strictly; a gate is left at `inside` or better."""

    gate: Gate
    metric_id: str
    breached_above: bool
    threshold: Decimal
    inside: Decimal
    unit: str

    def breached(self, value: Decimal) -> bool:
        return value > self.threshold if self.breached_above else value < self.threshold

    def well_inside(self, value: Decimal) -> bool:
        return value <= self.inside if self.breached_above else value >= self.inside

    def margin(self, value: Decimal) -> Decimal:
        return self.threshold - value if self.breached_above else value - self.threshold


def _rules(guardrails: CfoGuardrails) -> tuple[_Rule, ...]:
    payback = guardrails.payback_target_months + guardrails.payback_tolerance_months
    floor, runway = guardrails.margin_floor_pct, guardrails.runway_threshold_months
    return (
        # The tolerance is the tenant's own step: the gate is left where the target itself is met again.
        _Rule(
            "payback_exceeded", "payback_months", True, payback, guardrails.payback_target_months, "months"
        ),
        _Rule(
            "margin_below_floor",
            "gross_margin_pct",
            False,
            floor,
            min(floor + MARGIN_STEP_POINTS, Decimal(100)),
            "percent",
        ),
        _Rule("cash_constrained", "cash_runway_months", False, runway, runway + RUNWAY_STEP_MONTHS, "months"),
    )


def is_stale(reading: Reading, as_of: date, clock: datetime) -> bool:
    """Whether the source or the computation is too old. Yesterday is asked for even when `as_of` lags behind."""
    expected = max(as_of, clock.date() - timedelta(days=1))
    return reading.value_status == "stale_source" or reading.date < expected - STALE_AFTER


def evaluate(
    readings: Sequence[Reading], guardrails: CfoGuardrails, *, enabled: bool, as_of: date, clock: datetime
) -> tuple[GateReading, ...]:
    """The three gates on `as_of`, from the tenant totals among the readings; nothing when gates are switched off.

    Payback in months, margin in percent (0 to 100), runway in months. Strict: a value on the threshold does not
    trigger. A gate that was triggered is left after three consecutive days at least one step inside. `clock` is
    the instant at which the question is asked: for a day of the past, an instant of that time.
    """
    if not enabled:
        return ()
    return tuple(_evaluated(rule, readings, as_of, clock) for rule in _rules(guardrails))


def _evaluated(rule: _Rule, readings: Sequence[Reading], as_of: date, clock: datetime) -> GateReading:
    first = as_of - MEMORY
    named = dictionary.aliases()
    history = sorted(
        (
            reading
            for reading in readings
            if not reading.dimension
            and named.get(reading.metric_id, reading.metric_id) == rule.metric_id
            and first < reading.date <= as_of
        ),
        key=lambda reading: reading.date,
    )
    if not history:
        return _read(rule, None, "unknown", f"{rule.metric_id} is missing")
    newest = history[-1]
    if is_stale(newest, as_of, clock):
        return _read(rule, newest, "unknown", f"{rule.metric_id} of {newest.date} is stale")
    if rule.gate == "cash_constrained" and newest.value_status == "not_applicable":
        return _read(rule, newest, "clear", "the tenant burns no cash")
    if newest.value is None and not _is_infinite_payback(rule, newest):
        return _read(rule, newest, "unknown", f"{rule.metric_id} is {newest.value_status}")
    if not _holds(rule, history):
        return _read(rule, newest, "clear", f"{rule.metric_id} {_compared(rule, newest)}")
    if newest.value is not None and not rule.breached(newest.value):
        side = "at most" if rule.breached_above else "at least"
        why = (
            f"{rule.metric_id} {_compared(rule, newest)}, but the gate is left only after {LEAVE_AFTER_DAYS} "
            f"consecutive days of {side} {_plain(rule.inside)}"
        )
        return _read(rule, newest, "triggered", why)
    return _read(rule, newest, "triggered", f"{rule.metric_id} {_compared(rule, newest)}")


def _holds(rule: _Rule, history: Iterable[Reading]) -> bool:
    """Whether the gate is triggered after these days, in order of date."""
    triggered, streak, previous = False, 0, None
    for reading in history:
        if reading.value is None:
            streak = 0
            if _is_infinite_payback(rule, reading):
                triggered = True
            elif rule.gate == "cash_constrained" and reading.value_status == "not_applicable":
                triggered = False
        elif rule.breached(reading.value):
            triggered, streak = True, 0
        elif rule.well_inside(reading.value):
            follows = previous is not None and reading.date - previous == timedelta(days=1)
            streak = streak + 1 if follows else 1
            triggered = triggered and streak < LEAVE_AFTER_DAYS
        else:
            streak = 0
        previous = reading.date
    return triggered


def _is_infinite_payback(rule: _Rule, reading: Reading) -> bool:
    return rule.gate == "payback_exceeded" and reading.value_status == "infinite"


def _compared(rule: _Rule, reading: Reading) -> str:
    if reading.value is None:
        return f"is infinite, above {_plain(rule.threshold)} {rule.unit}"
    value, threshold = _plain(reading.value), _plain(rule.threshold)
    if rule.breached(reading.value):
        word = "above" if rule.breached_above else "below"
    elif reading.value == rule.threshold:
        word = "on the threshold of"
    else:
        word = "within" if rule.breached_above else "above"
    return f"{value} is {word} {threshold} {rule.unit}"


def _plain(value: Decimal) -> str:
    # What has no business being a metric is told shortly and without arithmetic that could fail.
    if value.adjusted() > 15:
        return f"{value:.3e}"
    return f"{round(value, 2).normalize():f}"


def _read(rule: _Rule, reading: Reading | None, state: GateState, why: str) -> GateReading:
    value = reading.value if reading else None
    return GateReading(
        gate=rule.gate,
        state=state,
        value=value,
        threshold=rule.threshold,
        margin=None if value is None else rule.margin(value),
        metric_id=rule.metric_id,
        metric_date=reading.date if reading else None,
        snapshot_id=reading.snapshot_id if reading else None,
        why=why,
    )


def triggered(gates: Iterable[GateReading]) -> tuple[Gate, ...]:
    return tuple(gate.gate for gate in gates if gate.state == "triggered")


def blocks(action: Proposal, gates: Sequence[GateReading], guardrails: Guardrails) -> str | None:
    """Why the action may not be, in one sentence, or None. An unknown gate keeps spend and scale from growing."""
    does = action.attributes
    if action.type in guardrails.blocked_actions:
        return f"the guardrails block actions of type {action.type}"
    if action.lever is not None and action.lever not in guardrails.allowed_levers:
        return f"the guardrails do not allow the lever {action.lever}"
    if action.type == "experiment" and does.exposure_pct > guardrails.max_experiment_exposure_pct:
        return (
            f"an experiment may expose {_plain(guardrails.max_experiment_exposure_pct)} % and this one exposes "
            f"{_plain(does.exposure_pct)} %"
        )
    if guardrails.max_daily_spend is not None and does.daily_spend_change > guardrails.max_daily_spend:
        return f"it adds more than the {_plain(guardrails.max_daily_spend)} that may be spent a day"
    for gate in gates:
        reason = _blocked_by(gate, does)
        if reason:
            return f"{gate.gate} is {gate.state}: {reason}"
    return None


def worsened(seen: Mapping[str, Any], gates: Iterable[GateReading]) -> str | None:
    """Which gate closed since a person saw them, in one sentence, or None. `seen` is what gate_states keeps."""
    for gate in gates:
        before = seen.get(gate.gate, {}).get("state", "clear")
        if gate.state not in ("clear", before):
            return f"{gate.gate} was {before} when it was approved and is {gate.state}: {gate.why}"
    return None


def _blocked_by(gate: GateReading, does: Attributes) -> str | None:
    if gate.state == "clear":
        return None
    if does.increases_spend or does.daily_spend_change > 0:
        return "no spend may grow"
    if does.scales_channel:
        return "no channel may be scaled"
    if gate.gate == "margin_below_floor" and does.reduces_margin:
        return "nothing may reduce the margin"
    if gate.gate == "cash_constrained" and gate.state == "triggered":
        if does.window_days > CASH_MAX_WINDOW_DAYS:
            return f"a window may be {CASH_MAX_WINDOW_DAYS} days and not {does.window_days}"
        if does.exposure_pct > CASH_MAX_EXPOSURE_PCT:
            return f"{_plain(CASH_MAX_EXPOSURE_PCT)} % may be exposed and not {_plain(does.exposure_pct)} %"
        if not does.reversible:
            return "only what can be taken back may be done"
    return None
