"""Scenario A: nothing holds the company back. Decided, agreed to, applied once, measured, and decided better."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal

from kernel import tenancy
from kernel.actions import budget
from kernel.decisions import digest
from kernel.decisions.contract import ECONOMIC_METRICS
from quality.certification.prct.checks import Checks
from quality.certification.prct.companies import HEALTHY, Company, day
from quality.certification.prct.loop import (
    OPEN_PRICING,
    SECOND,
    Decision,
    decided,
    second,
    status,
)
from quality.certification.prct.world import World, short

A_FIRST = Decision(
    gates=("clear", "clear", "clear"),
    constraint="demand",
    priority="pipeline_total",
    label="paid_outperforming",
    actions=(
        "scale_channel paid_search: scale budget_daily 200 -> 240, 14 days, awaiting_ack",
        f"discount_ceiling: {OPEN_PRICING}",
        "max_touches: config_change max_touches 5 -> 6, 14 days, approved",
        "rep_capacity: config_change capacity_per_rep 40 -> 44, 14 days, approved",
        "round_robin: config_change round_robin_enabled false -> true, 14 days, approved",
        'clear_call_to_action: experiment cta_text "Learn more" -> "Pick a time for a 20-minute call", 14 days,'
        " 20 % as a test, approved",
        "trial_length: experiment trial_days 30 -> 23, 14 days, 20 % as a test, awaiting_ack",
    ),
    dropped={"scale_channel email": "paid channels win customers far cheaper and come first"},
)
A_SECOND = Decision(
    gates=("clear", "clear", "clear"),
    constraint="demand",
    priority="pipeline_total",
    label="paid_outperforming",
    actions=(
        "scale_channel paid_search: scale budget_daily 240 -> 288, 14 days, awaiting_ack",
        f"discount_ceiling: {OPEN_PRICING}",
        "trial_length: experiment trial_days 30 -> 23, 14 days, 20 % as a test, awaiting_ack",
        "follow_up_sla: experiment follow_up_sla_hours 24 -> 12, 14 days, 20 % as a test, approved",
        "sequence_timing: experiment sequence_delay_days 4 -> 3, 14 days, 20 % as a test, approved",
        'challenger_variant: experiment variant_weights {"plain": 95, "story": 5} -> {"plain": 80, "story": 20},'
        " 14 days, 20 % as a test, approved",
    ),
    # What was tried and moved nothing is not tried again.
    dropped={
        "max_touches": "it is expected to cost at least as much as it brings",
        "clear_call_to_action": "it is expected to cost at least as much as it brings",
    },
)


def healthy(world: World, checks: Checks) -> None:
    """A: scaled where customers are cheapest, after a person agreed, once; measured; better informed afterwards."""
    a, scale = HEALTHY, "scale_channel paid_search"
    world.found(a)
    world.go(0)
    world.cycle(a)
    decided(world, checks, a, A_FIRST)
    kept = world.value(
        "select array[cycles_attempted, cycles_succeeded, cycles_failed] from ops.kernel_cycle_slo"
        " where tenant_id = :id",
        id=a.id,
    )
    checks.equal("tally", "the day counts one cycle asked for and completed", [1, 1, 0], kept)

    world.go(0, 1)
    world.dispatch()
    held = world.held(a, "campaigns", "budget_daily", "paid_search")
    checks.equal("waits", "dispatch leaves alone what a person has not agreed to", "200", held)
    world.approve(a, scale)
    world.dispatch()
    world.go(0, 2)
    world.dispatch()
    _applied_once(world, checks, a)
    _prepared(world, checks, a, scale)

    after = {
        "pipeline_from_paid": "44800",
        "pipeline_total": "86000",
        "cac_blended": "1100",
        "payback_months": "6.11",
        "revenue_per_fte": "166000",
        "speed_to_lead_hours": "17",
    }
    world.trade(a, day(1), day(SECOND))
    world.days(a, day(1), day(16), after, final_to=day(8))
    world.go(16)
    checks.equal("expires", "what nobody answered in three days has ended", 2, world.expire())
    world.measure()
    checks.equal("patience", "nothing is measured on provisional days", "observing", status(world, a, scale))
    second(world, checks, a, after)
    outcomes = {short(a, row["action_id"]): row["outcome"] for row in world.actions(a) if row["outcome"]}
    expected = {
        scale: "improved",
        "max_touches": "neutral",
        "rep_capacity": "neutral",
        "round_robin": "improved",
        "clear_call_to_action": "neutral",
    }
    checks.equal("outcomes", "each action is judged by what its own metric did", expected, outcomes)
    _measured(world, checks, a, scale)
    _digest(world, checks, a)
    world.cycle(a)
    decided(world, checks, a, A_SECOND, "second.")
    notes = world.action(a, scale)["notes_for_humans"]
    checks.equal(
        "second.learned",
        "the next proposal rests on the result",
        True,
        "going by 1 earlier result of" in notes,
    )


def _applied_once(world: World, checks: Checks, company: Company) -> None:
    written = {short(company, target).strip(): count for (id, target), count in world.provider.writes.items() if id == company.id}  # fmt: skip
    expected = {
        "budget_daily paid_search": 1,
        "capacity_per_rep": 1,
        "experiment.cta_text": 1,
        "max_touches": 1,
        "round_robin_enabled": 1,
    }
    checks.equal("once", "three dispatches write each change once, and nothing else", expected, written)
    held = world.held(company, "campaigns", "budget_daily", "paid_search")
    checks.equal("applied", "the target holds the absolute value", "240", held)
    steps = world.steps(company, "scale_channel paid_search")
    path = ["awaiting_ack", "approved", "claimed", "applying", "applied", "observing"]
    checks.equal("steps", "every step is on record, in order", path, steps)


def _prepared(world: World, checks: Checks, company: Company, action_id: str) -> None:
    id = world.action(company, action_id)["id"]
    kept = world.rows(
        "select entity, gate_states, metrics from spine.action_snapshots"
        " where optimization_action_id = :id and moment = 'before'",
        id=id,
    )
    seen = [
        {
            "budget": each["entity"]["budget_daily"],
            "gates": sorted({gate["state"] for gate in each["gate_states"].values()}),
            "runway": str(Decimal(each["metrics"]["cash_runway_months"]["current"]).normalize()),
        }
        for each in kept
    ]
    before = {"budget": "200", "gates": ["clear"], "runway": "18"}
    checks.equal("snapshot", "the world before the change is kept", [before], seen)
    rows = world.rows(
        "select metric_id from spine.optimization_action_results where optimization_action_id = :id", id=id
    )
    missing = {"pipeline_from_paid", "pipeline_total", *ECONOMIC_METRICS} - {row["metric_id"] for row in rows}
    checks.equal("baseline", "target, priority and economics have a baseline", [], sorted(missing))
    with world.engine.begin() as connection:
        tenancy.service(connection, company.id)
        committed = budget.committed(connection, company.id, world.at.date())
    # 40 a day on the fifteen days from 17 to 31 March.
    checks.equal("reserved", "the month's budget holds what was added", "600", f"{committed.normalize():f}")


def _measured(world: World, checks: Checks, company: Company, action_id: str) -> None:
    row = world.rows(
        "select round(baseline_value, 2) as before, round(observed_value, 2) as after, delta_direction,"
        " metadata #>> '{economics,outcome}' as economics from spine.optimization_action_results"
        " where optimization_action_id = :id and metric_id = 'pipeline_from_paid'",
        id=world.action(company, action_id)["id"],
    )[0]
    found = [str(row["before"]), str(row["after"]), row["delta_direction"], row["economics"]]
    # The mean of the fourteen days before, 40,000 but for their noise, and of the last seven of the window.
    expected = ["39991.43", "44780.80", "increase", "improved"]
    checks.equal("effect", "baseline, observation and economics of the scaled channel", expected, found)


def _digest(world: World, checks: Checks, company: Company) -> None:
    with world.engine.begin() as connection:
        tenancy.service(connection)
        week = digest.build(connection, world.at.astimezone(UTC).date(), [company.id], True).tenants[0]
    line = next(
        each for each in week.actions if each.action_id == world.named(company, "scale_channel paid_search")
    )
    found = [line.outcome, line.economics, line.approved_by, week.verdicts["improved"], dict(week.gates)]
    checks.equal(
        "digest", "the week's digest tells it, and who agreed", ["improved", "improved", "Ben", 5, {}], found
    )
