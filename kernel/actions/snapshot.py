"""The state of the world around an action, captured once before it is applied and once when its window closes.

The entity of the first is what a revert restores; the baselines of the metrics stand in `baseline`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel.actions.baseline import local_day
from kernel.decisions.contract import ECONOMIC_METRICS, GateReading, KernelError
from models.statements import statements

DATES = 3
# What gates are read from, the economics, and what people look at first; the target comes on top.
METRICS = (
    *ECONOMIC_METRICS, "cash_runway_months", "burn_rate", "cac_paid", "pipeline_total", "bookings_count", "bookings_new",
    "roas_paid", "spend_paid_total", "data_freshness_hours",
)  # fmt: skip

GatesOf = Callable[[sa.Connection, UUID, datetime], Iterable[GateReading]]


def capture(
    connection: sa.Connection,
    tenant_id: UUID,
    action: Mapping[str, Any],
    moment: Literal["before", "after"],
    at: datetime,
    entity: dict[str, Any],
    *,
    gates_of: GatesOf | None = None,
) -> UUID:
    """Stores one row of an action's moment and gives its id; captured again, the first row stays.

    `action` is a row of optimization_actions, `entity` the whole configuration of what the action changes. Metrics
    are {current, status, date, trend: [{date, value, status}]}, newest first; values are decimals as text.
    """
    key = {"tenant_id": tenant_id, "action_id": action["id"], "moment": moment}
    last = local_day(connection, tenant_id, at)
    metrics = dict.fromkeys([action["target_metric"], *METRICS])
    connection.execute(
        _sql("insert_snapshot"),
        {
            **key,
            "at": at,
            "config_version_id": connection.execute(
                _sql("config_version"), {"tenant_id": tenant_id, "at": at}
            ).scalar(),
            "gate_states": json.dumps(_gates(connection, tenant_id, at, gates_of)),
            "entity": json.dumps(entity),
            "metrics": json.dumps(_metrics(connection, tenant_id, list(metrics), last)),
        },
    )
    return connection.execute(_sql("snapshot_id"), key).scalar_one()


def _gates(
    connection: sa.Connection, tenant_id: UUID, at: datetime, gates_of: GatesOf | None
) -> dict[str, Any]:
    """By gate. Empty when the tenant's configuration cannot stand: an observation must end all the same."""
    if gates_of is None:
        # The bundle reads results, which stand beside this module.
        from kernel.decisions.bundle import gates_of
    try:
        return {
            reading.gate: reading.model_dump(mode="json") for reading in gates_of(connection, tenant_id, at)
        }
    except KernelError:
        return {}


def _metrics(
    connection: sa.Connection, tenant_id: UUID, metric_ids: list[str], last: date
) -> dict[str, dict[str, Any]]:
    """Every metric asked for; one without any row is told as missing."""
    found: dict[str, dict[str, Any]] = {
        metric_id: {"current": None, "status": "missing", "date": None, "trend": []}
        for metric_id in metric_ids
    }
    asked = {"tenant_id": tenant_id, "metric_ids": metric_ids, "last": last, "days": DATES}
    for row in connection.execute(_sql("latest"), asked):
        value = None if row.value is None else str(row.value)
        told = found[row.metric_id]
        if not told["trend"]:
            told |= {"current": value, "status": row.value_status, "date": str(row.date)}
        told["trend"].append({"date": str(row.date), "value": value, "status": row.value_status})
    return found


def _sql(name: str) -> sa.TextClause:
    return statements("results")[name]
