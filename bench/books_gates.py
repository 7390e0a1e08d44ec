"""What the second stage is worth: gates made again from a replay's log, with either probability and one promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.books_data import decided
from ml import calibrate, certify, evaluate, gates

_NAMES = {"p": "of_the_classifier", "raw_p": "of_the_second_stage"}


def compared(log: pd.DataFrame, since: pd.Timestamp) -> dict[str, dict[str, Any]]:
    """By probability: what passes a certificate of 0.90, how often it is right, and the calibration error, from `since` on.

    Each month's gate is made of what was logged and labelled before it, as in production, but for targets that move.
    """
    logged = log.assign(
        decided_at=pd.to_datetime(log["period"].map(decided), utc=True), verdict="review", is_audited=False
    )
    return {name: _figures(_gated(logged.assign(raw_p=log[kind])), since) for kind, name in _NAMES.items()}


def passes(rows: pd.DataFrame) -> pd.Series:
    """At or above the certified threshold, and held by no brake. None is, of a gate that is closed."""
    return (rows["calibrated_p"] >= rows["threshold"]) & ~rows["held"]


def _gated(logged: pd.DataFrame) -> pd.DataFrame:
    targets = dict.fromkeys(map(str, logged["tenant"].unique()), certify.PROMISE)
    return pd.concat([_month(rows, logged, targets) for _, rows in logged.groupby("period")])


def _month(rows: pd.DataFrame, logged: pd.DataFrame, targets: dict[str, float]) -> pd.DataFrame:
    month = rows["period"].iloc[0]
    made = gates.make(logged[logged["period"] < month], at=decided(month), targets=targets)
    return pd.concat([_decided(some, made.get(str(tenant))) for tenant, some in rows.groupby("tenant")])


def _decided(rows: pd.DataFrame, gate: gates.Gate | None) -> pd.DataFrame:
    if gate is None:
        return rows.assign(calibrated_p=np.nan, threshold=np.nan)
    calibrated = calibrate.apply(gate.calibrator.parameters, rows["raw_p"])
    return rows.assign(
        calibrated_p=calibrated, threshold=np.nan if gate.threshold is None else gate.threshold
    )


def _figures(rows: pd.DataFrame, since: pd.Timestamp) -> dict[str, Any]:
    seen = rows[rows["period"] >= since]
    right, known = seen["proposed"] == seen["account"], seen["calibrated_p"].notna()
    posted = passes(seen)
    return {
        "coverage": float(posted.mean()),
        "precision": float(right[posted].mean()) if posted.any() else None,
        "ece_mass": evaluate.ece_mass(seen.loc[known, "calibrated_p"], right[known]) if known.any() else None,
    }
