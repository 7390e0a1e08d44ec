"""What metrics were before an action: the rows an observation starts from, and reading daily totals.

What became of them stands in `observe`; the state of the world as a whole in `snapshot`.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from kernel.decisions.contract import ECONOMIC_METRICS
from models.statements import statements

DAYS = 14  # two whole weeks, so that each day of the week weighs the same


@dataclass(frozen=True, slots=True)
class Day:
    """A metric's total of one day. `value` is None unless `status` is ok."""

    date: date
    value: Decimal | None
    status: str
    is_final: bool


def record(connection: sa.Connection, tenant_id: UUID, action: Mapping[str, Any], at: datetime) -> None:
    """Opens one result row per metric: the target, the four economic ones, those the cycle asks to monitor.

    `action` is a row of optimization_actions. To be called before the change is made and after the snapshot; a row
    that stands already stays as it is.
    """
    applied = local_day(connection, tenant_id, at)
    key = {"tenant_id": tenant_id, "action_id": action["id"]}
    snapshot = connection.execute(_sql("snapshot_id"), {**key, "moment": "before"}).scalar()
    cycle = {"tenant_id": tenant_id, "cycle_id": action["optimization_cycle_id"]}
    monitored = connection.execute(_sql("monitored"), cycle).scalar() or []
    metrics = dict.fromkeys([action["target_metric"], *ECONOMIC_METRICS, *monitored])
    days = series(connection, tenant_id, metrics, applied - timedelta(days=DAYS), applied - timedelta(days=1))
    known = {
        metric_id: [day.value for day in days[metric_id] if day.value is not None] for metric_id in metrics
    }
    connection.execute(
        _sql("insert_results"),
        {
            **key,
            "start_date": applied,
            "context": json.dumps({"snapshot_id": str(snapshot)} if snapshot else {}),
            "metric_ids": list(known),
            "baseline_values": [statistics.mean(values) if values else None for values in known.values()],
            "metadata": [json.dumps({"baseline": _described(values, applied)}) for values in known.values()],
        },
    )


def _described(values: list[Decimal], applied: date) -> dict[str, Any]:
    """Numbers as text, so that none is rounded on its way through JSON."""
    return {
        "first_date": str(applied - timedelta(days=DAYS)),
        "last_date": str(applied - timedelta(days=1)),
        "n": len(values),
        "mean": str(statistics.mean(values)) if values else None,
        "variance": str(statistics.variance(values)) if len(values) > 1 else None,
    }


def series(
    connection: sa.Connection, tenant_id: UUID, metric_ids: Iterable[str], first: date, last: date
) -> dict[str, list[Day]]:
    """The daily totals of each metric from `first` to `last`, oldest first; a day not computed is absent."""
    asked = {"tenant_id": tenant_id, "metric_ids": list(metric_ids), "first": first, "last": last}
    found: dict[str, list[Day]] = defaultdict(list)
    for row in connection.execute(_sql("series"), asked):
        found[row.metric_id].append(Day(row.date, row.value, row.value_status, row.is_final))
    return found


def local_day(connection: sa.Connection, tenant_id: UUID, at: datetime) -> date:
    """The tenant's business day at an instant."""
    zone = connection.execute(_sql("time_zone"), {"tenant_id": tenant_id, "at": at}).scalar_one()
    return at.astimezone(ZoneInfo(zone)).date()


def _sql(name: str) -> sa.TextClause:
    return statements("results")[name]
