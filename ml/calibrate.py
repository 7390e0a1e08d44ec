"""From raw probabilities to calibrated ones: monotone maps fitted on predictions logged before their labels were known.

A map is a dictionary that JSON can hold, so that it is kept in a table and read by anybody; how good it is, `evaluate`
says, and from where on lines may be posted, `certify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

Method = Literal["isotonic", "platt", "temperature", "none"]
Parameters = Mapping[str, Any]
Floats = NDArray[np.float64]

WINDOW_MONTHS = 3  # of logged predictions; older ones tell of a model and of merchants that are gone
LEAST_LINES = 50  # under which not even one number can be fitted
ISOTONIC_LINES, ISOTONIC_ERRORS = 500, 50  # a step function needs them, or it follows single lines
CROSS_FIT_BELOW = 500
SHRINKAGE = 500  # lines at which a tenant's own map counts as much as the shared one
_FOLDS = 5
_HELD_OUT = 1 / 3
_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A fitted map, why it was chosen and on how much. `log_loss`: of each method, per line, on lines it was not fitted on
    (`raw`: of the probabilities as they came)."""

    method: Method
    parameters: dict[str, Any]
    lines: int
    errors: int
    log_loss: dict[str, float]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a new map does otherwise than the last one: methods, and by how much probabilities move, over the grid
    0.01 … 0.99 and over the lines it was fitted on."""

    before: str
    after: str
    largest: float
    largest_at: float
    mean: float


def window(logged: pd.DataFrame, *, at: datetime, months: int = WINDOW_MONTHS) -> pd.DataFrame:
    """Predictions of the last months that were logged before their label, and whose label was known by `at`.

    Needs the columns decided_at, labelled_at (UTC), post_date, txn, raw_p, account; sorted by time.
    """
    since = pd.Timestamp(at) - pd.DateOffset(months=months)
    known = logged["account"].notna() & (logged["labelled_at"] < at) & (logged["decided_at"] >= since)
    told = known & (logged["decided_at"] < logged["labelled_at"]) & logged["raw_p"].notna()
    return logged[told].sort_values(["decided_at", "post_date", "txn"], kind="stable")


def fit(raw_p: ArrayLike, right: ArrayLike, weight: ArrayLike | None = None) -> Calibrator:
    """The monotone map that predicted best what it was not fitted on, then fitted on all lines.

    Lines are in the order of time. From 500 lines on, methods are compared on the last third, fitted on the rest; with
    fewer, on each fifth of the time, fitted on the others. Isotonic takes part from 500 lines and 50 errors on. With
    fewer than 50 lines there is no map (method `none`), and so no calibrated probability.
    """
    p, hit = np.asarray(raw_p, dtype=float), np.asarray(right, dtype=float)
    w = np.ones(len(p)) if weight is None else np.asarray(weight, dtype=float)
    lines, errors = len(p), int((hit == 0).sum())
    if lines < LEAST_LINES:
        reason = f"{lines} lines with a later label, {LEAST_LINES} are needed"
        return Calibrator("none", {"method": "none"}, lines, errors, {}, reason)
    losses = {"raw": _loss(p, hit, w)}
    for method in _FITS:
        if method == "isotonic" and (lines < ISOTONIC_LINES or errors < ISOTONIC_ERRORS):
            continue
        losses[method] = _held_out_loss(method, p, hit, w)
    best: Method = min((name for name in losses if name != "raw"), key=lambda name: losses[name])  # type: ignore[assignment]
    return Calibrator(best, _fitted(best, p, hit, w), lines, errors, losses)


def shrunk(own: Calibrator, shared: Calibrator) -> Calibrator:
    """A tenant's map drawn to the one of those it learns with: own lines / (own lines + 500) is the weight of its own.

    A mean of two monotone maps is monotone. Without an own map the shared one holds; without either, none.
    """
    if shared.method == "none":
        return own
    share = own.lines / (own.lines + SHRINKAGE) if own.method != "none" else 0.0
    if not share:
        return Calibrator(
            shared.method, shared.parameters, own.lines, own.errors, shared.log_loss, own.reason
        )
    parameters = {"method": own.method, "share": share, "own": own.parameters, "shared": shared.parameters}
    return Calibrator(own.method, parameters, own.lines, own.errors, own.log_loss)


def apply(parameters: Parameters, raw_p: ArrayLike) -> Floats:
    """Calibrated probabilities, of the same length; NaN for every line where the method is `none`."""
    p = np.asarray(raw_p, dtype=float)
    if parameters["method"] == "none":
        return np.full(p.shape, np.nan)
    if "share" in parameters:
        share = parameters["share"]
        return share * apply(parameters["own"], p) + (1 - share) * apply(parameters["shared"], p)
    low, high = parameters["clip"]
    return _MAPS[parameters["method"]](parameters, p).clip(low, high)


def compare(before: Parameters, after: Parameters, raw_p: ArrayLike) -> Change:
    """What changes for lines with these raw probabilities; zeros where one of the two is no map."""
    grid = np.arange(1, 100) / 100
    moved = np.nan_to_num(apply(after, grid) - apply(before, grid))
    lines = np.nan_to_num(apply(after, raw_p) - apply(before, raw_p))
    at = int(np.abs(moved).argmax())
    mean = float(np.abs(lines).mean()) if len(lines) else 0.0
    return Change(before["method"], after["method"], float(moved[at]), float(grid[at]), mean)


def half_life(decided_at: pd.Series, *, at: datetime, days: float) -> Floats:
    """Weights that halve with every `days` of age."""
    return np.exp2(-((pd.Timestamp(at) - decided_at) / pd.Timedelta(days=days)).to_numpy(dtype=float))


def _held_out_loss(method: str, p: Floats, hit: Floats, weight: Floats) -> float:
    lines = len(p)
    if lines >= CROSS_FIT_BELOW:
        folds = [np.arange(lines) >= round(lines * (1 - _HELD_OUT))]
    else:
        folds = [np.arange(lines) * _FOLDS // lines == fold for fold in range(_FOLDS)]
    guess = np.full(lines, np.nan)
    for out in folds:
        guess[out] = apply(_fitted(method, p[~out], hit[~out], weight[~out]), p[out])
    seen = ~np.isnan(guess)
    return _loss(guess[seen], hit[seen], weight[seen])


def _loss(p: Floats, hit: Floats, weight: Floats) -> float:
    p = p.clip(_EDGE, 1 - _EDGE)
    return float(-np.average(hit * np.log(p) + (1 - hit) * np.log1p(-p), weights=weight))


def _fitted(method: str, p: Floats, hit: Floats, weight: Floats) -> dict[str, Any]:
    # No more certainty than n lines can give, by Laplace's rule of succession.
    low = 1 / (len(p) + 2)
    return {"method": method, **_FITS[method](p, hit, weight), "clip": [low, 1 - low]}


def _fit_temperature(p: Floats, hit: Floats, weight: Floats) -> dict[str, Any]:
    # Guo et al. 2017, with the one logit that a top label has.
    z = logit(p.clip(_EDGE, 1 - _EDGE))
    found = minimize_scalar(
        lambda log_t: _loss(expit(z / np.exp(log_t)), hit, weight), bounds=(-3, 3), method="bounded"
    )
    return {"temperature": float(np.exp(found.x))}


def _fit_platt(p: Floats, hit: Floats, weight: Floats) -> dict[str, Any]:
    # Platt 1999, with his smoothed targets, over logits; the slope is held above 0 so that order is kept.
    z, wins = logit(p.clip(_EDGE, 1 - _EDGE)), hit.sum()
    target = np.where(hit > 0, (wins + 1) / (wins + 2), 1 / (len(hit) - wins + 2))

    def loss(at: Floats) -> tuple[float, Floats]:
        value = expit(at[0] * z + at[1])
        slope = weight * (value - target) / weight.sum()
        return _loss(value, target, weight), np.array([slope @ z, slope.sum()])

    found = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (None, None)]
    )
    return {"slope": float(found.x[0]), "intercept": float(found.x[1])}


def _fit_isotonic(p: Floats, hit: Floats, weight: Floats) -> dict[str, Any]:
    # Pool-adjacent-violators, then straight lines between the centres of its blocks (centred isotonic regression, Oron &
    # Flournoy 2017): the order of lines within a block, which plain steps would lose, is what a threshold needs.
    steps = IsotonicRegression(y_min=0, y_max=1).fit_transform(p, hit, sample_weight=weight)
    block = np.unique(steps, return_inverse=True)[1]
    mass = np.bincount(block, weights=weight)
    centre = np.bincount(block, weights=weight * p) / mass
    height = np.bincount(block, weights=weight * steps) / mass
    return {"x": [round(v, 9) for v in centre.tolist()], "y": [round(v, 9) for v in height.tolist()]}


_FITS: dict[str, Callable[[Floats, Floats, Floats], dict[str, Any]]] = {
    "temperature": _fit_temperature,
    "platt": _fit_platt,
    "isotonic": _fit_isotonic,
}
_MAPS: dict[str, Callable[[Parameters, Floats], Floats]] = {
    "temperature": lambda given, p: expit(logit(p.clip(_EDGE, 1 - _EDGE)) / given["temperature"]),
    "platt": lambda given, p: expit(given["slope"] * logit(p.clip(_EDGE, 1 - _EDGE)) + given["intercept"]),
    "isotonic": lambda given, p: np.interp(p, given["x"], given["y"]),
}
