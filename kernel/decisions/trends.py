"""Where a metric is going: a robust slope over days, read in the direction that is good for the metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from kernel.decisions import dictionary
from kernel.decisions.contract import Reading

DAYS = 14
# Fewer than half the days say more about which days are missing than about the metric.
MINIMUM_DAYS = 7
# Moves of less than a twentieth in two weeks are called flat.
FLAT_PCT = Decimal(5)


@dataclass(frozen=True, slots=True)
class Trend:
    """`slope` per day in the metric's unit, `change_pct` over the fortnight, of the median; None when unknown."""

    direction: Literal["improving", "degrading", "flat", "unknown"]
    slope: Decimal | None
    change_pct: Decimal | None
    days: int


def trend(metric_id: str, totals: Sequence[Reading], as_of: date) -> Trend:
    """The trend of one metric from its tenant totals, in any order.

    The slope is Theil and Sen's: the median of the slopes between all pairs of days, so a third of the days may
    be wild. Days are dates, not rows: a missing day widens a step and is never closed up.
    """
    first = as_of - timedelta(days=DAYS)
    points = sorted((r.date, r.value) for r in totals if r.value is not None and first < r.date <= as_of)
    if len(points) < MINIMUM_DAYS:
        return Trend("unknown", None, None, len(points))
    slopes = [
        (later - earlier) / (day - before).days
        for index, (before, earlier) in enumerate(points)
        for day, later in points[index + 1 :]
        if day > before
    ]
    slope = median(slopes)
    level = abs(median([value for _, value in points]))
    moved = slope * (DAYS - 1)
    change = moved / level * 100 if level else (Decimal(100) if moved > 0 else Decimal(-100 if moved else 0))
    change = max(Decimal(-100), min(Decimal(100), change))
    return Trend(_read(dictionary.metrics()[metric_id].direction, change), slope, change, len(points))


def _read(good: str, change: Decimal) -> Literal["improving", "degrading", "flat"]:
    if abs(change) <= FLAT_PCT:
        return "flat"
    if good == "stabilize":
        return "degrading"
    return "improving" if (change > 0) == (good == "up") else "degrading"


def median(values: Sequence[Decimal]) -> Decimal:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
