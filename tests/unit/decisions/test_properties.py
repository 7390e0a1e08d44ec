"""What holds for every tenant: gates and guardrails are never broken, and the output is always whole."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.actions import matrix
from kernel.decisions.contract import ActionType, KernelInput, KernelOutput, Lever, Reading, canonical
from kernel.decisions.dictionary import METRICS
from tests.unit.decisions import scenarios
from tests.unit.decisions.scenarios import A, daily, metrics, series
from tests.unit.decisions.test_certification import decided

FEWER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FAMILIES = ("scale_channel", "cut_channel", "max_touches", "round_robin", "discount_ceiling", "trial_length")

amounts = st.decimals(0, 10_000, places=2)


@st.composite
def gate_readings(draw: st.DrawFn, metric_id: str, low: int, high: int) -> list[Reading]:
    """Missing, without a value, or a value around the threshold, moving or standing."""
    shape = draw(st.sampled_from(("missing", "undefined", "infinite", "stale", "moving", "standing")))
    value = draw(st.decimals(low, high, places=1))
    if shape == "missing":
        return []
    if shape in ("undefined", "infinite"):
        return daily(metric_id, None, shape)
    if shape == "stale":
        return daily(metric_id, value)[4:]
    if shape == "standing":
        return daily(metric_id, value)
    return series(metric_id, draw(st.lists(st.decimals(low, high, places=1), min_size=5, max_size=12)))


@st.composite
def inputs(draw: st.DrawFn) -> KernelInput:
    readings = metrics(
        A,
        payback_months=draw(gate_readings("payback_months", 10, 20)),
        gross_margin_pct=draw(gate_readings("gross_margin_pct", 45, 65)),
        cash_runway_months=draw(gate_readings("cash_runway_months", 4, 9)),
        cac_paid=draw(st.sampled_from(("100", "1200", "5000", None))),
        win_rate=draw(st.sampled_from(("0.01", "0.25", "0.6", "0"))),
        pipeline_total=draw(st.sampled_from(("0", "80000", "900000"))),
    )
    rows = tuple(
        row.model_copy(
            update={
                "new_customers": draw(st.decimals(0, 40, places=1)),
                "spend": draw(amounts),
                "daily_budget": draw(st.decimals(0, 500, places=2)),
            }
        )
        for row in scenarios.channels(A)
    )
    rails: dict[str, Any] = {
        "allowed_levers": draw(st.sets(st.sampled_from(get_args(Lever)), min_size=1).map(sorted).map(tuple)),
        "blocked_actions": draw(
            st.sets(st.sampled_from(get_args(ActionType)), max_size=2).map(sorted).map(tuple)
        ),
        "max_experiment_exposure_pct": draw(st.integers(0, 100)),
        "max_daily_spend": draw(st.none() | amounts),
        "monthly_budget_cap": draw(st.none() | amounts),
    }
    results = tuple(
        scenarios.result(
            family, draw(st.integers(-30, 30)), economics=draw(st.sampled_from(("hurt", "neutral")))
        )
        for family in draw(st.lists(st.sampled_from(FAMILIES), max_size=4))
    )
    return scenarios.given(
        A,
        readings=readings,
        channel_rows=rows,
        guardrails=rails,
        results=results,
        config={
            "cfo_expansion_enabled": draw(st.booleans()),
            "risk_tolerance": draw(st.sampled_from(("low", "medium", "high"))),
            "default_observation_window_days": draw(st.integers(1, 90)),
        },
    )


def states(output: KernelOutput) -> dict[str, str]:
    return {gate.gate: gate.state for gate in output.cycle_summary.gates}


@FEWER
@given(inputs())
def test_no_action_ever_breaks_a_gate(asked: KernelInput):
    output = decided(asked)
    gates = states(output)
    for action in output.actions:
        does, change = action.attributes, action.proposed_change
        if any(state != "clear" for state in gates.values()):
            assert not does.increases_spend
            assert not does.scales_channel
            assert action.type != "scale"
            assert does.daily_spend_change <= 0
        if gates.get("margin_below_floor", "clear") != "clear":
            assert not does.reduces_margin
            assert change.field != "discount_max_pct" or change.new_value < change.current_value
        if gates.get("cash_constrained") == "triggered":
            assert max(does.window_days, action.expected_observation_window_days) <= 7
            assert does.exposure_pct <= 10


@FEWER
@given(inputs())
def test_no_action_ever_breaks_a_guardrail(asked: KernelInput):
    output = decided(asked)
    rails = asked.guardrails
    added = sum((a.attributes.daily_spend_change for a in output.actions), Decimal(0))
    more = sum((max(a.attributes.daily_spend_change, Decimal(0)) for a in output.actions), Decimal(0))
    moved = sum(
        (a.attributes.daily_spend_change for a in output.actions if a.family == "take_budget"), Decimal(0)
    )
    assert more + moved <= sum(c.daily_budget for c in asked.channels) * Decimal("0.15")
    if rails.max_daily_spend is not None and added > 0:
        assert sum(c.daily_budget for c in asked.channels) + added <= rails.max_daily_spend
    if rails.monthly_budget_cap is not None:
        assert added * 15 <= rails.monthly_budget_cap
    for action in output.actions:
        assert action.type not in rails.blocked_actions
        assert action.lever is None or action.lever in rails.allowed_levers
        matrix.validate(action, rails, today=scenarios.AS_OF, facts={})
        if action.experiment:
            assert action.experiment.treatment_group_pct <= rails.max_experiment_exposure_pct
        if action.proposed_change.field == "budget_daily":
            old, new = (
                Decimal(str(value))
                for value in (action.proposed_change.current_value, action.proposed_change.new_value)
            )
            assert new > 0
            assert abs(new - old) <= old / 5


@FEWER
@given(inputs())
def test_the_output_is_always_whole(asked: KernelInput):
    output = decided(asked)
    assert KernelOutput.model_validate_json(canonical(output)) == output
    assert len(output.actions) <= 7
    assert len({(a.family, a.target_entity) for a in output.actions}) == len(output.actions)
    assert {a.target_metric for a in output.actions} <= set(METRICS)
    assert output.cycle_summary.priority_metric in METRICS
    assert all(a.cfo_score >= 0 for a in output.actions if not a.dependencies and a.family != "take_budget")
    kept = {(c.family, c.entity) for c in output.trace if c.dropped is None}
    assert kept == {(a.family, a.target_entity) for a in output.actions}
    if "triggered" in states(output).values():
        assert output.cycle_summary.binding_constraint == "economics"


@FEWER
@given(inputs())
def test_deciding_twice_gives_the_same_bytes(asked: KernelInput):
    assert canonical(decided(asked)) == canonical(decided(asked.model_copy(deep=True)))


@FEWER
@given(st.decimals(1, 60, places=2), st.decimals(0, 12, places=2), st.decimals(1, 99, places=2))
def test_equality_never_triggers(target: Decimal, tolerance: Decimal, floor: Decimal):
    readings = metrics(
        A, payback_months=target + tolerance, gross_margin_pct=floor, cash_runway_months=tolerance
    )
    asked = scenarios.given(
        A,
        readings=readings,
        cfo={
            "payback_target_months": target,
            "payback_tolerance_months": tolerance,
            "margin_floor_pct": floor,
            "runway_threshold_months": tolerance,
        },
    )
    assert set(states(decided(asked)).values()) == {"clear"}
