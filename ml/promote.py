"""A candidate beside the active model on the same lines, and whether it may take its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ml import evaluate
from ml.evaluate import Interval

LEAST_LINES = 200
WORSE = 0.01  # what a candidate may lack: less is within what months differ by


@dataclass(frozen=True, slots=True)
class Comparison:
    """`difference` is the candidate's accuracy less the active model's on the same lines with its paired bootstrap
    interval; `p_value` McNemar's exact one. What is refused has `reasons`."""

    lines: int
    promote: bool
    reasons: tuple[str, ...]
    difference: Interval | None = None
    p_value: float | None = None
    macro_f1: tuple[float, float] | None = None
    ece: tuple[float, float] | None = None
    ece_floor: float | None = None
    new_vendors: Interval | None = None


def compare(active: pd.DataFrame, candidate: pd.DataFrame, *, seed: int = 0) -> Comparison:
    """Judges predictions of two models for one common window that neither was trained on.

    Both frames have txn, card, proposed, raw_p, account (the label) and is_new_vendor, and the same lines; `active` comes
    first in each pair. Refuses on fewer than 200 lines, on accuracy or macro-F1 lower by more than 0.01, on accuracy that is
    lower beyond chance, on probabilities further off than the active model's and than chance explains, and where new
    vendors lose more than 0.01 beyond chance.
    """
    if (
        set(active["txn"]) != set(candidate["txn"])
        or active["txn"].duplicated().any()
        or len(active) != len(candidate)
    ):
        raise ValueError(
            "the two models were not asked about the same lines; score one common window by both"
        )
    both = active.set_index("txn"), candidate.set_index("txn").loc[active["txn"].to_numpy()]
    if len(active) < LEAST_LINES:
        return Comparison(len(active), False, (f"{len(active)} common lines, {LEAST_LINES} are needed",))
    old, new = ((one["proposed"] == one["account"]).to_numpy(dtype=float) for one in both)
    better, worse = int(((new == 1) & (old == 0)).sum()), int(((old == 1) & (new == 0)).sum())
    p_value = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    difference = _difference(old, new, both[0]["card"], seed)
    f1 = tuple(evaluate.macro_f1(one["proposed"], one["account"]) for one in both)
    ece = tuple(evaluate.ece_mass(one["raw_p"], hit) for one, hit in zip(both, (old, new), strict=True))
    floor = evaluate.noise_floor(both[1]["raw_p"], seed=seed)[1]
    fresh = both[0]["is_new_vendor"].to_numpy(dtype=bool)
    slice_ = (
        _difference(old[fresh], new[fresh], both[0]["card"][fresh], seed)
        if fresh.sum() >= LEAST_LINES
        else None
    )
    reasons = []
    if difference.value < -WORSE or difference.high < 0:
        reasons.append(
            f"accuracy differs by {difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"
        )
    if f1[1] < f1[0] - WORSE:
        reasons.append(f"macro-F1 is {f1[1]:.3f} and was {f1[0]:.3f}")
    if ece[1] > max(ece[0] + WORSE, floor):
        reasons.append(f"calibration error is {ece[1]:.3f} and was {ece[0]:.3f}, chance explains {floor:.3f}")
    if slice_ and slice_.value < -WORSE and slice_.high < 0:
        reasons.append(f"on new vendors accuracy differs by {slice_.value:+.3f} (to {slice_.high:+.3f})")
    return Comparison(
        len(active),
        not reasons,
        tuple(reasons),
        difference,
        p_value,
        (f1[0], f1[1]),
        (ece[0], ece[1]),
        floor,
        slice_,
    )


def _difference(old: np.ndarray, new: np.ndarray, card: pd.Series, seed: int) -> Interval:
    return evaluate.bootstrap(lambda a, b: float((b - a).mean()), old, new, cluster=card, seed=seed)
