"""Whether lines, vendors and accounts are still what a model was made of, what to do about it, and whether a new model is
better than the active one. Pure: baselines and windows are given.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, ks_2samp

Floats = NDArray[np.float64]
Severity = Literal["none", "low", "medium", "high"]
Scope = Literal["txn_classifier", "ocr_extractor"]

WARN, ALERT = 0.10, 0.20  # PSI
ACCURACY_DROP = 0.03
RETRAIN_DAYS, NOTICE_DAYS = 14, 7
NEW_RECORDS = 1000
OCR_Z = 2.0
LEAST_LINES = 100  # a side with fewer gives no signal: by chance alone PSI would be above the warning
VENDORS = 20
_BINS = 10
_NO_SHARE = 1e-4  # stands for a share of zero, whose logarithm is not finite
OTHER, NEW = "OTHER", "NEW"
KS_VENDOR_REASON = (
    "vendors have no order, so a Kolmogorov-Smirnov distance of them means nothing; see psi_vendor"
)


@dataclass(frozen=True, slots=True)
class Signal:
    """A distance with its 95 % bootstrap interval, and `by_chance`: what equal distributions of these sizes stay under in
    95 of 100 cases. Without a value, `reason` says why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    by_chance: float | None = None
    baseline_lines: int = 0
    current_lines: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    severity: Severity
    retrain: bool
    scope: tuple[Scope, ...]
    reasons: tuple[str, ...]


def psi(baseline: ArrayLike, current: ArrayLike) -> float:
    """Population stability index of counts per bin: sum of (a - e) ln(a / e) over shares, zero shares taken as 0.0001."""
    expected, actual = (np.asarray(one, dtype=float) for one in (baseline, current))
    e, a = ((one / one.sum()).clip(_NO_SHARE) for one in (expected, actual))
    return float(((a - e) * np.log(a / e)).sum())


def psi_amount(baseline: ArrayLike, current: ArrayLike, *, seed: int = 0) -> Signal:
    """PSI of amounts (signed, minor units) over deciles of the baseline, the outer bins open to both sides.

    Where many amounts are equal, deciles fall together; an amount that is an edge by itself has its own bin, so that a
    baseline of one single amount still tells below, equal and above.
    """
    before, now = (np.asarray(one, dtype=float) for one in (baseline, current))
    if missing := _too_few(len(before), len(now)):
        return missing
    cuts, repeated = np.unique(np.quantile(before, np.arange(1, _BINS) / _BINS), return_counts=True)
    # (…, cut] for each, and for one that stands for more than a tenth of lines [cut, cut] apart from what is below it.
    edges = np.sort(np.append(cuts, np.nextafter(cuts[repeated > 1], -np.inf)))
    size = len(edges) + 1
    return _signal(*(np.searchsorted(edges, side) for side in (before, now)), size, seed)


def psi_vendor(
    baseline: Sequence[Hashable] | pd.Series,
    current: Sequence[Hashable] | pd.Series,
    *,
    top: int = VENDORS,
    seed: int = 0,
) -> Signal:
    """PSI over the `top` vendors of the baseline, all other known ones together, and those it does not know."""
    before, now = pd.Series(baseline, dtype=object), pd.Series(current, dtype=object)
    if missing := _too_few(len(before), len(now)):
        return missing
    known = before.value_counts().index
    place = {name: min(number, top) for number, name in enumerate(known)}
    codes = [side.map(place).fillna(top + 1).to_numpy(dtype=int) for side in (before, now)]
    # Every vendor of the baseline is known to it, so NEW would have the share of nothing: one that was seen once is as good
    # as new, and its share is what to expect (Good-Turing).
    once = before.map(before.value_counts()).to_numpy() == 1
    codes[0] = np.where(once, top + 1, codes[0])
    return _signal(codes[0], codes[1], top + 2, seed)


def psi_category(
    baseline: Sequence[Hashable] | pd.Series, current: Sequence[Hashable] | pd.Series, *, seed: int = 0
) -> Signal:
    """PSI over every value that occurs on either side: of accounts, the mix of labels."""
    before, now = pd.Series(baseline, dtype=object), pd.Series(current, dtype=object)
    if missing := _too_few(len(before), len(now)):
        return missing
    codes, values = pd.factorize(pd.concat([before, now]))
    return _signal(codes[: len(before)], codes[len(before) :], len(values), seed)


def ks_amount(baseline: ArrayLike, current: ArrayLike) -> Signal:
    """Two-sample Kolmogorov-Smirnov distance of amounts. `by_chance` is its 95 % critical value for these sizes."""
    before, now = (np.asarray(one, dtype=float) for one in (baseline, current))
    if missing := _too_few(len(before), len(now)):
        return missing
    value = float(ks_2samp(before, now, method="asymp").statistic)
    band = 1.358 * np.sqrt(1 / len(before) + 1 / len(now))
    low, high = max(0.0, value - band), min(1.0, value + band)
    return Signal(value, low, high, float(band), len(before), len(now))


def ks_vendor() -> Signal:
    """Never a value: the reason stands in its place."""
    return Signal(None, reason=KS_VENDOR_REASON)


def _too_few(before: int, now: int) -> Signal | None:
    if min(before, now) >= LEAST_LINES:
        return None
    reason = f"{before} lines of the baseline and {now} of the window, {LEAST_LINES} of each are needed"
    return Signal(None, baseline_lines=before, current_lines=now, reason=reason)


def _signal(before: NDArray[Any], now: NDArray[Any], size: int, seed: int, draws: int = 200) -> Signal:
    counts = [np.bincount(side, minlength=size).astype(float) for side in (before, now)]
    n, m = len(before), len(now)
    random = np.random.default_rng(seed)
    again = (random.multinomial(total, one / total, draws) for one, total in zip(counts, (n, m), strict=True))
    seen = [psi(e, a) for e, a in zip(*again, strict=True)]
    low, high = np.quantile(seen, [0.025, 0.975])
    used = int(((counts[0] + counts[1]) > 0).sum())
    # Of equal distributions n·m/(n+m) times PSI is chi-square with one degree less than bins (Yurdakul & Naranjo 2020).
    by_chance = float(chi2.ppf(0.95, used - 1) * (1 / n + 1 / m)) if used > 1 else 0.0
    return Signal(psi(*counts), float(low), float(high), by_chance, n, m)


def judge(
    *,
    psi: float | None = None,
    accuracy_drop: float | None = None,
    new_records: int | None = None,
    days_since_train: int | None = None,
    ocr_z: float | None = None,
) -> Verdict:
    """What signals mean: severity, and whether to retrain. One that is missing gives no reason, and no all-clear.

    `psi` is the largest of those that were computed, `accuracy_drop` a share (0.03 is three points). Retrains on medium
    or high severity with something to retrain: age alone, the extractor alone and a warning of PSI alone do not.
    """
    scope: list[Scope] = []
    reasons: list[str] = []

    def tell(happened: bool, reason: str, part: Scope | None = None) -> bool:
        if happened:
            reasons.append(reason)
            if part and part not in scope:
                scope.append(part)
        return happened

    alert = tell(psi is not None and psi >= ALERT, f"PSI {psi} is at least {ALERT}", "txn_classifier")
    drop = tell(
        accuracy_drop is not None and round(accuracy_drop, 9) >= ACCURACY_DROP,
        f"accuracy fell by {accuracy_drop}, {ACCURACY_DROP} is the limit", "txn_classifier",
    )  # fmt: skip
    warn = not alert and tell(psi is not None and psi >= WARN, f"PSI {psi} is at least {WARN}")
    many = tell(
        new_records is not None and new_records >= NEW_RECORDS,
        f"{new_records} new labels since the last training", "txn_classifier",
    )  # fmt: skip
    old = days_since_train is not None and days_since_train >= NOTICE_DAYS
    tell(
        old,
        f"trained {days_since_train} days ago",
        "txn_classifier" if old and days_since_train >= RETRAIN_DAYS else None,
    )
    tell(ocr_z is not None and abs(ocr_z) >= OCR_Z, f"vendor confidence of the extractor moved by {ocr_z} deviations",
         "ocr_extractor")  # fmt: skip
    severity: Severity = "high" if alert or drop else "medium" if warn or many else "low" if old else "none"
    return Verdict(severity, bool(scope) and severity in ("medium", "high"), tuple(scope), tuple(reasons))


def as_json(signals: dict[str, Signal]) -> dict[str, dict[str, Any]]:
    """Signals by name as plain values."""
    return {name: asdict(signal) for name, signal in signals.items()}
