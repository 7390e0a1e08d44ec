"""Tenants whose daily metrics are written by hand, and actions that are under observation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import baseline, snapshot
from kernel.decisions.contract import Action
from kernel.warehouse import snapshots
from models.decisions import optimization_actions, optimization_cycles
from tests.fakes import approved

APPLIED_AT = datetime(2026, 5, 4, 9, tzinfo=UTC)
APPLIED = APPLIED_AT.date()


def no_gates(connection: sa.Connection, tenant_id: UUID, at: datetime) -> tuple[()]:
    return ()


def prepare(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        snapshots.create(connection)


def write(
    engine: sa.Engine,
    tenant_id: UUID,
    metric_id: str,
    first: date,
    values: Iterable[float | str | None],
    *,
    final: bool = True,
    dimension: Mapping[str, str] | None = None,
) -> None:
    """One value a day from `first` on. None is undefined, a word is a status."""
    dimension = dict(dimension or {})
    rows = [
        {
            "tenant_id": tenant_id,
            "metric_id": metric_id,
            "date": first + timedelta(days=place),
            "dimension": json.dumps(dimension),
            "key": "|".join(f"{name}={word}" for name, word in sorted(dimension.items())),
            "value": None
            if value is None or isinstance(value, str)
            else Decimal(str(round(float(value), 6))),
            "status": "undefined" if value is None else value if isinstance(value, str) else "ok",
            "final": final,
        }
        for place, value in enumerate(values)
    ]
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        connection.execute(
            sa.text(
                """
                insert into analytics.metric_snapshots_daily
                    (tenant_id, date, metric_id, dimension, dimension_key, value, value_status, sample_size,
                    window_days, computed_at, run_id, is_final)
                values (:tenant_id, :date, :metric_id, cast(:dimension as jsonb), :key, :value, :status, 100, 30,
                    now(), 'run-1', :final)
                on conflict (tenant_id, date, metric_id, dimension_key) do update set
                    value = excluded.value, value_status = excluded.value_status, is_final = excluded.is_final
                """
            ),
            rows,
        )


def observed(
    engine: sa.Engine,
    tenant_id: UUID,
    action: Action,
    *,
    applied_at: datetime = APPLIED_AT,
    monitored: tuple[str, ...] = (),
    **columns: Any,
) -> UUID:
    """An action that was applied, with the snapshot and the baselines that were taken before."""
    window = timedelta(days=action.expected_observation_window_days)
    given = {
        "execution_status": "observing",
        "applied_at": applied_at,
        "observation_ends_at": applied_at + window,
    }
    (action_id,) = approved.approve(engine, tenant_id, action, **given | columns)
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        row = connection.execute(
            sa.select(optimization_actions).where(optimization_actions.c.id == action_id)
        ).one()
        connection.execute(
            optimization_cycles.update()
            .where(optimization_cycles.c.id == row.optimization_cycle_id)
            .values(raw_kernel_output={"learning_plan": {"metrics_to_monitor": list(monitored)}})
        )
        snapshot.capture(
            connection, tenant_id, row._mapping, "before", applied_at, {"max_touches": 5}, gates_of=no_gates
        )
        baseline.record(connection, tenant_id, row._mapping, applied_at)
    return action_id


def result_rows(engine: sa.Engine, action_id: UUID) -> dict[str, Any]:
    query = "select * from spine.optimization_action_results where optimization_action_id = :id"
    with engine.begin() as connection:
        tenancy.service(connection)
        return {row.metric_id: row for row in connection.execute(sa.text(query), {"id": action_id})}
