"""The rule of the gates: when they are triggered, clear or unknown, how they are left, and what they block."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

import pytest

from kernel.decisions import gates
from kernel.decisions.contract import Attributes, CfoGuardrails, GateReading, Guardrails, Reading
from tests.unit.decisions.scenarios import AS_OF, CLOCK, daily, series

RAILS = CfoGuardrails(payback_target_months=12, payback_tolerance_months=3, margin_floor_pct=50)
FREE = Guardrails(allowed_levers=("campaigns", "channels", "sequences", "pricing"))


def evaluated(*readings: list[Reading], as_of: date = AS_OF) -> dict[str, GateReading]:
    flat = [reading for many in readings for reading in many]
    found = gates.evaluate(flat, RAILS, enabled=True, as_of=as_of, clock=CLOCK)
    return {gate.gate: gate for gate in found}


@dataclass(frozen=True)
class Proposed:
    attributes: Attributes
    type: str = "config_change"
    lever: str | None = None


def test_a_gate_tells_value_threshold_margin_day_and_snapshot():
    gate = evaluated(daily("payback_months", "16.5"))["payback_exceeded"]
    assert (gate.state, gate.value, gate.threshold, gate.margin) == (
        "triggered",
        Decimal("16.5"),
        15,
        Decimal("-1.5"),
    )
    assert (gate.metric_id, gate.metric_date) == ("payback_months", AS_OF)
    assert gate.snapshot_id == f"payback_months@{AS_OF}"
    assert gate.why == "payback_months 16.5 is above 15 months"


@pytest.mark.parametrize("status", ["undefined", "insufficient_sample", "stale_source", "not_applicable"])
def test_a_margin_without_a_value_is_unknown(status: str):
    assert evaluated(daily("gross_margin_pct", None, status))["margin_below_floor"].state == "unknown"


def test_a_reading_older_than_two_days_is_stale():
    fresh = [r for r in daily("gross_margin_pct", "60") if r.date <= AS_OF - timedelta(days=2)]
    stale = [r for r in daily("gross_margin_pct", "60") if r.date <= AS_OF - timedelta(days=3)]
    assert evaluated(fresh)["margin_below_floor"].state == "clear"
    assert evaluated(stale)["margin_below_floor"].state == "unknown"


def test_an_as_of_that_lags_behind_the_clock_does_not_hide_that_a_reading_is_stale():
    last = AS_OF - timedelta(days=5)
    old = [r for r in daily("gross_margin_pct", "60") if r.date <= last]
    assert evaluated(old, as_of=last)["margin_below_floor"].state == "unknown"


def test_no_burn_is_clear():
    assert evaluated(daily("cash_runway_months", None, "not_applicable"))["cash_constrained"].state == "clear"


def test_a_dimension_is_not_read_as_the_tenant():
    part = [r.model_copy(update={"dimension": {"window": "T30"}}) for r in daily("payback_months", "99")]
    assert evaluated(part)["payback_exceeded"].state == "unknown"


def test_an_alias_names_the_same_metric():
    assert evaluated(daily("runway_months", "5"))["cash_constrained"].state == "triggered"


def test_a_day_after_the_day_asked_for_is_not_looked_at():
    later = [Reading(metric_id="payback_months", value=Decimal(99), date=AS_OF + timedelta(days=1))]
    assert evaluated(daily("payback_months", "10"), later)["payback_exceeded"].state == "clear"


@pytest.mark.parametrize(
    ("metric_id", "gate", "history", "state"),
    [
        # Payback is left at the target (12), one tolerance inside the threshold (15).
        ("payback_months", "payback_exceeded", [16, 14, 14, 14], "triggered"),
        ("payback_months", "payback_exceeded", [16, 12, 12], "triggered"),
        ("payback_months", "payback_exceeded", [16, 12, 12, 12], "clear"),
        ("payback_months", "payback_exceeded", [16, 12, 13, 12, 12], "triggered"),
        ("payback_months", "payback_exceeded", [16, 12, 12, None, 12], "triggered"),
        ("payback_months", "payback_exceeded", [16, 12, 12, 12, 14], "clear"),
        ("payback_months", "payback_exceeded", [14, 14, 15], "clear"),
        ("gross_margin_pct", "margin_below_floor", [49, "51.9", "51.9", "51.9"], "triggered"),
        ("gross_margin_pct", "margin_below_floor", [49, 52, 52, 52], "clear"),
        ("cash_runway_months", "cash_constrained", [5, "6.9", "6.9", "6.9"], "triggered"),
        ("cash_runway_months", "cash_constrained", [5, 7, 7, 7], "clear"),
    ],
)
def test_a_gate_is_entered_at_the_threshold_and_left_after_three_days_well_inside(
    metric_id: str, gate: str, history: list, state: str
):
    assert evaluated(series(metric_id, history))[gate].state == state


def test_a_breach_of_more_than_35_days_ago_holds_nothing():
    history = [16] + [14] * 34
    assert evaluated(series("payback_months", history))["payback_exceeded"].state == "triggered"
    assert evaluated(series("payback_months", [16] + [14] * 35))["payback_exceeded"].state == "clear"


def test_a_gate_that_still_holds_says_what_would_open_it():
    why = evaluated(series("payback_months", [16, 14]))["payback_exceeded"].why
    assert why.endswith("only after 3 consecutive days of at most 12")


def test_a_floor_of_a_hundred_can_still_be_left():
    rails = RAILS.model_copy(update={"margin_floor_pct": Decimal(100)})
    history = series("gross_margin_pct", [99, 100, 100, 100])
    found = gates.evaluate(history, rails, enabled=True, as_of=AS_OF, clock=CLOCK)
    assert found[1].state == "clear"


def state_of(gate: str, state: str) -> tuple[GateReading, ...]:
    metric_id = {"payback_exceeded": "payback_months", "margin_below_floor": "gross_margin_pct"}
    return (
        GateReading(
            gate=gate, state=state, value=None, threshold=Decimal(1), margin=None,
            metric_id=metric_id.get(gate, "cash_runway_months"), metric_date=None, snapshot_id=None, why="",
        ),
    )  # fmt: skip


GATES = ("payback_exceeded", "margin_below_floor", "cash_constrained")


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("state", ["triggered", "unknown"])
@pytest.mark.parametrize(
    "does",
    [{"increases_spend": True}, {"scales_channel": True}, {"daily_spend_change": Decimal(1)}],
    ids=lambda does: next(iter(does)),
)
def test_a_gate_that_is_not_clear_blocks_growth(gate: str, state: str, does: dict):
    action = Proposed(Attributes(window_days=7, **does))
    assert gates.blocks(action, state_of(gate, state), FREE).startswith(f"{gate} is {state}: ")
    assert gates.blocks(action, state_of(gate, "clear"), FREE) is None


def test_only_the_margin_gate_blocks_what_reduces_margin():
    action = Proposed(Attributes(window_days=7, reduces_margin=True))
    blocked = [g for g in GATES if gates.blocks(action, state_of(g, "triggered"), FREE)]
    assert blocked == ["margin_below_floor"]
    assert gates.blocks(action, state_of("margin_below_floor", "unknown"), FREE)


@pytest.mark.parametrize(
    ("does", "allowed"),
    [
        ({"window_days": 7, "exposure_pct": Decimal(10)}, True),
        ({"window_days": 8}, False),
        ({"window_days": 7, "exposure_pct": Decimal("10.01")}, False),
        ({"window_days": 7, "reversible": False}, False),
    ],
)
def test_the_cash_gate_wants_short_small_and_reversible(does: dict, allowed: bool):
    action = Proposed(Attributes(**does))
    assert (gates.blocks(action, state_of("cash_constrained", "triggered"), FREE) is None) == allowed
    assert gates.blocks(action, state_of("cash_constrained", "unknown"), FREE) is None


def test_guardrails_block_types_levers_exposure_and_spend():
    rails = Guardrails(
        allowed_levers=("pricing",),
        blocked_actions=("pause",),
        max_experiment_exposure_pct=15,
        max_daily_spend=100,
    )
    calm = Attributes(window_days=7)
    assert "type pause" in gates.blocks(Proposed(calm, type="pause"), (), rails)
    assert "lever channels" in gates.blocks(Proposed(calm, lever="channels"), (), rails)
    wide = Attributes(window_days=7, exposure_pct=Decimal(16))
    assert "expose 15 %" in gates.blocks(Proposed(wide, type="experiment"), (), rails)
    dear = Attributes(window_days=7, daily_spend_change=Decimal(101), increases_spend=True)
    assert "100" in gates.blocks(Proposed(dear), (), rails)
    assert gates.blocks(Proposed(calm, lever="pricing"), (), rails) is None
