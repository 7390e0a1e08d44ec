"""The generators: what each proposes from known values, and what none ever proposes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import pytest

from kernel.actions import matrix
from kernel.decisions import candidates
from kernel.decisions.contract import Action, KernelInput, Opportunity, Setting, Subsystem
from tests.unit.decisions.scenarios import (
    AS_OF,
    PAID_SEARCH,
    PAID_SOCIAL,
    SETTINGS,
    A,
    B,
    C,
    Scenario,
    channels,
    given,
    metrics,
    series,
)
from tests.unit.decisions.test_certification import decided


def proposed(asked: KernelInput) -> dict[str, Any]:
    return {candidate.family: candidate for candidate in decided(asked).trace}


def action(asked: KernelInput, family: str) -> Action:
    return next(action for action in decided(asked).actions if action.family == family)


def only(subsystem: str, field: str, value: Any, **other: Any) -> KernelInput:
    """A tenant with that one setting and no channels."""
    setting = Setting(subsystem=subsystem, field=field, value=value)
    return given(A, settings=(setting,), channel_rows=(), **other)


def test_every_subsystem_has_at_least_two_generators():
    assert set(candidates.REGISTRY) == set(get_args(Subsystem))
    assert all(len(set(many)) >= 2 for many in candidates.REGISTRY.values())


@pytest.mark.parametrize("scenario", [A, B, C], ids="ABC")
def test_every_action_is_one_that_its_subsystem_can_carry_out(scenario: Scenario):
    asked = given(scenario)
    for made in decided(asked).actions:
        matrix.validate(made, asked.guardrails, today=AS_OF, facts={})


def test_every_candidate_is_of_a_type_that_its_subsystem_takes():
    for candidate in (c for scenario in (A, B, C) for c in decided(given(scenario)).trace):
        assert candidate.owner_subsystem in matrix.MATRIX[candidate.type]


def test_without_known_values_nothing_is_changed():
    output = decided(given(A, settings=(), channel_rows=()))
    assert {action.type for action in output.actions} == {"alert"}
    assert output.cycle_summary.why_fewer_actions


def test_every_change_starts_from_the_value_that_was_given():
    known = {(s.subsystem, s.field): s.value for s in SETTINGS}
    budgets = {str(channel.id): channel.daily_budget for channel in channels(A)}
    for made in decided(given(A)).actions:
        change = made.proposed_change
        if made.target_entity.type == "channel":
            assert change.current_value == budgets[made.target_entity.id]
        elif made.type != "alert":
            assert change.current_value == known[made.owner_subsystem, change.field]
        assert change.new_value != change.current_value or made.type == "alert"


@pytest.mark.parametrize(
    ("subsystem", "field", "current", "family", "new"),
    [
        ("crm", "follow_up_sla_hours", 24, "follow_up_sla", 12),
        ("crm", "follow_up_sla_hours", 3, "follow_up_sla", 2),
        ("crm", "sequence_delay_days", 4, "sequence_timing", 3),
        ("crm", "max_touches", 5, "max_touches", 6),
        ("pricing", "discount_max_pct", 20, "discount_ceiling", 15),
        ("pricing", "discount_max_pct", 3, "discount_ceiling", 0),
        ("pricing", "trial_days", 30, "trial_length", 23),
        ("pricing", "trial_days", 9, "trial_length", 7),
        ("routing", "round_robin_enabled", False, "round_robin", True),
        ("routing", "capacity_per_rep", 40, "rep_capacity", 44),
        ("routing", "capacity_per_rep", 4, "rep_capacity", 5),
        ("content", "variant_weights", {"a": 95, "b": 5}, "challenger_variant", {"a": 80, "b": 20}),
        ("content", "cta_text", "Go", "clear_call_to_action", "Pick a time for a 20-minute call"),
    ],
)
def test_a_setting_is_moved_by_its_step(subsystem: str, field: str, current: Any, family: str, new: Any):
    change = action(only(subsystem, field, current), family).proposed_change
    assert (change.field, change.current_value, change.new_value) == (field, current, new)


@pytest.mark.parametrize(
    ("subsystem", "field", "current"),
    [
        ("crm", "follow_up_sla_hours", 2),
        ("crm", "follow_up_sla_hours", "soon"),
        ("crm", "sequence_delay_days", 1),
        ("crm", "max_touches", 8),
        ("crm", "max_touches", True),
        ("pricing", "discount_max_pct", 0),
        ("pricing", "trial_days", 7),
        ("routing", "round_robin_enabled", True),
        ("routing", "capacity_per_rep", 1000),
        ("content", "variant_weights", {"a": 50, "b": 50}),
        ("content", "variant_weights", {"a": 95, "b": 6}),
        ("content", "variant_weights", {"a": 100}),
        ("content", "cta_text", "Pick a time for a 20-minute call"),
    ],
)
def test_a_setting_at_its_end_or_out_of_shape_is_left_alone(subsystem: str, field: str, current: Any):
    assert {candidate.type for candidate in decided(only(subsystem, field, current)).trace} == {"alert"}


def test_a_budget_grows_by_a_fifth_and_no_more():
    change = action(given(A), "scale_channel").proposed_change
    assert (change.current_value, change.new_value) == (200, 240)


def test_an_increase_is_fitted_into_what_the_caps_leave():
    # 15 days are left of March; 450 / 15 = 30 a day.
    asked = given(A, guardrails={"monthly_budget_cap": 1_000}, config={"spend_committed_month": 550})
    assert action(asked, "scale_channel").proposed_change.new_value == 230
    # April has 30 days; 1,000 / 30 - 10.83 = 22.50 a day, whatever March has left.
    asked = given(
        A, guardrails={"monthly_budget_cap": 1_000}, config={"spend_committed_daily": Decimal("10.83")}
    )
    assert action(asked, "scale_channel").proposed_change.new_value == "222.5"
    asked = given(A, guardrails={"max_daily_spend": 375})
    assert action(asked, "scale_channel").proposed_change.new_value == 215


def test_without_room_money_is_moved_in_two_changes_that_stand_together():
    worst = tuple(
        c.model_copy(update={"new_customers": Decimal(1)}) if c.id == PAID_SOCIAL else c for c in channels(A)
    )
    output = decided(given(A, channel_rows=worst, guardrails={"max_daily_spend": 360}))
    by_family = {made.family: made for made in output.actions}
    taken, given_to = by_family["take_budget"], by_family["reallocate_budget"]
    assert (taken.target_entity.id, taken.proposed_change.new_value) == (str(PAID_SOCIAL), 80)
    assert (given_to.target_entity.id, given_to.proposed_change.new_value) == (str(PAID_SEARCH), 220)
    assert given_to.dependencies == (taken.action_id,)
    assert taken.attributes.daily_spend_change + given_to.attributes.daily_spend_change == 0
    assert taken.requires_acknowledgment
    assert given_to.requires_acknowledgment
    assert "scale_channel" not in by_family


def test_what_stands_together_falls_together():
    worst = tuple(
        c.model_copy(update={"new_customers": Decimal(1)}) if c.id == PAID_SOCIAL else c for c in channels(A)
    )
    readings = metrics(A, payback_months="20")
    found = proposed(given(A, readings=readings, channel_rows=worst, guardrails={"max_daily_spend": 360}))
    assert found["reallocate_budget"].dropped.startswith("payback_exceeded is triggered")
    assert found["take_budget"].dropped.startswith("what it stands with may not be")


def test_a_budget_that_would_stay_above_the_daily_cap_is_not_written():
    asked = given(C, guardrails={"max_daily_spend": 150})
    budgets = {candidate.entity.id for candidate in decided(asked).trace if candidate.family == "cut_channel"}
    assert budgets == {str(PAID_SOCIAL)}
    assert "pause_channel" in proposed(asked)


def test_a_channel_without_evidence_is_not_scaled():
    few = tuple(c.model_copy(update={"new_customers": Decimal(4)}) for c in channels(A))
    assert "scale_channel" not in proposed(given(A, channel_rows=few))


def test_a_channel_of_a_paused_campaign_is_left_alone():
    still = given(A).campaigns[0].model_copy(update={"status": "paused"})
    families = proposed(given(A, campaigns=(still,)))
    assert not {"scale_channel", "cut_channel", "pause_channel"} & set(families)


def test_a_deeper_discount_needs_conversion_trouble_and_margin_to_spare():
    slow = metrics(A, win_rate="0.10")
    assert "deeper_discount" in proposed(given(A, readings=slow))
    assert "discount_ceiling" not in proposed(given(A, readings=slow))
    thin = metrics(A, win_rate="0.10", gross_margin_pct="60.9", payback_months="8")
    assert "deeper_discount" not in proposed(given(A, readings=thin))
    late = metrics(A, win_rate="0.10", payback_months="11.9")
    assert "deeper_discount" not in proposed(given(A, readings=late))


def test_a_deeper_discount_pays_for_the_price_it_gives_up():
    found = proposed(given(A, readings=metrics(A, win_rate="0.10")))["deeper_discount"]
    # Bookings of 1,200 a day, 14 days, a fifth of the deals, two and a half percent less price.
    assert found.terms["margin"] == round(Decimal("-1.3") * 1200 * 14 / 5 * Decimal("0.025"), 2)
    made = action(given(A, readings=metrics(A, win_rate="0.10"), channel_rows=()), "deeper_discount")
    assert made.attributes.reduces_margin
    # Cost stays, price falls: 100 - 28 / 0.975 and 6.67 x 72 / (0.975 x 71.28).
    assert made.expected_economic_impact.delta_margin_pct == Decimal("-0.72")
    assert made.expected_economic_impact.delta_payback_months == Decimal("0.24")


def test_overdue_deals_ask_for_a_new_forecast():
    late = Opportunity(id=PAID_SEARCH, stage="proposal", amount=100, expected_close_date=AS_OF.replace(day=1))
    assert action(given(A, settings=(), opportunities=(late,)), "overdue_deals").type == "forecast_update"


def test_worsening_churn_and_a_shrinking_base_are_told_to_people():
    churn = series("churn_rate", [Decimal(day) / 1000 for day in range(10, 24)])
    readings = (*metrics(A, net_revenue_retention="0.93"), *churn)
    families = {
        made.family for made in decided(given(A, readings=readings, settings=(), channel_rows=())).actions
    }
    assert families == {"churn_review", "retention_review", "review_pipeline_total"}
