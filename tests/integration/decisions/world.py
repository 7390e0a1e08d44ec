"""A database with tenants whose metrics are written by hand, and a kernel that decides what a test tells it to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions.contract import (
    Action,
    ActionGuardrails,
    Attributes,
    CycleSummary,
    Entity,
    ExpectedImpact,
    KernelInput,
    KernelOutput,
    LearningPlan,
    ProposedChange,
    Trigger,
)
from kernel.warehouse import snapshots

LAST_DAY = date(2026, 6, 30)
MORNING = datetime(2026, 7, 1, 6, 30, tzinfo=UTC)
HEALTHY: Mapping[str, Any] = {
    "pipeline_total": 600_000,
    "bookings_new": 6_000,
    "cac_blended": 1_200,
    "payback_months": "6.67",
    "gross_margin_pct": 72,
    "cash_runway_months": 18,
    "win_rate": "0.31",
    "opps_created": 3,
    "revenue_per_fte": 200_000,
    "data_coverage_pct": 100,
}


def at(moment: datetime = MORNING):
    """A clock that stands still."""
    return lambda: moment


def manual(moment: datetime = MORNING) -> Trigger:
    return Trigger(type="manual", source="test", triggered_at=moment)


def prepare(engine: sa.Engine) -> sa.Engine:
    with engine.begin() as connection:
        snapshots.create(connection)
    return engine


def add_tenant(
    engine: sa.Engine,
    slug: str,
    metrics: Mapping[str, Any] = HEALTHY,
    *,
    config: Mapping[str, Any] | None = None,
    last: date = LAST_DAY,
    days: int = 35,
    **flags: Any,
) -> UUID:
    """An enabled tenant that has the same value of each metric on every day; None is a value nobody knows."""
    flags = {"revenue_os_enabled": True, "cfo_expansion_enabled": True} | flags
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, slug.title(), "USD", **flags)
        if config is not None:
            tenancy.set_config(
                connection, tenant_id, dict(config), author="test", reason="test",
                valid_from=datetime(2026, 1, 1, tzinfo=UTC),
            )  # fmt: skip
    if days:
        write_days(engine, tenant_id, [last - timedelta(days=number) for number in range(days)], metrics)
    return tenant_id


def store_config(engine: sa.Engine, tenant_id: UUID, payload: Mapping[str, Any]) -> None:
    """A version as an older release could have left it: nothing checks it."""
    insert(
        engine, "spine.config_versions", tenant_id=tenant_id, valid_from=datetime(2026, 2, 1, tzinfo=UTC),
        author="test", reason="test", payload=dict(payload),
    )  # fmt: skip


def write_day(engine: sa.Engine, tenant_id: UUID, day: date, metrics: Mapping[str, Any]) -> None:
    write_days(engine, tenant_id, [day], metrics)


def write_days(engine: sa.Engine, tenant_id: UUID, days: list[date], metrics: Mapping[str, Any]) -> None:
    rows = [
        {
            "tenant_id": tenant_id,
            "date": day,
            "metric_id": metric_id,
            "value": None if value in (None, "infinite") else Decimal(str(value)),
            "status": {None: "undefined", "infinite": "infinite"}.get(value, "ok"),
            "at": datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=6),
            "run_id": "run-1",
        }
        for day in days
        for metric_id, value in metrics.items()
    ]
    with engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(
            sa.text(
                """
                insert into analytics.metric_snapshots_daily
                    (tenant_id, date, metric_id, dimension, dimension_key, value, value_status, sample_size,
                    window_days, computed_at, run_id, is_final)
                values (:tenant_id, :date, :metric_id, '{}', '', :value, :status, 100, 30, :at, :run_id, false)
                on conflict (tenant_id, date, metric_id, dimension_key) do update set
                    value = excluded.value, value_status = excluded.value_status, run_id = excluded.run_id
                """
            ),
            rows,
        )


def rows(engine: sa.Engine, query: str, **values: Any) -> list[sa.Row[Any]]:
    with engine.begin() as connection:
        return list(connection.execute(sa.text(query), values))


def execute(engine: sa.Engine, statement: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)


def cycles_of(engine: sa.Engine, tenant_id: UUID) -> list[sa.Row[Any]]:
    return rows(
        engine, "select * from spine.optimization_cycles where tenant_id = :id order by invoked_at, created_at",
        id=tenant_id,
    )  # fmt: skip


def action(family: str = "reduce_spend", entity_id: str = "c1", **changed: Any) -> Action:
    values = {
        "action_id": f"{family}-{entity_id}",
        "priority_rank": 1,
        "owner_subsystem": "crm",
        "type": "config_change",
        "lens_emphasis": "cro",
        "target_metric": "cac_blended",
        "target_direction": "decrease",
        "target_entity": Entity(type="sequence", id=entity_id),
        "hypothesis": "Fewer touches cost less.",
        "proposed_change": ProposedChange(field="max_touches", current_value=8, new_value=6),
        "cfo_score": Decimal("100"),
        "guardrails": ActionGuardrails(),
        "expected_observation_window_days": 14,
        "expected_impact": ExpectedImpact(
            metric_id="cac_blended", direction="decrease", magnitude_pct=Decimal(5), confidence=Decimal("0.6")
        ),
        "notes_for_humans": "Send two touches fewer.",
        "family": family,
        "lever": "sequences",
        "attributes": Attributes(window_days=14),
        "requires_acknowledgment": False,
    }
    return Action(**(values | changed))


def deciding(*actions: Action):
    """A kernel that always decides for these actions, ranked in their order."""

    def decide(given: KernelInput, clock: datetime, *, cycle_id: UUID, weights: Any) -> KernelOutput:
        ranked = tuple(
            item.model_copy(update={"priority_rank": rank}) for rank, item in enumerate(actions, start=1)
        )
        return KernelOutput(
            tenant_id=given.tenant_id,
            cycle_id=cycle_id,
            executed_at=clock,
            cycle_summary=CycleSummary(
                binding_constraint="economics",
                priority_metric="cac_blended",
                diagnosis="As the test has it.",
                confidence=Decimal("0.8"),
                cfo_gates_triggered=("payback_exceeded",),
                gates=(),
                paid_label="none",
                why_fewer_actions="the test asked for no more",
            ),
            actions=ranked,
            learning_plan=LearningPlan(
                metrics_to_monitor=("cac_blended",),
                economic_metrics_to_monitor=("payback_months",),
                observation_window_days=14,
                next_cycle_trigger="7d_elapsed",
                fallback_play="manual review",
            ),
            trace=(),
        )

    return decide


def add_campaign(engine: sa.Engine, tenant_id: UUID, name: str = "Spring", **fields: Any) -> UUID:
    key = uuid4()
    row = {"status": "running", "budget_currency": "USD", "budget_total": 1_000, "start_date": None} | fields
    execute(
        engine,
        "insert into spine.spine_campaigns (tenant_id, id, name, status, budget_currency, budget_total, start_date)"
        " values (:tenant_id, :id, :name, :status, :budget_currency, :budget_total, :start_date)",
        tenant_id=tenant_id, id=key, name=name, **row,
    )  # fmt: skip
    return key


def add_channel(engine: sa.Engine, tenant_id: UUID, campaign_id: UUID, channel: str, **fields: Any) -> UUID:
    key = uuid4()
    row = {"status": "active", "daily_budget": 100, "is_paid": True} | fields
    execute(
        engine,
        "insert into spine.spine_campaign_channels (tenant_id, id, campaign_id, channel, status, daily_budget, is_paid)"
        " values (:tenant_id, :id, :campaign_id, :channel, :status, :daily_budget, :is_paid)",
        tenant_id=tenant_id, id=key, campaign_id=campaign_id, channel=channel, **row,
    )  # fmt: skip
    return key


def insert(engine: sa.Engine, table: str, **values: Any) -> None:
    """One row of a table; what is a mapping becomes JSON."""
    given = {
        name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in values.items()
    }
    columns, marks = ", ".join(given), ", ".join(f":{name}" for name in given)
    execute(engine, f"insert into {table} ({columns}) values ({marks})", **given)
