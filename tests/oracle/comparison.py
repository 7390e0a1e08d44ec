"""Setting computed metric rows against the oracle's: what is missing, extra or different."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd

KEY = ["date", "metric_id", "dimension_key"]
NUMBERS = ["value", "numerator", "denominator"]
EXACT = ["value_status", "sample_size", "window_days", "is_final"]
CENT = Decimal("0.01")


def compare(
    actual: pd.DataFrame, expected: pd.DataFrame, *, tolerance: Decimal = Decimal("1e-9")
) -> list[str]:
    """One sentence for each difference, in the order of date, metric and dimension; none when they agree.

    Numbers may differ by the tolerance, absolute below 1 and relative above, but never by a cent.
    Columns that `actual` lacks are not compared, except those every metric row must have.
    """
    found, wanted = _by_key(actual), _by_key(expected)
    differences = []
    for key in sorted(found.keys() | wanted.keys()):
        name = " ".join(str(part) for part in key if part != "")
        if key not in found:
            differences.append(f"{name}: the row is missing, expected {wanted[key]['value']}")
        elif key not in wanted:
            differences.append(f"{name}: the row should not exist, it holds {found[key]['value']}")
        else:
            differences += [f"{name}: {text}" for text in _differing(found[key], wanted[key], tolerance)]
    return differences


def _by_key(frame: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = {}
    for row in frame.to_dict("records"):
        key = (pd.Timestamp(row["date"]).date(), row["metric_id"], row["dimension_key"])
        if key in rows:
            raise ValueError(f"{key} comes twice: a metric, day and dimension have one row")
        rows[key] = row
    return rows


def _differing(actual: dict[str, Any], expected: dict[str, Any], tolerance: Decimal) -> list[str]:
    differences = [
        f"{field} is {actual[field]}, expected {expected[field]}"
        for field in EXACT
        if (field in actual or field in ("value_status", "sample_size")) and actual[field] != expected[field]
    ]
    for field in NUMBERS:
        found, wanted = _number(actual[field]), _number(expected[field])
        if not _agree(found, wanted, tolerance):
            differences.append(f"{field} is {found}, expected {wanted}")
    return differences


def _agree(found: Decimal | None, wanted: Decimal | None, tolerance: Decimal) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return abs(found - wanted) <= min(tolerance * max(Decimal(1), abs(wanted)), CENT)


def _number(value: Any) -> Decimal | None:
    return None if pd.isna(value) else Decimal(str(value))
