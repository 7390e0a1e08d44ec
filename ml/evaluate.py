"""How good predictions and their probabilities were: accuracy, scores, calibration errors and what chance alone would show.

Arrays have one entry per line: `p` the probability of the proposed account in [0, 1], `right` whether it was the label.
Gates and their proofs stand in `certify`, changes over time in `drift`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 10  # of equal width
MASSES = 15  # of equal count
LEAST_IN_BIN = 100  # lines in a bin whose gap may fail a gate
_FINEST = 1e-12


@dataclass(frozen=True, slots=True)
class Bin:
    """Lines whose probability lies in [low, high), the last bin closed; `pred`, `obs` are None where it is empty."""

    low: float
    high: float
    count: int
    pred: float | None
    obs: float | None

    @property
    def gap(self) -> float:
        return 0.0 if self.pred is None or self.obs is None else abs(self.pred - self.obs)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and between which two it lies at the stated level."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Brier:
    """Murphy's parts of the Brier score of forecasts binned by equal count: score = reliability - resolution +
    uncertainty + within, where `within` is what the binning leaves over (Murphy 1973; Stephenson et al. 2008)."""

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


@dataclass(frozen=True, slots=True)
class RiskCoverage:
    """What share of the lines is covered, and how often the covered are right, when the surest lines come first.

    `area` is the mean risk over all coverages (AURC; Geifman, Uziel & El-Yaniv 2019); lines of equal probability enter
    together, so that their order in the data counts for nothing.
    """

    coverage: Floats
    accuracy: Floats
    area: float

    def accuracy_at(self, coverage: float) -> float:
        """How often right when at least this share is covered."""
        return float(
            self.accuracy[np.searchsorted(self.coverage, coverage - _FINEST).clip(max=len(self.coverage) - 1)]
        )


def _checked(p: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    probability, hit = np.asarray(p, dtype=float), np.asarray(right, dtype=float)
    if probability.shape != hit.shape or probability.ndim != 1:
        raise ValueError(
            f"p has shape {probability.shape} and right {hit.shape}; give two arrays of one length"
        )
    if np.isnan(probability).any():
        raise ValueError("a probability is missing; leave out lines without one")
    if len(probability) and not (probability.min() >= 0 and probability.max() <= 1):
        raise ValueError("a probability lies outside 0 to 1; give probabilities, not scores")
    return probability, hit


def _filled(index: NDArray[np.int64], edges: Floats, p: Floats, right: Floats) -> tuple[Bin, ...]:
    size = len(edges) - 1
    count = np.bincount(index, minlength=size)
    pred, obs = (np.bincount(index, weights=values, minlength=size) for values in (p, right))
    return tuple(
        Bin(float(edges[i]), float(edges[i + 1]), int(n), *((pred[i] / n, obs[i] / n) if n else (None, None)))
        for i, n in enumerate(count)
    )


def width_bins(p: ArrayLike, right: ArrayLike, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal width over [0, 1], every one of them listed, the last closed at 1."""
    probability, hit = _checked(p, right)
    edges = np.arange(bins + 1) / bins
    return _filled(_width_index(probability, bins), edges, probability, hit)


def _width_index(p: Floats, bins: int) -> NDArray[np.int64]:
    edges = np.arange(bins + 1) / bins
    return (np.searchsorted(edges, p, side="right") - 1).clip(0, bins - 1)


def _mass_index(p: Floats, bins: int) -> NDArray[np.int64]:
    # By rank, so that bins are equal; equal probabilities are kept in one bin, or the order of the data would count.
    order = np.sort(p)
    cuts = order[(np.arange(1, bins) * len(p)) // bins] if len(p) else np.empty(0)
    return np.searchsorted(np.unique(cuts), p, side="right")


def mass_bins(p: ArrayLike, right: ArrayLike, bins: int = MASSES) -> tuple[Bin, ...]:
    """Bins of about equal count; fewer of them where many lines share one probability."""
    probability, hit = _checked(p, right)
    if not len(probability):
        return ()
    index = np.unique(_mass_index(probability, bins), return_inverse=True)[1]
    lows = np.array([probability[index == i].min() for i in range(index.max() + 1)])
    return _filled(index, np.append(lows, probability.max()), probability, hit)


def merged(bins: tuple[Bin, ...], least: int = LEAST_IN_BIN) -> tuple[tuple[Bin, ...], tuple[str, ...]]:
    """Neighbours put together from below until each has `least` lines, what is left over joining the last; and the log
    of what was merged. For the gate on single gaps only: the ECE is of unmerged bins."""
    done: list[Bin] = []
    for one in bins:
        if done and done[-1].count < least:
            done[-1] = _joined(done[-1], one)
        else:
            done.append(one)
    while len(done) > 1 and done[-1].count < least:
        last = done.pop()
        done[-1] = _joined(done[-1], last)
    kept = {(one.low, one.high) for one in bins}
    log = tuple(
        f"{one.low:g}-{one.high:g} ({one.count} lines)" for one in done if (one.low, one.high) not in kept
    )
    return tuple(done), log


def _joined(first: Bin, second: Bin) -> Bin:
    count = first.count + second.count
    parts = [one for one in (first, second) if one.count]
    pred = sum(one.pred * one.count for one in parts) / count if parts else None
    obs = sum(one.obs * one.count for one in parts) / count if parts else None
    return Bin(first.low, second.high, count, pred, obs)


def ece(bins: tuple[Bin, ...]) -> float:
    """Expected calibration error: sum over bins of n_b/N times |mean p - mean right| (Naeini et al. 2015)."""
    lines = sum(one.count for one in bins)
    return sum(one.count * one.gap for one in bins) / lines if lines else float("nan")


def ece_width(p: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """ECE over bins of equal width, as `ece(width_bins(p, right))` and quicker."""
    probability, hit = _checked(p, right)
    return _ece_of(_width_index(probability, bins), probability, hit)


def ece_mass(p: ArrayLike, right: ArrayLike, bins: int = MASSES) -> float:
    """ECE over bins of equal count, the less biased of the two (Roelofs et al. 2022)."""
    probability, hit = _checked(p, right)
    return _ece_of(_mass_index(probability, bins), probability, hit)


def _ece_of(index: NDArray[np.int64], p: Floats, right: Floats) -> float:
    if not len(p):
        return float("nan")
    return float(np.abs(np.bincount(index, weights=p - right)).sum() / len(p))


def noise_floor(
    p: ArrayLike,
    measure: Callable[[ArrayLike, ArrayLike], float] = ece_mass,
    *,
    seed: int = 0,
    draws: int = 200,
) -> tuple[float, float]:
    """What a measure of calibration error shows for these confidences when they are exactly true: its mean and 95th
    percentile over `draws` simulated outcomes. An error below the second is no evidence of miscalibration at this n."""
    probability = np.asarray(p, dtype=float)
    if not len(probability):
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    seen = [measure(probability, random.random(len(probability)) < probability) for _ in range(draws)]
    return float(np.mean(seen)), float(np.quantile(seen, 0.95))


def brier(p: ArrayLike, right: ArrayLike) -> float:
    """Top-label Brier score: mean of (p - right) squared."""
    probability, hit = _checked(p, right)
    return float(np.mean((probability - hit) ** 2)) if len(hit) else float("nan")


def brier_parts(p: ArrayLike, right: ArrayLike, bins: int = MASSES) -> Brier:
    """The top-label Brier score taken apart."""
    score, rate = brier(p, right), float(np.mean(np.asarray(right, dtype=float)))
    parts = mass_bins(p, right, bins)
    lines = sum(one.count for one in parts)
    reliability = sum(one.count * one.gap**2 for one in parts) / lines
    resolution = sum(one.count * (one.obs - rate) ** 2 for one in parts if one.obs is not None) / lines
    uncertainty = rate * (1 - rate)
    return Brier(score, reliability, resolution, uncertainty, score - reliability + resolution - uncertainty)


def brier_multiclass(top_p: ArrayLike, top_account: ArrayLike, label: ArrayLike) -> float:
    """Multi-class Brier score, 0 to 2, of the logged likeliest accounts, all others counting as one more class.

    `top_p` and `top_account` have a row per line and a column per logged account, NaN and None where there was none.
    """
    probability = np.nan_to_num(np.asarray(top_p, dtype=float))
    hit = np.asarray(top_account, dtype=object) == np.asarray(label, dtype=object)[:, None]
    rest = (1 - probability.sum(axis=1)).clip(0, 1)
    return float(np.mean(((probability - hit) ** 2).sum(axis=1) + (rest - ~hit.any(axis=1)) ** 2))


def log_loss(p: ArrayLike, right: ArrayLike) -> float:
    """Mean negative log likelihood of right and wrong in nats, top label against all others."""
    probability, hit = _checked(p, right)
    probability = probability.clip(_FINEST, 1 - _FINEST)
    return float(-np.mean(np.where(hit > 0, np.log(probability), np.log1p(-probability))))


def macro_f1(predicted: ArrayLike, label: ArrayLike) -> float:
    """Mean F1 over the accounts that occur among labels or predictions, as scikit-learn's `f1_score(average="macro")`
    without a list of labels takes them. A line without a prediction counts as wrong and adds no account."""
    told, truth = pd.Series(predicted, dtype=object), pd.Series(label, dtype=object)
    right = told[told.to_numpy() == truth.to_numpy()].value_counts()
    both = told.value_counts().add(truth.value_counts(), fill_value=0)
    return float((2 * right.reindex(both.index, fill_value=0) / both).mean()) if len(both) else float("nan")


def risk_coverage(p: ArrayLike, right: ArrayLike) -> RiskCoverage:
    """The curve of accuracy against coverage, one point per distinct probability from the surest on."""
    probability, hit = _checked(p, right)
    if not len(hit):
        return RiskCoverage(np.empty(0), np.empty(0), float("nan"))
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(hit) - 1)
    hits, counts = np.cumsum(hit[order])[ends], ends + 1
    steps = np.diff(counts, prepend=0)
    return RiskCoverage(
        counts / len(hit), hits / counts, float((steps * (1 - hits / counts)).sum() / len(hit))
    )


def bootstrap(
    measure: Callable[..., float],
    *arrays: ArrayLike,
    cluster: ArrayLike | None = None,
    seed: int = 0,
    draws: int = 200,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of `measure(*arrays)` over resampled lines, or over resampled clusters (say cards) of lines,
    which is wider where lines of one cluster go wrong together."""
    data = [np.asarray(one) for one in arrays]
    lines, random = len(data[0]), np.random.default_rng(seed)
    groups: list[NDArray[np.int64]] | None = None
    if cluster is not None:
        codes = pd.factorize(np.asarray(cluster, dtype=object))[0]
        groups = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    seen = np.empty(draws)
    for draw in range(draws):
        if groups is None:
            chosen = random.integers(0, lines, lines)
        else:
            chosen = np.concatenate([groups[i] for i in random.integers(0, len(groups), len(groups))])
        seen[draw] = measure(*(one[chosen] for one in data))
    low, high = np.nanquantile(seen, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(measure(*data)), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How far people agree with themselves: over pairs of lines of one tenant, card, vendor and month."""

    pairs: int
    agreement: float
    lines: int


def human_ceiling(frame: pd.DataFrame) -> Ceiling:
    """The share of line pairs with the same account among lines of the same tenant, card, vendor and month (needs the
    columns tenant, card, vendor, post_date, account): nobody who sees only these can be right more often for long."""
    lines = frame[frame["account"].notna() & (frame["vendor"] != "")]
    month = pd.to_datetime(lines["post_date"]).dt.to_period("M").rename("month")
    place = [lines["tenant"], lines["card"], lines["vendor"], month]
    together = lines.groupby(place, observed=True).size()
    same = lines.groupby([*place, lines["account"]], observed=True).size()
    pairs = int((together * (together - 1) // 2).sum())
    agreeing = int((same * (same - 1) // 2).sum())
    return Ceiling(pairs, agreeing / pairs if pairs else float("nan"), int(together[together > 1].sum()))
