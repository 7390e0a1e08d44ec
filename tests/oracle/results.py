"""The dictionary as data, and what one row of a metric holds."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path

DICTIONARY = Path(__file__).resolve().parents[2] / "dbt" / "seeds" / "metric_definitions.csv"
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Definition:
    metric_id: str
    kind: str
    window_days: int
    sources: tuple[str, ...]
    minimum_sample: int


@dataclass(frozen=True, slots=True)
class Result:
    """One row's value; `window_days` only where it is not the metric's own."""

    value: Decimal | None
    status: str = "ok"
    numerator: Decimal | None = None
    denominator: Decimal | None = None
    sample_size: int = 0
    window_days: int | None = None

    def over(self, days: int | None) -> Result:
        return replace(self, window_days=days)


# The rows of one metric and day, by dimension key; '' is the total.
Rows = dict[str, Result]


@cache
def dictionary() -> dict[str, Definition]:
    with DICTIONARY.open(encoding="utf-8", newline="") as file:
        return {
            row["metric_id"]: Definition(
                row["metric_id"],
                row["kind"],
                int(row["window_days"]),
                tuple(row["sources"].split(";")),
                int(row["minimum_sample"] or 0),
            )
            for row in csv.DictReader(file)
        }


def unknown(status: str = "undefined") -> Result:
    """Nothing can be said: the source does not speak for the days asked about."""
    return Result(None, status)


def amount(value: Decimal | int, sample_size: int) -> Result:
    """A flow, a state, or a statistic: nothing was divided."""
    return Result(Decimal(value), "ok", Decimal(value), None, sample_size)


def ratio(
    numerator: Decimal | int,
    denominator: Decimal | int,
    sample_size: int,
    *,
    minimum: int = 0,
    times: int = 1,
) -> Result:
    """numerator / denominator x times; undefined over 0, insufficient_sample below the minimum."""
    above, below = Decimal(numerator), Decimal(denominator)
    if below == 0:
        return Result(None, "undefined", above, below, sample_size)
    if sample_size < minimum:
        return Result(None, "insufficient_sample", above, below, sample_size)
    return Result(above / below * times, "ok", above, below, sample_size)


def cost_per(cost: Decimal, customers: Decimal | int, sample_size: int) -> Result:
    """Cost per customer: infinite when there is cost and nobody came, undefined when both are 0."""
    if customers == 0 and cost > 0:
        return Result(None, "infinite", cost, ZERO, sample_size)
    return ratio(cost, customers, sample_size)
