"""What came of actions: how an effect is estimated and judged, and the closed results that the kernel learns from.

Which days are compared, and writing the verdicts down, is the work of `observe`. Statistics are floats; what is
stored is rounded to decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist
from typing import Literal
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from kernel.actions.baseline import DAYS
from kernel.decisions.contract import ActionResult
from models.statements import statements

NEUTRAL = 0.02  # of the baseline: a smaller change is no change, however surely it is measured
RELEVANT = 0.05  # of the baseline: what an action that promises nothing in particular ought to have moved
MIN_BASELINE_DAYS = 7
MIN_ARM_DAYS = 3
_SEASON_DAYS = 28  # from here on each day of the week has been seen four times
_MAX_PERSISTENCE = 0.99
_NORMAL = NormalDist()

Outcome = Literal["improved", "hurt", "neutral", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """An effect in the metric's unit. `scale` is the size of the baseline, which percentages refer to."""

    method: Literal["forecast", "split", "economics"]
    expected: float
    observed: float
    stderr: float
    df: float
    scale: float

    @property
    def effect(self) -> float:
        return self.observed - self.expected

    @property
    def half_width(self) -> float:
        """Of the 95 % interval around the effect."""
        return t_quantile(0.975, self.df) * self.stderr

    @property
    def minimum_detectable(self) -> float:
        """The effect that would be found four times in five, at 95 % confidence."""
        return (t_quantile(0.975, self.df) + t_quantile(0.8, self.df)) * self.stderr


@dataclass(frozen=True, slots=True)
class Verdict:
    """`confidence` is the probability that the outcome is true; when inconclusive, of the sign that was seen."""

    outcome: Outcome
    confidence: float


def forecast(before: Mapping[int, float], after: Mapping[int, float], applied: int) -> Estimate | None:
    """How far the mean of `after` lies from the mean of the 14 days before `applied` carried on by their trend.

    Both map a day's ordinal to its value. The trend is the Theil-Sen slope over all of `before`; days of the week
    are levelled once four weeks are known. The variance is that of the weighted sum of all days involved under
    noise that persists from day to day (AR(1)), since canonical metrics look back over weeks. None when fewer than
    seven days are known.
    """
    days = np.array(sorted(before))
    base = days >= applied - DAYS
    if base.sum() < MIN_BASELINE_DAYS or not after:
        return None
    later = np.array(sorted(after))
    values = np.array([before[day] for day in days])
    outcome = np.array([after[day] for day in later])

    slope = _theil_sen(days, values)
    residuals = values - slope * days
    residuals -= residuals.mean()
    spent = 2  # degrees of freedom: level and slope
    if len(days) >= _SEASON_DAYS:
        season = _weekday_effects(days, residuals)
        values, residuals = values - season[days % 7], residuals - season[days % 7]
        outcome = outcome - season[later % 7]
        spent += 6
    lead = later.mean() - days[base].mean()
    expected = values[base].mean() + slope * lead

    around = days - days.mean()
    weights = -(base / base.sum()) - lead * around / (around**2).sum()
    weights = np.concatenate([weights, np.full(len(later), 1 / len(later))])
    deviations = outcome - slope * later
    persistence, variance, df = _noise(days, residuals, later, deviations - deviations.mean(), spent)
    distance = np.abs(np.subtract.outer(np.concatenate([days, later]), np.concatenate([days, later])))
    stderr = math.sqrt(max(0.0, variance * float(weights @ persistence**distance @ weights)))
    return Estimate(
        "forecast", float(expected), float(outcome.mean()), stderr, df, float(np.abs(values[base]).mean())
    )


def split(control: Sequence[float], treatment: Sequence[float]) -> Estimate | None:
    """The difference of the means of two randomised arms by Welch's interval; None below three days each.

    The interval is widened by what days that resemble the day before do not tell anew.
    """
    if min(len(control), len(treatment)) < MIN_ARM_DAYS:
        return None
    arms = [np.array(control, dtype=float), np.array(treatment, dtype=float)]
    shares = [float(arm.var(ddof=1)) / len(arm) for arm in arms]
    spread = sum(share**2 / (len(arm) - 1) for share, arm in zip(shares, arms, strict=True))
    df = sum(shares) ** 2 / spread if spread > 0 else float(len(control) + len(treatment) - 2)
    means = [float(arm.mean()) for arm in arms]
    persistence = _persistence([arm - arm.mean() for arm in arms])
    stderr = math.sqrt(sum(shares) * (1 + persistence) / (1 - persistence))
    return Estimate("split", means[0], means[1], stderr, df, float(np.abs(arms[0]).mean()))


def verdict(estimate: Estimate, good: int, relevant: float = RELEVANT) -> Verdict:
    """Judges an effect. `good` is +1 when more is better, -1 when less is, 0 when the metric should stay.

    Beyond the noise and beyond 2 % of the baseline it is improved or hurt. Otherwise it is neutral when the interval
    leaves no room for an effect of `relevant` (a share of the baseline), and inconclusive when it does.
    """
    effect, half, scale = estimate.effect, estimate.half_width, estimate.scale
    outcome: Outcome = "inconclusive"
    if good == 0:
        if abs(effect) + half <= RELEVANT * scale:
            outcome = "improved"
        elif abs(effect) - half > RELEVANT * scale:
            outcome = "hurt"
    elif abs(effect) > max(half, NEUTRAL * scale):
        outcome = "improved" if effect * good > 0 else "hurt"
    elif half <= NEUTRAL * scale or abs(effect) + half <= relevant * scale:
        outcome = "neutral"
    return Verdict(outcome, _confidence(estimate, outcome, good, relevant))


def economics(judged: Mapping[str, tuple[Estimate, int]]) -> tuple[Estimate, Verdict] | None:
    """One verdict over the economic metrics, each with its good direction: the mean of their changes in percent.

    They are made of the same costs, so their errors are taken to add up in full. None when none can be measured.
    """
    usable = [(estimate, good) for estimate, good in judged.values() if estimate.scale > 0]
    if not usable:
        return None
    effect = sum(100 * good * estimate.effect / estimate.scale for estimate, good in usable) / len(usable)
    stderr = sum(100 * estimate.stderr / estimate.scale for estimate, _ in usable) / len(usable)
    df = min(estimate.df for estimate, _ in usable)
    whole = Estimate("economics", 0.0, effect, stderr, df, 100.0)
    return whole, verdict(whole, 1)


def recent(
    connection: sa.Connection, tenant_ids: Sequence[UUID], limit: int = 50
) -> dict[UUID, tuple[ActionResult, ...]]:
    """The newest results of each tenant, newest first; () for a tenant without any.

    What its own abort condition took back counts as a harm to economics, so that the kernel does not propose it again.
    """
    found: dict[UUID, list[ActionResult]] = {tenant_id: [] for tenant_id in tenant_ids}
    asked = {"tenant_ids": list(tenant_ids), "limit": limit}
    for row in connection.execute(statements("results")["recent"], asked):
        told = row.metadata
        found[row.tenant_id].append(
            ActionResult(
                action_id=row.action_id,
                target_metric=row.target_metric,
                baseline_value=row.baseline_value,
                observed_value=row.observed_value,
                delta=row.delta,
                confidence=row.confidence,
                outcome=row.outcome,
                economic_deltas=row.economic_deltas,
                family=row.family,
                closed_at=row.closed_at,
                effect_pct=told.get("effect_pct"),
                effect_stderr_pct=told.get("effect_stderr_pct"),
                economics="hurt" if row.was_taken_back else told["economics"]["outcome"],
                weight=1 if row.was_taken_back else told["weight"],
                economics_weight=1
                if row.was_taken_back
                else _share(told["economics"].get("confounded_by", ())),
            )
        )
    return {tenant_id: tuple(results) for tenant_id, results in found.items()}


def _share(others: Sequence[str]) -> Decimal:
    """The part of one among as many that were in force."""
    return rounded(1 / (1 + len(others)))


def t_quantile(probability: float, df: float) -> float:
    """Student's t by the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5): within 1 % from two degrees on."""
    z = _NORMAL.inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / df**power for power, term in enumerate(terms, start=1))


def rounded(value: float) -> Decimal:
    """For storing: twelve significant digits."""
    return Decimal(f"{value:.12g}")


def _confidence(estimate: Estimate, outcome: Outcome, good: int, relevant: float) -> float:
    if estimate.stderr == 0:
        return 1.0
    around = NormalDist(estimate.effect, estimate.stderr)
    bound = (RELEVANT if good == 0 else max(relevant, NEUTRAL)) * estimate.scale
    within = around.cdf(bound) - around.cdf(-bound)
    if outcome == "neutral" or (good == 0 and outcome == "improved"):
        return within
    if good == 0 and outcome == "hurt":
        return 1 - within
    return _NORMAL.cdf(abs(estimate.effect) / estimate.stderr)


def _theil_sen(days: np.ndarray, values: np.ndarray) -> float:
    """The median of the slopes between all pairs: one day gone wrong does not turn it."""
    first, second = np.triu_indices(len(days), k=1)
    return float(np.median((values[second] - values[first]) / (days[second] - days[first])))


def _weekday_effects(days: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """How far each day of the week lies from the week's level, by ordinal modulo 7; 0 for one never seen."""
    effects = np.array(
        [residuals[days % 7 == day].mean() if (days % 7 == day).any() else 0.0 for day in range(7)]
    )
    return effects - effects.mean()


def _persistence(arms: list[np.ndarray]) -> float:
    """The autocorrelation of neighbours, corrected for its bias about a mean of (1 + 3 persistence) / days."""
    pairs = sum(float((arm[:-1] * arm[1:]).sum()) for arm in arms)
    squares = sum(float((arm[:-1] ** 2).sum()) for arm in arms)
    seen = pairs / squares if squares > 0 else 0.0
    return min(max(seen + (1 + 3 * seen) / min(map(len, arms)), 0.0), 0.9)


def _noise(
    days: np.ndarray, residuals: np.ndarray, later: np.ndarray, deviations: np.ndarray, spent: int
) -> tuple[float, float, float]:
    """Persistence from day to day, variance, and degrees of freedom of noise seen before and after.

    Persistence is taken one standard error above what is likely: too little of it makes drift look like an effect.
    What is seen is too small by about (2 + 4 persistence) / days once a trend is taken out (Kendall, Marriott and
    Pope). The variance follows from what each day adds, which stays sound when a series hardly returns to its level.
    """
    follows = np.diff(days) == 1
    pairs = float((residuals[:-1] * residuals[1:])[follows].sum())
    squares = float((residuals[:-1] ** 2)[follows].sum())
    count = int(follows.sum())
    seen = pairs / squares if squares > 0 else 0.0
    errors = 1 if count >= _SEASON_DAYS - 1 else 2
    doubt = (2 + 4 * seen) / count + errors * math.sqrt(max(0.0, 1 - seen**2) / count) if count else 0.0
    persistence = min(max(seen + doubt, 0.0), _MAX_PERSISTENCE)
    added = (residuals[1:] - persistence * residuals[:-1])[follows]
    apart = np.diff(later) == 1
    added_later = (deviations[1:] - persistence * deviations[:-1])[apart]
    df = max(2.0, float(len(added) + len(added_later) - spent - 1))
    variance = (float((added**2).sum()) + float((added_later**2).sum())) / df
    return persistence, variance / (1 - persistence**2), df
