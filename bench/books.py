"""Years of bank lines replayed month by month: each month is predicted and gated by what was known before it, then its
labels are revealed. What is said of the outcome stands in `bench.books_report`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ml import calibrate, certify, confidence, gates

TRAIN_MONTHS = 24
# Labels of a month are known at midnight; the month is decided a little later.
_DECIDED = pd.Timedelta(hours=6)


class Scores(Protocol):
    """Of each line: the likeliest account, its probability, (account, probability) of the likeliest few, that one first."""

    account: Any
    p: Any
    top: Any
    is_new_vendor: Any


class Model(Protocol):
    def score(self, frame: pd.DataFrame) -> Scores: ...


class Fit(Protocol):
    def __call__(self, frame: pd.DataFrame, *, before: datetime) -> Model: ...


@dataclass(frozen=True, slots=True)
class Replay:
    """`log`: a row per line with what was said of it before its label was known (proposed, top_p, raw_p, calibrated_p,
    threshold, closed, held and why), and the label. `costs`: a row per month of seconds by step and the peak of memory.
    """

    log: pd.DataFrame
    costs: pd.DataFrame

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log.to_parquet(folder / "predictions.parquet", index=False)
        self.costs.to_parquet(folder / "costs.parquet", index=False)


def replay(fit: Fit, lines: pd.DataFrame, months: Iterable[pd.Timestamp]) -> Replay:
    """Predicts the lines of each month (`period` of `lines`, as `bench.books_data` gives them), in the order of months.

    The classifier is handed labels that were known by then and, of the month itself, lines without them. Months before
    the ones that are reported belong to the replay too: confidence, calibrators and certificates are made of what was
    logged.
    """
    log, costs, targets = pd.DataFrame(), [], {}
    # Of each line of the log, in its order; beside it, for it is wide.
    evidence = np.empty((0, len(confidence.FEATURES)))
    for month in months:
        at = (month.tz_localize("UTC") + _DECIDED).to_pydatetime()
        known = lines[
            (lines["labelled_at"] < at) & (lines["period"] >= month - pd.DateOffset(months=TRAIN_MONTHS))
        ]
        asked = lines[lines["period"] == month]
        told = asked[["account", "labelled_at"]]
        asked = asked.assign(account=None, labelled_at=pd.NaT)
        clock = [time.perf_counter()]
        model = fit(known, before=at)
        clock.append(time.perf_counter())
        found = _scored(model, asked)
        clock.append(time.perf_counter())
        shown = _evidence(found, known, log, at)
        found = found.assign(decided_at=pd.Timestamp(at), raw_p=_sure(found, shown, log, evidence, at))
        evidence = np.vstack([evidence, shown])
        clock.append(time.perf_counter())
        targets = _targets(targets, log, at)
        found = _gated(found, known, log, targets, at)
        clock.append(time.perf_counter())
        log = pd.concat([log, found.assign(**told)], ignore_index=True)
        costs.append(
            {"period": month, "labels": len(known), "lines": len(asked), "peak_mib": _peak_mib()}
            | dict(zip(("train", "score", "confidence", "gate"), np.diff(clock), strict=True))
        )
    return Replay(log, pd.DataFrame(costs))


def _scored(model: Model, asked: pd.DataFrame) -> pd.DataFrame:
    scores = model.score(asked)
    found = asked[["tenant", "txn", "period", "post_date", "vendor", "card", "amount_minor"]].assign(
        proposed=np.asarray(scores.account, dtype=object),
        p=np.asarray(scores.p, dtype=float),
        is_new_vendor=np.asarray(scores.is_new_vendor, dtype=bool),
        verdict="review",
        is_audited=False,
    )
    for rank in range(3):
        found[f"top_{rank + 1}"] = [one[rank][0] if len(one) > rank else None for one in scores.top]
        found[f"p_{rank + 1}"] = [float(one[rank][1]) if len(one) > rank else 0.0 for one in scores.top]
    return found


def _evidence(found: pd.DataFrame, known: pd.DataFrame, log: pd.DataFrame, at: datetime) -> np.ndarray:
    record = confidence.Record.empty()
    if len(log):
        record = confidence.Record.of(calibrate.window(log, at=at, months=confidence.WINDOW_MONTHS), at=at)
    top_p = found[["p_1", "p_2", "p_3"]]
    return confidence.evidence(confidence.Known.of(known, at=at), record, found, found["proposed"], top_p)


def _sure(
    found: pd.DataFrame, shown: np.ndarray, log: pd.DataFrame, evidence: np.ndarray, at: datetime
) -> np.ndarray:
    """What the second stage makes of it, or the classifier's own probability while too little was logged."""
    weights = None
    if len(log):
        past = calibrate.window(log, at=at, months=confidence.WINDOW_MONTHS)
        right = (past["proposed"] == past["account"]).to_numpy()
        weights = confidence.fit(evidence[past.index], right, past["tenant"])
    return found["p"].to_numpy() if weights is None else confidence.apply(weights, shown, found["tenant"])


def _targets(targets: dict[str, float], log: pd.DataFrame, at: datetime) -> dict[str, float]:
    """What to prove for each tenant, after what came of the last month whose labels are known."""
    if not len(log):
        return targets
    last = log[log["period"] == log["period"].max()]
    posted = last[(last["calibrated_p"] >= last["threshold"]) & ~last["held"] & (last["labelled_at"] < at)]
    right = (posted["proposed"] == posted["account"]).groupby(posted["tenant"])
    return targets | {
        tenant: certify.next_target(targets.get(tenant, certify.TARGET), int(checked), int(hits))
        for tenant, checked, hits in right.agg(["size", "sum"]).itertuples()
    }


def _gated(
    found: pd.DataFrame, known: pd.DataFrame, log: pd.DataFrame, targets: dict[str, float], at: datetime
) -> pd.DataFrame:
    made = gates.make(log, at=at, targets=targets) if len(log) else {}
    parts = []
    for tenant, lines in found.groupby("tenant", sort=False):
        gate = made.get(tenant)
        p = calibrate.apply(gate.calibrator.parameters, lines["raw_p"]) if gate else np.nan
        threshold, closed = (gate.threshold, gate.closed) if gate else (None, "no prediction was logged yet")
        parts.append(
            lines.assign(
                calibrated_p=p, threshold=np.nan if threshold is None else threshold, closed=closed or ""
            )
        )
    gated = pd.concat(parts).loc[found.index]
    flooded, disputed = certify.floods(gated, known), certify.disputed(gated, known)
    return gated.assign(flooded=flooded, disputed=disputed, held=flooded | disputed)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
