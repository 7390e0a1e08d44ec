"""Tiny worlds for hand-computed cases: a few rows in, the rows of one day out."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd

from kernel.landing.contracts import FACTS
from tests import oracle

TENANT_ID = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
# A Tuesday, the last day of a month and of a calendar quarter, far from any change of clocks in UTC.
DAY = date(2026, 3, 31)
LONG_AGO = date(2020, 1, 1)


class Metrics:
    """The rows of one day. A row is named metric_id, or metric_id and dimension_key."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._rows = {(row["metric_id"], row["dimension_key"]): row for row in frame.to_dict("records")}

    def row(self, metric_id: str, key: str = "") -> dict[str, Any]:
        return self._rows[metric_id, key]

    def value(self, metric_id: str, key: str = "") -> Decimal:
        row = self.row(metric_id, key)
        assert row["value_status"] == "ok", row
        return row["value"]

    def near(self, metric_id: str, expected: float, key: str = "") -> bool:
        return abs(float(self.value(metric_id, key)) - expected) < 1e-9

    def status(self, metric_id: str, key: str = "") -> str:
        return self.row(metric_id, key)["value_status"]

    def keys(self, metric_id: str) -> list[str]:
        return sorted(key for metric, key in self._rows if metric == metric_id)

    def parts(self, metric_id: str, key: str = "") -> tuple[Any, Any, int]:
        row = self.row(metric_id, key)
        return row["numerator"], row["denominator"], row["sample_size"]


def on(
    day: date = DAY,
    *,
    payload: dict[str, Any] | None = None,
    versions: list[tuple[datetime, dict[str, Any]]] | None = None,
    coverage: list[tuple[str, str, date, date, bool]] | None = None,
    watermarks: list[tuple[str, datetime]] | None = None,
    **facts: list[dict[str, Any]],
) -> Metrics:
    """The day's metrics of a UTC tenant in USD whose facts are all covered since long ago, unless said."""
    tenant = oracle.Tenant(
        TENANT_ID, "small", "USD", versions or [(datetime(2020, 1, 1, tzinfo=UTC), payload or {})]
    )
    frames = {
        fact: pd.DataFrame([{"source_system": "crm", **row} for row in rows]) for fact, rows in facts.items()
    }
    frame = oracle.compute(
        frames,
        tenant,
        [day],
        coverage=everything_covered(day) if coverage is None else coverage,
        watermarks=watermarks or [],
        as_of=datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=2),
    )
    return Metrics(frame)


def everything_covered(
    last: date, first: date = LONG_AGO, **firsts: date
) -> list[tuple[str, str, date, date, bool]]:
    return [("crm", fact, firsts.get(fact, first), last, True) for fact in FACTS]


def deals(*rows: tuple[dict[str, Any], list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {
        "opportunities": [opportunity for opportunity, _ in rows],
        "opportunity_stage_history": [state for _, states in rows for state in states],
    }


def deal(
    key: str, *states: tuple[Any, ...], created: str | None = None, **more: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A deal of states (changed_at, stage, amount, then anything to add); created with the first one."""
    opportunity = {"source_key": key, "created_at": created or states[0][0], **more}
    history = [
        {
            "opportunity_key": key,
            "changed_at": state[0],
            "stage": state[1],
            "amount": state[2],
            **(state[3] if len(state) > 3 else {}),
        }
        for state in states
    ]
    return opportunity, history


def event(key: str, at: str, kind: str, contact: str | None = None, **more: Any) -> dict[str, Any]:
    return {"source_key": key, "occurred_at": at, "event_type": kind, "contact_key": contact, **more}


def contact(key: str, **more: Any) -> dict[str, Any]:
    return {"source_key": key, "created_at": "2026-01-01", **more}


def revenue(key: str, day: str, kind: str, amount: str, **more: Any) -> dict[str, Any]:
    return {"source_key": key, "effective_date": day, "type": kind, "amount": amount, **more}


def mrr(key: str, account: str, day: str, reason: str, delta: str, **more: Any) -> dict[str, Any]:
    return {
        "source_key": key,
        "account_key": account,
        "effective_date": day,
        "reason": reason,
        "mrr_delta": delta,
        **more,
    }


def accounts(*keys: str) -> list[dict[str, Any]]:
    return [{"source_key": key} for key in keys]
