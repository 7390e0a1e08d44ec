"""The metric dictionary as the kernel knows it: the seed that the warehouse is tested against, read once.

What a metric means and how it is computed stands in the seed and its models, not here.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from kernel.errors import RefusedError

_SEEDS = Path(__file__).resolve().parents[2] / "dbt" / "seeds"


@dataclass(frozen=True, slots=True)
class Metric:
    """`direction` is the one that is good. `minimum_sample` is None where any sample will do."""

    id: str
    unit: str
    direction: Literal["up", "down", "stabilize"]
    domain: str
    minimum_sample: int | None


class _Seed(Mapping[str, Metric]):
    """Reads the file when it is first asked for something, not on import."""

    def __getitem__(self, metric_id: str) -> Metric:
        return metrics()[metric_id]

    def __iter__(self) -> Iterator[str]:
        return iter(metrics())

    def __len__(self) -> int:
        return len(metrics())


METRICS: Mapping[str, Metric] = _Seed()


@cache
def metrics() -> dict[str, Metric]:
    return {
        row["metric_id"]: Metric(
            row["metric_id"],
            row["unit"],
            row["direction"],
            row["domain"],
            int(row["minimum_sample"]) if row["minimum_sample"] else None,
        )
        for row in _rows("metric_definitions.csv")
    }


@cache
def aliases() -> dict[str, str]:
    """Alias to metric id."""
    return {row["alias"]: row["metric_id"] for row in _rows("metric_aliases.csv")}


def resolve(metric_id: str) -> str:
    """The dictionary's id of an id or alias. Raises RefusedError for one it does not hold."""
    found = aliases().get(metric_id, metric_id)
    if found not in metrics():
        raise RefusedError(
            f"metric {metric_id!r} is not in the dictionary: use an id of metric_definitions.csv"
        )
    return found


def _rows(name: str) -> list[dict[str, str]]:
    with (_SEEDS / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    for row in rows:
        if None in row or None in row.values():
            first = next(iter(row.values()))
            raise RefusedError(
                f"{name}, {first}: not as many fields as the header has; quote texts with commas"
            )
    return rows
