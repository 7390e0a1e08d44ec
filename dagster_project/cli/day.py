"""One demonstration of decisions on the sample companies, on a clock of its own: decide, approve, apply, measure.

The companies' facts end the day before yesterday, and the demonstration lives in the five weeks before it. What it shows
is the production path; nothing here is a rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dagster_project.cli import ui

if TYPE_CHECKING:
    import sqlalchemy as sa

APPROVER = "ana.approver"
# Long enough before the last day that the window of an action, two weeks or three, has ended by then.
_WEEKS_BEFORE = timedelta(days=34)
_MORNING = time(6, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Story:
    """What became of one action, from the metric that called for it to its result; rows for a table."""

    tenant: str
    steps: tuple[dict[str, Any], ...]


def live(engine: sa.Engine, last: date) -> Story | None:
    """Lives the demonstration once; a second call changes nothing and tells the same story."""
    first_day = last - _WEEKS_BEFORE
    begin, end = _morning_after(first_day), _morning_after(last)
    if not _was_decided(engine, end):
        ui.step("Decide", f"first cycles on {begin:%Y-%m-%d}: {_decide(engine, first_day)}")
        approved = _approve_one(engine, begin + timedelta(hours=1))
        if approved:
            ui.step("Approve", f"{APPROVER} agrees to {approved}")
        ui.step("Apply", _apply(engine, begin + timedelta(hours=2)))
        ui.step("Measure", _measure(engine, end))
        ui.step("Decide", f"second cycles on {end:%Y-%m-%d}: {_decide(engine, last)}")
    else:
        ui.step("Decisions", "were made, applied and measured: nothing to do")
    return _story(engine)


def tell(story: Story | None) -> None:
    if story:
        ui.emit(list(story.steps), False, title=f"\nOne action of {story.tenant}, from metric to result")


def _morning_after(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), _MORNING)


def _was_decided(engine: sa.Engine, at: datetime) -> bool:
    import sqlalchemy as sa

    from kernel import tenancy
    from models.decisions import optimization_cycles as cycles

    with engine.begin() as connection:
        tenancy.service(connection)
        return connection.execute(
            sa.select(sa.exists().where(cycles.c.invoked_at >= at, cycles.c.status == "completed"))
        ).scalar_one()


def _decide(engine: sa.Engine, day: date) -> str:
    from kernel.decisions import cycles
    from kernel.decisions.contract import Trigger

    at = _morning_after(day)
    trigger = Trigger(type="scheduled", source="demo", triggered_at=at)
    report = cycles.run(engine, None, clock=lambda: at, trigger=trigger, as_of=day)
    if report.failed:
        ui.fail("; ".join(f"{tenant}: {why}" for tenant, why in report.failed.items()))
    return f"{len(report.completed)} companies, {report.actions} actions"


def _approve_one(engine: sa.Engine, at: datetime) -> str:
    """The best action that waits at the first company; says which, empty when none waits."""
    import sqlalchemy as sa

    from kernel import members, tenancy
    from kernel.actions import acknowledge
    from models.decisions import optimization_actions as actions
    from models.spine import tenants

    with engine.begin() as connection:
        tenancy.service(connection)
        waiting = connection.execute(
            sa.select(
                actions.c.tenant_id, actions.c.id, actions.c.payload_hash, actions.c.action_id, tenants.c.slug
            )
            .join(tenants, tenants.c.id == actions.c.tenant_id)
            .where(actions.c.execution_status == "awaiting_ack")
            .order_by(tenants.c.slug, actions.c.priority_rank)
            .limit(1)
        ).one_or_none()
        if waiting is None:
            return ""
        who = members.find(connection, waiting.tenant_id, APPROVER)
        acknowledge.approve(connection, waiting.tenant_id, who.user_id, waiting.id, waiting.payload_hash, at)
    return f"{waiting.action_id} of {waiting.slug}"


def _apply(engine: sa.Engine, at: datetime) -> str:
    from kernel.actions import dispatch

    means = {"clock": lambda: at, "sleep": lambda seconds: None, "worker": "demo"}
    done = dispatch.run_due(engine, **means)
    return f"{done.applied} applied and read back, {done.aborted} stopped by a gate or rule"


def _measure(engine: sa.Engine, at: datetime) -> str:
    from kernel import tenancy
    from kernel.actions import abort, acknowledge, observe

    with engine.begin() as connection:
        tenancy.service(connection)
        expired = acknowledge.expire_due(connection, at)
    breached = len(abort.check(engine, lambda: at).breaches)
    abort.revert_due(engine, lambda: at)
    closed = len(observe.close_due(engine, lambda: at).closed)
    return f"{closed} closed with a result, {breached} taken back by their own condition, {expired} expired unanswered"


def _story(engine: sa.Engine) -> Story | None:
    import sqlalchemy as sa

    from kernel import tenancy
    from models.decisions import optimization_actions as actions
    from models.spine import tenants

    with engine.begin() as connection:
        tenancy.service(connection)
        row = connection.execute(
            sa.select(actions, tenants.c.slug)
            .join(tenants, tenants.c.id == actions.c.tenant_id)
            .where(actions.c.acknowledged_by.is_not(None), actions.c.applied_at.is_not(None))
            .order_by(actions.c.applied_at)
            .limit(1)
        ).one_or_none()
        if row is None:
            return None
        return Story(row.slug, tuple(_steps(connection, row.tenant_id, row.id, row)))


def _steps(connection: sa.Connection, tenant_id: UUID, action_id: UUID, row: Any) -> list[dict[str, Any]]:
    import sqlalchemy as sa

    from models.actions import action_events as events
    from models.actions import action_intents as intents
    from models.decisions import optimization_action_results as results
    from models.decisions import optimization_cycles as cycles

    mine = {"tenant_id": tenant_id, "id": action_id}
    cycle = connection.execute(
        sa.select(cycles).where(cycles.c.tenant_id == tenant_id, cycles.c.id == row.optimization_cycle_id)
    ).one()
    intent = connection.execute(
        sa.select(intents).where(
            intents.c.tenant_id == mine["tenant_id"],
            intents.c.optimization_action_id == mine["id"],
            intents.c.kind == "apply",
        )
    ).one()
    result = connection.execute(
        sa.select(results).where(
            results.c.tenant_id == tenant_id,
            results.c.optimization_action_id == action_id,
            results.c.metric_id == row.target_metric,
        )
    ).one_or_none()
    said = connection.execute(
        sa.select(events.c.at, events.c.to_status)
        .where(events.c.tenant_id == tenant_id, events.c.optimization_action_id == action_id)
        .order_by(events.c.at, events.c.number)
    ).all()
    summary = cycle.raw_kernel_output["cycle_summary"]
    told = [
        ("metric", f"{summary['priority_metric']} of {cycle.metrics_date}"),
        ("diagnosis", summary["diagnosis"]),
        ("gates", ", ".join(f"{gate['gate']} {gate['state']}" for gate in summary["gates"]) or "switched off"),
        ("action", row.notes_for_humans),
        ("score", f"{row.cfo_score:,.0f} in money over {row.expected_observation_window_days} days"),
        ("approved", f"{row.acknowledged_at:%Y-%m-%d %H:%M}, hash {row.acknowledged_hash[:12]}"),
        ("applied", f"{intent.field}: {intent.before_value} -> {intent.wanted_value}, read back {intent.observed_value}"),
        ("steps", " > ".join(event.to_status for event in said)),
    ]  # fmt: skip
    if result is not None and result.observed_value is not None:
        change = f"{ui.shown(result.baseline_value)} -> {ui.shown(result.observed_value)}"
        confidence = f"confidence {result.confidence:.2f}"
        told.append(("result", f"{row.outcome}: {row.target_metric} {change}, {confidence}"))
    return [{"what": what, "told": text} for what, text in told]
