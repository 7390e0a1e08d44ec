"""The binding constraint: gates, then data, then the gap worth most money; and the trouble it sees in data."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kernel.decisions.constraint import GAP_CAP, log_ratio
from tests.unit.decisions.scenarios import A, B, channels, daily, given, metrics, series
from tests.unit.decisions.test_certification import decided


def constraint(asked) -> tuple[str, str]:
    summary = decided(asked).cycle_summary
    return summary.binding_constraint, summary.priority_metric


def test_a_triggered_gate_makes_economics_binding_whatever_else_is_wrong():
    readings = metrics(B, pipeline_total="10", win_rate="0.01", gross_margin_pct=None)
    assert constraint(given(B, readings=readings)) == ("economics", "payback_months")


def test_a_required_metric_without_value_makes_data_binding():
    readings = metrics(A, gross_margin_pct=daily("gross_margin_pct", None, "undefined"))
    assert constraint(given(A, readings=readings)) == ("data_quality", "gross_margin_pct")


def test_one_stale_metric_is_seen_although_the_others_are_fresh():
    output = decided(given(A, readings=metrics(A, cac_blended=daily("cac_blended", "1200")[3:])))
    assert output.cycle_summary.binding_constraint == "data_quality"
    assert [(q.issue_type, q.affected_metric) for q in output.data_quality_actions] == [
        ("stale_data", "cac_blended")
    ]


def test_with_data_missing_nothing_is_scaled_but_what_protects_stays():
    dear = tuple(c.model_copy(update={"new_customers": Decimal(1)}) for c in channels(A))
    output = decided(given(A, readings=metrics(A, payback_months=None), channel_rows=dear))
    families = [action.family for action in output.actions]
    assert families[0] == "restore_payback_months"
    assert "cut_channel" in families
    assert "scale_channel" not in families


def test_a_stale_metric_that_is_no_gate_blocks_scaling_too():
    output = decided(given(A, readings=metrics(A, pipeline_total=daily("pipeline_total", "80000")[3:])))
    reasons = {candidate.dropped for candidate in output.trace if candidate.family == "scale_channel"}
    assert reasons == {"nothing is scaled while pipeline_total was last known on 2026-03-13"}


def test_the_largest_gap_in_money_binds():
    assert constraint(given(A)) == ("demand", "pipeline_total")
    slow = given(A, readings=metrics(A, win_rate="0.12"))
    assert constraint(slow) == ("conversion", "win_rate")
    dear = given(A, targets={"cac_max": 400})
    assert constraint(dear) == ("economics", "cac_blended")


def test_equal_gaps_are_settled_in_the_written_order():
    # Pipeline and win rate are both worth all bookings and both half of their aim.
    tied = given(A, readings=metrics(A, pipeline_total="50000", win_rate="0.125"))
    assert constraint(tied) == ("conversion", "win_rate")


def test_on_target_everywhere_means_demand():
    done = given(A, readings=metrics(A, pipeline_total="100000"))
    assert constraint(done) == ("demand", "pipeline_total")
    assert "on target" in decided(done).cycle_summary.diagnosis


@pytest.mark.parametrize("value", ["0", "-5", "0.001"])
def test_a_gap_is_bounded_on_both_sides(value: str):
    assert log_ratio(Decimal(value), Decimal(100), "up") == GAP_CAP
    assert log_ratio(Decimal(value), Decimal(100), "down") == -GAP_CAP


def test_infinite_cost_is_as_far_off_as_can_be():
    readings = metrics(A, payback_months=daily("payback_months", None, "infinite"))
    asked = given(A, readings=readings, config={"cfo_expansion_enabled": False})
    assert constraint(asked) == ("economics", "payback_months")


def test_twice_and_half_are_equally_far():
    assert log_ratio(Decimal(50), Decimal(100), "up") == log_ratio(Decimal(200), Decimal(100), "down")


def test_days_that_are_missing_are_told_for_each_metric():
    holes = series("cac_blended", [1200 if day % 3 == 0 else None for day in range(34)])
    output = decided(given(A, readings=metrics(A, cac_blended=holes)))
    assert [(q.issue_type, q.affected_metric) for q in output.data_quality_actions] == [
        ("inconsistent", "cac_blended")
    ]
    assert output.cycle_summary.binding_constraint == "demand"


def test_missing_attribution_is_work_for_a_person():
    output = decided(given(A, readings=metrics(A, missing_attribution_pct="45")))
    assert [q.issue_type for q in output.data_quality_actions] == ["missing_attribution"]
