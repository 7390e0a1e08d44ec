"""What an action of a family is expected to do to its target metric, from the prior and from what came of others.

Which actions are compared, and in what money, is decided in scoring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from functools import lru_cache

from kernel.decisions.contract import ActionResult, Lever
from kernel.decisions.weights import Weights

# A prior is never so sure that results could not move it, not even one of a change that touches next to nothing.
_LEAST_SPREAD = Decimal("0.01")
# Beyond ten of the prior's errors a result tells of a broken series or a slip, not of what the family does.
_BELIEVED_SPREADS = 10


@dataclass(frozen=True, slots=True)
class Effect:
    """Percent of the target metric in the intended direction, its standard error, and the results behind it."""

    mean_pct: Decimal
    stderr_pct: Decimal
    n: int


def posterior(
    family: str,
    results: Sequence[ActionResult],
    weights: Weights,
    clock: datetime,
    *,
    lever: Lever | None = None,
    scale: Decimal = Decimal(1),
) -> Effect:
    """The mean of a normal prior and normal results, each weighed by its precision.

    `scale` brings the family's prior into the unit of this action's target metric, for instance the share of a
    channel. A result counts by its share of the credit and half as much with every half-life of age, and as no more
    than ten of the prior's errors beside the prior.
    """
    prior = weights.prior(family, lever)
    mean, spread = prior.mean_pct * scale, max(prior.stderr_pct * abs(scale), _LEAST_SPREAD)
    precision, most = weights.shrinkage / spread**2, spread * _BELIEVED_SPREADS
    total, weighed, count = precision, precision * mean, 0
    for result in results:
        if result.family != family or result.effect_pct is None or result.closed_at > clock:
            continue
        error = result.effect_stderr_pct
        error = weights.unknown_stderr_pct if error is None else max(error, weights.least_stderr_pct)
        trust = result.weight * faded(result, weights, clock) / error**2
        believed = max(mean - most, min(mean + most, result.effect_pct))
        total, weighed = total + trust, weighed + trust * believed
        count += result.weight > 0
    return Effect(weighed / total, 1 / total.sqrt(), count)


def hurts_economics(family: str, results: Sequence[ActionResult], weights: Weights, clock: datetime) -> bool:
    """Whether the family is kept out because of what it did to payback, CAC, margin and revenue per head.

    A verdict is only given beyond noise, so one harm of its own is enough, and it holds for a half-life; one that other
    actions share has to come again.
    """
    sign = {"hurt": 1, "improved": -1}
    balance = sum(
        (
            sign[result.economics] * result.economics_weight * faded(result, weights, clock)
            for result in results
            if result.family == family and result.economics in sign and result.closed_at <= clock
        ),
        Decimal(0),
    )
    return balance >= weights.veto_from


def faded(result: ActionResult, weights: Weights, clock: datetime) -> Decimal:
    """How much of a result still counts: 1 on the day it closed, half after each half-life."""
    return _faded((clock - result.closed_at).days, weights.half_life_days)


@lru_cache(maxsize=4096)
def _faded(days: int, half_life_days: Decimal) -> Decimal:
    # Powers are slow in Decimal, and ages repeat from tenant to tenant.
    with localcontext(prec=28):
        return Decimal(2) ** (-Decimal(days) / half_life_days)
