"""What scenarios share: a decision and everything it must give, and the way to the morning of the second cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel.decisions.contract import KernelOutput
from models.vocabulary import CFO_GATES
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import Company, Figure, day
from quality.certification.prct.world import World, short, told

SECOND = 25  # days after the first cycle: every window is over, and its last days are final
OPEN_PRICING = "experiment discount_max_pct 20 -> 15, 14 days, 20 % as a test, awaiting_ack"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a cycle must give. `gates` are payback, margin and cash; `dropped` are candidates and why they are none."""

    gates: tuple[str, str, str]
    constraint: str
    priority: str
    label: str
    actions: tuple[str, ...]
    dropped: Mapping[str, str]


def decided(world: World, checks: Checks, company: Company, must: Decision, which: str = "") -> None:
    """Everything a decision must give, each for itself."""
    output = world.output(company)
    summary = output.cycle_summary
    states = [gate.state for gate in summary.gates]
    checks.equal(f"{which}gates", "payback, margin and cash are as they are", list(must.gates), states)
    fired = [gate for gate, state in zip(CFO_GATES, must.gates, strict=True) if state == "triggered"]
    checks.equal(f"{which}fired", "exactly these gates fire", fired, [*summary.cfo_gates_triggered])
    bound = [summary.binding_constraint, summary.priority_metric]
    checks.equal(f"{which}constraint", "this holds the company back", [must.constraint, must.priority], bound)
    checks.equal(f"{which}label", "paid against outbound", must.label, summary.paid_label)
    lines = [told(company, row) for row in world.actions(company)]
    checks.equal(f"{which}actions", "exactly these actions, in this order", [*must.actions], lines)
    reasons = {_candidate(company, each): each.dropped for each in output.trace}
    found = {name: reasons.get(name) for name in must.dropped}
    checks.equal(f"{which}dropped", "these are left out, for these reasons", dict(must.dropped), found)


def second(world: World, checks: Checks, company: Company, figures: Mapping[str, Figure]) -> None:
    """The morning of the second cycle: days are known to then, final to a week before; everything due is closed."""
    world.days(company, day(1), day(SECOND), figures, final_to=day(17))
    world.go(SECOND)
    world.expire()
    world.watch()
    world.measure()
    left = [told(company, row) for row in world.actions(company) if row["execution_status"] == "observing"]
    checks.equal("measured", "every window that is over is closed", [], left)
    unclosed = world.value(
        "select count(*) from spine.optimization_action_results where tenant_id = :id"
        " and observation_end_date is null",
        id=company.id,
    )
    checks.equal("rows", "every metric that was watched has its result", 0, unclosed)


def _candidate(company: Company, traced: Any) -> str:
    where = traced.entity.id if traced.entity else ""
    return short(company, f"{traced.family} {where}".strip())


def status(world: World, company: Company, action_id: str) -> str:
    return world.action(company, action_id)["execution_status"]


def grows_nothing(checks: Checks, output: KernelOutput, which: str = "") -> None:
    growing = [
        action.action_id
        for action in output.actions
        if action.type == "scale"
        or action.attributes.increases_spend
        or action.attributes.scales_channel
        or action.attributes.daily_spend_change > 0
    ]
    checks.equal(f"{which}grows", "no action adds spend or scales a channel", [], growing)
