"""Scenarios B and C: a company that breaks the payback gate and recovers, and one that breaks every gate and does not."""

from __future__ import annotations

from collections.abc import Mapping

from kernel import tenancy
from kernel.actions import budget
from kernel.decisions import bundle
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import DEGRADED, FAILING, Figure, day
from quality.certification.prct.loop import (
    OPEN_PRICING,
    SECOND,
    Decision,
    decided,
    grows_nothing,
    second,
    status,
)
from quality.certification.prct.world import World, told

B_FIRST = Decision(
    gates=("triggered", "clear", "clear"),
    constraint="economics",
    priority="payback_months",
    label="none",
    actions=(
        'pause_channel paid_social: pause status "active" -> "paused", 14 days, awaiting_ack',
        f"discount_ceiling: {OPEN_PRICING}",
        "max_touches: config_change max_touches 5 -> 6, 14 days, approved",
        "rep_capacity: config_change capacity_per_rep 40 -> 44, 14 days, approved",
        "round_robin: config_change round_robin_enabled false -> true, 14 days, approved",
        'clear_call_to_action: experiment cta_text "Learn more" -> "Pick a time for a 20-minute call", 14 days,'
        " 20 % as a test, approved",
        "trial_length: experiment trial_days 30 -> 23, 14 days, 20 % as a test, awaiting_ack",
    ),
    dropped={"scale_channel email": "payback_exceeded is triggered: no spend may grow"},
)
C_FIRST = Decision(
    gates=("triggered", "triggered", "triggered"),
    constraint="economics",
    priority="payback_months",
    label="outbound_outperforming",
    actions=(
        'pause_channel paid_social: pause status "active" -> "paused", 7 days, awaiting_ack',
        "cut_channel paid_search: config_change budget_daily 200 -> 160, 7 days, awaiting_ack",
        "discount_ceiling: experiment discount_max_pct 20 -> 15, 7 days, 10 % as a test, awaiting_ack",
        'clear_call_to_action: experiment cta_text "Learn more" -> "Pick a time for a 20-minute call", 7 days,'
        " 10 % as a test, approved",
        "trial_length: experiment trial_days 30 -> 23, 7 days, 10 % as a test, awaiting_ack",
        "follow_up_sla: experiment follow_up_sla_hours 24 -> 12, 7 days, 10 % as a test, approved",
        "sequence_timing: experiment sequence_delay_days 4 -> 3, 7 days, 10 % as a test, approved",
    ),
    dropped={
        "scale_channel email": "payback_exceeded is triggered: no spend may grow",
        "max_touches": "cash_constrained is triggered: 10 % may be exposed and not 100 %",
    },
)


def degraded(world: World, checks: Checks) -> None:
    """B: payback too long. What costs too much is stopped, nothing grows until payback has been good for three days."""
    b, pause = DEGRADED, "pause_channel paid_social"
    world.found(b)
    world.go(0)
    world.cycle(b)
    decided(world, checks, b, B_FIRST)
    grows_nothing(checks, world.output(b))
    world.go(0, 1)
    world.approve(b, pause)
    world.dispatch()
    checks.equal(
        "protects",
        "a gate that is on does not keep a pause from being applied",
        ["paused", "observing"],
        [world.held(b, "campaigns", "status", "paid_social"), status(world, b, pause)],
    )
    better = {"cac_blended": "1705", "payback_months": "11.00"}
    world.trade(b, day(1), day(SECOND))
    _recovers(world, checks, better)
    second(world, checks, b, better)
    checks.equal(
        "outcome",
        "the pause is measured by the CAC it lowered",
        "improved",
        world.action(b, pause)["outcome"],
    )
    world.cycle(b)
    summary = world.output(b).cycle_summary
    checks.equal(
        "second.gates", "the gate is left and demand holds the company back", [["clear"] * 3, "demand"],
        [[gate.state for gate in summary.gates], summary.binding_constraint],
    )  # fmt: skip
    first = told(b, world.actions(b)[0])
    expected = "scale_channel email: scale budget_daily 60 -> 72, 14 days, awaiting_ack"
    checks.equal("second.scales", "only now the best channel may grow, when a person agrees", expected, first)


def failing(world: World, checks: Checks) -> None:
    """C: every gate on. It stops and cuts what wins nobody, and tries nothing but small and short things."""
    c = FAILING
    world.found(c)
    world.go(0)
    world.cycle(c)
    decided(world, checks, c, C_FIRST)
    output = world.output(c)
    grows_nothing(checks, output)
    does = [action.attributes for action in output.actions]
    checks.equal(
        "short", "no window is longer than seven days", [7], sorted({each.window_days for each in does})
    )
    most = max(action.attributes.exposure_pct for action in output.actions)
    checks.equal("small", "no experiment exposes more than a tenth", "10", f"{most:f}")
    changes = [action.proposed_change for action in output.actions]
    ceilings = [[each.current_value, each.new_value] for each in changes if each.field == "discount_max_pct"]
    checks.equal("discount", "no discount is deepened", [[20, 15]], ceilings)
    tagged = [
        action.action_id for action in output.actions if "margin_constrained" not in action.notes_for_humans
    ]
    checks.equal("tagged", "every note says that the margin is constrained", [], tagged)

    world.go(0, 1)
    for action_id in ("pause_channel paid_social", "cut_channel paid_search"):
        world.approve(c, action_id)
    world.dispatch()
    stands = [
        world.held(c, "campaigns", "status", "paid_social"),
        world.held(c, "campaigns", "budget_daily", "paid_search"),
    ]
    checks.equal(
        "protects", "the pause and the cut are applied with every gate on", ["paused", "160"], stands
    )
    with world.engine.begin() as connection:
        tenancy.service(connection, c.id)
        saved = budget.committed(connection, c.id, world.at.date())
    # 100 and 40 a day on the fifteen days from 17 to 31 March.
    checks.equal("saved", "what is saved makes room in the month's budget", "-2100", f"{saved.normalize():f}")

    same: dict[str, Figure] = {}
    world.trade(c, day(1), day(SECOND))
    world.days(c, day(1), day(SECOND), same, final_to=day(17))
    second(world, checks, c, same)
    world.cycle(c)
    summary = world.output(c).cycle_summary
    checks.equal(
        "second.gates", "what has not recovered is not scaled a month later either",
        [["triggered"] * 3, "economics"],
        [[gate.state for gate in summary.gates], summary.binding_constraint],
    )  # fmt: skip
    grows_nothing(checks, world.output(c), "second.")


def _recovers(world: World, checks: Checks, better: Mapping[str, Figure]) -> None:
    """Payback is below its target from the first day after on; the gate is left on the third."""
    states = []
    for number in (1, 2, 3):
        world.days(DEGRADED, day(number), day(number), better)
        world.go(number)
        with world.engine.begin() as connection:
            tenancy.service(connection, DEGRADED.id)
            states.append(bundle.gates_of(connection, DEGRADED.id, world.at)[0].state)
    expected = ["triggered", "triggered", "clear"]
    checks.equal("hysteresis", "the gate is left after three good days, not before", expected, states)
