"""From which probability on lines may be posted, proven on lines that people checked, and what closes that gate early.

Proofs are of predictions logged before their label was known. Bounds assume that the next lines are like the checked ones;
they never quite are, so that the target rises where a promise was missed (head-room), and alarms close the gate early.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, binom

Bools = NDArray[np.bool_]

DELTA = 0.05  # how often a bound may be wrong
PROMISE = 0.90  # precision of what is posted
# What is certified at first, tenant by tenant: the least that any may come to. What passes is right two to three points more
# where that did not suffice, `next_target` aims higher.
TARGET = 0.90
# Nothing under it is posted on the strength of what is surer: of such lines one in five is wrong. It is where most walks end, so
# that no tenant's lines pass that are less sure than another's that wait.
FLOOR = 0.79
_GROWTH = 1.05  # each step of the walk covers this many times the lines of the one before


@dataclass(frozen=True, slots=True)
class Step:
    """One threshold of the walk: checked lines at or above it, how many were right, and the lower bound."""

    threshold: float
    checked: int
    right: int
    lower_bound: float


@dataclass(frozen=True, slots=True)
class Certificate:
    """The lowest threshold whose precision is proven to be at least `target`; without one the gate is closed, and
    `reason` says why in words for people. `steps` are the thresholds that were tested, in order."""

    threshold: float | None
    target: float
    checked: int
    right: int
    lower_bound: float
    reason: str | None = None
    steps: tuple[Step, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Shift:
    """How far the accounts of the newest labels are from those of a certificate: the total variation distance (share of
    lines that would have to change account), what of it chance explains on average, and whether it closes the gate."""

    distance: float
    by_chance: float
    closes: bool
    reason: str | None


def lower_bound(right: int, checked: int, delta: float = DELTA) -> float:
    """The one-sided lower bound of a share that is wrong at most with probability `delta` (Clopper & Pearson 1934)."""
    if not 0 <= right <= checked:
        raise ValueError(f"{right} right of {checked} checked lines; the first cannot exceed the second")
    return float(beta.ppf(delta, right, checked - right + 1)) if right else 0.0


def least_checked(target: float, delta: float = DELTA) -> int:
    """Fewest checked lines that could prove a precision with no error among them: 29 for 0.90, 59 for 0.95."""
    return int(np.ceil(np.log(delta) / np.log(target)))


@cache
def audit_size(target: float, truth: float, delta: float = DELTA) -> int:
    """How many lines, drawn at random, must be checked to prove `target` when the precision really is `truth`: the least
    number that passes when errors come in their expected number (about 650 for 0.90 when 0.92 is true)."""
    if not target < truth <= 1:
        raise ValueError(f"a precision of {truth} cannot prove {target}; the truth must lie above the target")
    low, high = 1, least_checked(target, delta)
    while lower_bound(int(np.floor(high * truth)), high, delta) < target:
        low, high = high, high * 2
    # Not quite monotone, for the errors are whole numbers: the first that passes is looked for.
    return next(n for n in range(low, high + 1) if lower_bound(int(np.floor(n * truth)), n, delta) >= target)


def checkable(logged: pd.DataFrame) -> pd.DataFrame:
    """Logged predictions whose check tells of what would be posted: all that a person reviewed, and of the posted ones
    those drawn by lot. A posted line that somebody happened to correct is left out, for nobody corrects what is right; so
    is one that another gate than the probability held back (`held`, where the column is there).

    Needs the columns verdict, is_audited, proposed, account.
    """
    known = logged["account"].notna() & logged["proposed"].notna()
    drawn = (logged["verdict"] != "posted") | logged["is_audited"]
    return logged[known & drawn & ~logged.get("held", pd.Series(False, index=logged.index)).astype(bool)]


def certify(
    p: ArrayLike, right: ArrayLike, *, target: float = TARGET, delta: float = DELTA, floor: float = FLOOR
) -> Certificate:
    """Walks down from the surest lines, each step covering 5 % more of them and none under `floor`, and stops at the first
    whose lower bound is under `target`.

    Fixed-sequence testing (Maurer et al. 1995; as a case of Learn then Test, Angelopoulos et al. 2021): the steps are
    fixed by the order of the lines and never by outcomes, so that each may spend the whole of `delta`, and any monotone
    map of `p` leads through the same steps. The first holds half of the lines above the floor, so that one bad day among
    the surest does not end the walk, and at least as many as would pass at half the errors that the target allows; where
    there are not as many, those that would pass with no error.
    """
    probability, hit = np.asarray(p, dtype=float), np.asarray(right, dtype=bool)
    order = np.argsort(-probability, kind="stable")
    probability, hits = probability[order], np.cumsum(hit[order])
    # Lines of one probability pass together, so a step ends where the next line has another.
    ends = np.flatnonzero(np.append(np.diff(probability) != 0, len(probability) > 0)) + 1
    ends = ends[probability[ends - 1] >= floor]
    held = int(ends[-1]) if len(ends) else 0
    least = least_checked(target, delta)
    if held < least:
        reason = f"{held} checked lines with a probability of {floor:g} or above, {least} are needed"
        return Certificate(None, target, held, 0, 0.0, reason)
    enough = max(audit_size(target, (1 + target) / 2, delta), held // 2)
    steps: list[Step] = []
    for count in _counts(enough if held >= enough else least, ends):
        steps.append(
            Step(
                float(probability[count - 1]),
                count,
                int(hits[count - 1]),
                lower_bound(int(hits[count - 1]), count, delta),
            )
        )
        if steps[-1].lower_bound < target:
            break
    passed = [step for step in steps if step.lower_bound >= target]
    if not passed:
        tried = steps[0]
        reason = (
            f"{tried.right} of {tried.checked} checked lines with a probability of {tried.threshold:.3f} or above were"
            f" right, which proves {tried.lower_bound:.3f} and not {target:g}"
        )
        return Certificate(None, target, tried.checked, tried.right, tried.lower_bound, reason, tuple(steps))
    best = passed[-1]
    return Certificate(best.threshold, target, best.checked, best.right, best.lower_bound, None, tuple(steps))


def _counts(first: int, ends: NDArray[np.int64]) -> list[int]:
    wanted = first * _GROWTH ** np.arange(
        max(1, int(np.ceil(np.log(ends[-1] / first) / np.log(_GROWTH))) + 1)
    )
    at = np.searchsorted(ends, np.ceil(wanted)).clip(max=len(ends) - 1)
    return np.unique(ends[at]).tolist()


def next_target(
    last: float,
    checked: int,
    right: int,
    *,
    base: float = TARGET,
    promise: float = PROMISE,
    wider: float = 0.02,
    narrower: float = 0.005,
    most: float = 0.98,
) -> float:
    """The target of the next certificate, after what came of the last one: raised at once when the checked lines refute
    the promise (with fewer errors than these in 95 of 100 cases, were it kept), lowered slowly towards `base` otherwise.
    A month with fewer lines than could prove the promise changes nothing."""
    if checked < least_checked(promise):
        return last
    if binom.cdf(right, checked, promise) < DELTA:
        return round(min(most, last + wider), 6)
    return round(max(base, last - narrower), 6)


def label_shift(
    certified: pd.Series,
    newest: pd.Series,
    *,
    limit: float = 0.25,
    least: int = 50,
    seed: int = 0,
    draws: int = 200,
) -> Shift:
    """Whether the accounts of the newest labels are others than those of the labels a certificate was made of.

    Closes the gate when the total variation distance is above `limit` even after what two samples of these sizes from one
    mix show on average, which with a hundred accounts is much. Fewer than `least` newest labels say nothing.
    """
    counts = pd.DataFrame({"before": certified.value_counts(), "now": newest.value_counts()}).fillna(0.0)
    if len(newest) < least or len(certified) < least:
        return Shift(float("nan"), float("nan"), False, None)
    before, now = (counts[side].to_numpy() / counts[side].sum() for side in ("before", "now"))
    mix = counts.sum(axis=1).to_numpy() / counts.to_numpy().sum()
    random = np.random.default_rng(seed)
    one, other = (random.multinomial(len(side), mix, draws) / len(side) for side in (certified, newest))
    by_chance = float(np.abs(one - other).sum(axis=1).mean() / 2)
    distance = float(np.abs(before - now).sum() / 2)
    if distance - by_chance <= limit:
        return Shift(distance, by_chance, False, None)
    most = int(np.abs(before - now).argmax())
    reason = (
        f"{distance:.0%} of the newest {len(newest)} labels are on other accounts than certified on ({by_chance:.0%} by chance),"
        f" most on or from {counts.index[most]} ({before[most]:.0%} to {now[most]:.0%})"
    )
    return Shift(distance, by_chance, True, reason)


def disputed(lines: pd.DataFrame, labels: pd.DataFrame, *, last: int = 2) -> Bools:
    """Lines whose merchant people have begun to book otherwise: the last labels of the same tenant, vendor and card (of
    the tenant and vendor, where the card has fewer than `last`) name one and the same account, and not the proposed one.

    `lines` has tenant, vendor, card, proposed; `labels`, known before the lines, tenant, vendor, card, account,
    labelled_at, post_date, txn.
    """
    known = labels[labels["account"].notna() & (labels["vendor"] != "")]
    known = known.sort_values(["labelled_at", "post_date", "txn"], kind="stable")
    found, judged = np.zeros(len(lines), dtype=bool), np.zeros(len(lines), dtype=bool)
    for place in (["tenant", "vendor", "card"], ["tenant", "vendor"]):
        newest = known.groupby(place, observed=True).tail(last).groupby(place, observed=True)["account"]
        told = newest.agg(["size", "nunique", "last"])
        told = told[told["size"] >= last]
        at = told.index.get_indexer(pd.MultiIndex.from_frame(lines[place]))
        here = at >= 0
        moved = here.copy()
        moved[here] = (told["nunique"].to_numpy()[at[here]] == 1) & (
            told["last"].to_numpy()[at[here]] != lines["proposed"].to_numpy()[here]
        )
        found |= moved & ~judged
        judged |= here
    return found


def floods(lines: pd.DataFrame, labels: pd.DataFrame, *, most: int = 30) -> Bools:
    """Lines of a vendor that nobody of the tenant has labelled yet and of which there are more than `most` at once: if
    they are proposed wrongly, they are all wrong together. Columns: tenant and vendor of both."""
    place = ["tenant", "vendor"]
    known = pd.MultiIndex.from_frame(labels.loc[labels["account"].notna(), place].drop_duplicates())
    new = ~pd.MultiIndex.from_frame(lines[place]).isin(known) & (lines["vendor"] != "").to_numpy()
    many = lines.groupby(place)["vendor"].transform("size").to_numpy() > most
    return np.asarray(new & many)
