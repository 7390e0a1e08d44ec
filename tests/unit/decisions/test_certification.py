"""The three tenants of the certification and the boundary cases around them: exact gates, constraint, label, actions."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kernel.decisions.contract import KernelInput, KernelOutput
from kernel.decisions.decide import decide
from kernel.decisions.scoring import DEFAULT_WEIGHTS
from tests.unit.decisions import scenarios
from tests.unit.decisions.scenarios import OUTBOUND, PAID_SEARCH, PAID_SOCIAL, A, B, C, daily, given, metrics


def decided(asked: KernelInput) -> KernelOutput:
    return decide(asked, scenarios.CLOCK, cycle_id=scenarios.CYCLE, weights=DEFAULT_WEIGHTS)


def states(output: KernelOutput) -> dict[str, str]:
    return {gate.gate: gate.state for gate in output.cycle_summary.gates}


def test_figures_of_the_scenarios_agree_with_each_other():
    for scenario in scenarios.SCENARIOS.values():
        payback = scenario.cac_blended / (scenario.new_mrr * scenario.gross_margin_pct / 100)
        assert round(payback, 2) == scenario.payback_months


def test_a_healthy_tenant_has_no_gate_on_and_is_bound_by_demand():
    summary = decided(given(A)).cycle_summary
    assert summary.cfo_gates_triggered == ()
    assert {gate.state for gate in summary.gates} == {"clear"}
    assert (summary.binding_constraint, summary.priority_metric) == ("demand", "pipeline_total")
    assert summary.paid_label == "paid_outperforming"


def test_a_healthy_tenant_scales_paid_before_outbound_and_asks_first():
    output = decided(given(A))
    first = output.actions[0]
    assert (first.type, first.target_entity.id) == ("scale", str(PAID_SEARCH))
    assert (first.proposed_change.current_value, first.proposed_change.new_value) == (200, 240)
    assert first.requires_acknowledgment
    outbound = [c for c in output.trace if c.family == "scale_channel" and c.entity.id == str(OUTBOUND)]
    assert [c.dropped for c in outbound] == ["paid channels win customers far cheaper and come first"]


def test_a_degraded_tenant_is_bound_by_economics_and_repairs_it():
    output = decided(given(B))
    assert output.cycle_summary.cfo_gates_triggered == ("payback_exceeded",)
    assert output.cycle_summary.binding_constraint == "economics"
    assert output.cycle_summary.paid_label == "none"
    first = output.actions[0]
    assert (first.family, first.target_entity.id) == ("pause_channel", str(PAID_SOCIAL))
    assert first.target_metric == "cac_blended"
    assert {"max_touches", "round_robin"} <= {action.family for action in output.actions}


def test_a_degraded_tenant_spends_no_more():
    output = decided(given(B))
    assert not any(a.attributes.increases_spend or a.attributes.scales_channel for a in output.actions)
    assert all(a.type != "scale" and a.attributes.daily_spend_change <= 0 for a in output.actions)


def test_a_failing_tenant_has_every_gate_on():
    summary = decided(given(C)).cycle_summary
    assert summary.cfo_gates_triggered == ("payback_exceeded", "margin_below_floor", "cash_constrained")
    assert summary.binding_constraint == "economics"
    assert summary.paid_label == "outbound_outperforming"


def test_a_failing_tenant_stops_and_cuts_what_wins_nobody():
    families = {(a.family, a.target_entity.id) for a in decided(given(C)).actions}
    assert {("pause_channel", str(PAID_SOCIAL)), ("cut_channel", str(PAID_SEARCH))} <= families


def test_a_failing_tenant_only_tries_small_and_short_things():
    for action in decided(given(C)).actions:
        does = action.attributes
        assert action.type in ("pause", "config_change", "experiment")
        assert not any((does.increases_spend, does.scales_channel, does.reduces_margin))
        assert does.exposure_pct <= 10
        assert does.window_days <= 7
        assert action.expected_observation_window_days <= 7
        if action.experiment:
            assert action.experiment.treatment_group_pct <= 10
    assert any(a.type == "experiment" for a in decided(given(C)).actions)


def test_a_discount_never_deepens_for_a_failing_tenant():
    for action in decided(given(C)).actions:
        if action.proposed_change.field == "discount_max_pct":
            assert action.proposed_change.new_value < action.proposed_change.current_value


@pytest.mark.parametrize(
    ("metric_id", "value", "gate"),
    [
        ("payback_months", "15.0", "payback_exceeded"),
        ("gross_margin_pct", "50.0", "margin_below_floor"),
        ("cash_runway_months", "6.0", "cash_constrained"),
    ],
)
def test_a_value_on_the_threshold_triggers_nothing(metric_id: str, value: str, gate: str):
    output = decided(given(A, readings=metrics(A, **{metric_id: value})))
    assert states(output)[gate] == "clear"


@pytest.mark.parametrize(
    ("metric_id", "value", "gate"),
    [
        ("payback_months", "15.01", "payback_exceeded"),
        ("gross_margin_pct", "49.99", "margin_below_floor"),
        ("cash_runway_months", "5.99", "cash_constrained"),
    ],
)
def test_a_value_just_beyond_the_threshold_triggers(metric_id: str, value: str, gate: str):
    output = decided(given(A, readings=metrics(A, **{metric_id: value})))
    assert output.cycle_summary.cfo_gates_triggered == (gate,)
    assert output.cycle_summary.binding_constraint == "economics"


@pytest.mark.parametrize("metric_id", ["payback_months", "gross_margin_pct", "cash_runway_months"])
def test_a_missing_gate_metric_is_unknown_and_blocks_scaling(metric_id: str):
    output = decided(given(A, readings=metrics(A, **{metric_id: None})))
    assert list(states(output).values()).count("unknown") == 1
    assert output.cycle_summary.cfo_gates_triggered == ()
    assert not any(a.attributes.increases_spend or a.attributes.scales_channel for a in output.actions)


def test_infinite_payback_triggers():
    readings = metrics(A, payback_months=daily("payback_months", None, "infinite"))
    assert decided(given(A, readings=readings)).cycle_summary.cfo_gates_triggered == ("payback_exceeded",)


def test_with_the_flag_off_no_gate_is_evaluated_and_the_summary_says_so():
    summary = decided(given(C, config={"cfo_expansion_enabled": False})).cycle_summary
    assert summary.gates == ()
    assert summary.cfo_gates_triggered == ()
    assert "switched off" in summary.diagnosis


def test_paid_labels_change_strictly_at_half_and_one_and_a_half():
    def label(cac_paid: Decimal | str | None) -> str:
        return decided(given(A, readings=metrics(A, cac_paid=cac_paid))).cycle_summary.paid_label

    assert [label(value) for value in ("599.99", "600", "1800", "1800.01", None)] == [
        "paid_outperforming", "none", "none", "outbound_outperforming", "insufficient_paid_data",
    ]  # fmt: skip
