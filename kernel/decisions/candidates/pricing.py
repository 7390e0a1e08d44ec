"""Drafts about what customers pay: discounts and trials. All of them are tests on a part of the customers."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from kernel.decisions.candidates.change import Idea, for_some
from kernel.decisions.contract import AbortCondition, EconomicImpact
from kernel.decisions.levers import CENT, Draft, Situation, number

STEP_POINTS = 5
MOST_DISCOUNT_PCT = 30
# A deeper discount is only worth a thought this far above the floor.
COMFORT_POINTS = Decimal(10)
SHORTEST_TRIAL_DAYS = 7
# The share of deals that are sold at the ceiling, whatever it is.
USED_SHARE = Decimal("0.5")


def lower_discount_ceiling(situation: Situation) -> Iterator[Draft]:
    idea = Idea(
        family="discount_ceiling",
        lens="cfo",
        lever="pricing",
        target_metric="gross_margin_pct",
        direction="increase",
        hypothesis="A lower ceiling for discounts keeps more of each price, and few deals hang on the last points.",
        notes="Part of the deals gets less discount. Risk: some of them are lost.",
        changes_price=True,
        rivals=("deeper_discount",),
    )
    for setting, entity in situation.settings("pricing", "discount_max_pct", idea.family):
        ceiling = number(setting.value)
        if ceiling is None or not 0 < ceiling <= 50 or _is_room_for_discounts(situation):
            continue
        yield from for_some(
            situation,
            idea,
            setting,
            entity,
            max(0, int(ceiling) - STEP_POINTS),
            situation.falls("win_rate", "0.8"),
        )


def deeper_discount(situation: Situation) -> Iterator[Draft]:
    """Only where conversion is what holds the tenant back, and margin and payback stay well after the loss of price."""
    economics = _after_discount(situation)
    if economics is None:
        return
    idea = Idea(
        family="deeper_discount",
        lens="cro",
        lever="pricing",
        target_metric="win_rate",
        direction="increase",
        hypothesis="A higher ceiling for discounts wins deals that are lost on price.",
        notes="Part of the deals may get more discount. Risk: deals that would have closed anyway earn less.",
        changes_price=True,
        reduces_margin=True,
        rivals=("discount_ceiling",),
        price_pct=-STEP_POINTS * USED_SHARE,
        economics=economics,
    )
    for setting, entity in situation.settings("pricing", "discount_max_pct", idea.family):
        ceiling = number(setting.value)
        if ceiling is not None and 0 <= ceiling <= MOST_DISCOUNT_PCT - STEP_POINTS:
            floor = situation.given.cfo_guardrails.margin_floor_pct
            abort = AbortCondition(
                metric_id="gross_margin_pct", operator="lt", threshold=floor + STEP_POINTS, consecutive_days=3
            )
            new = int(ceiling) + STEP_POINTS
            yield from for_some(situation, idea, setting, entity, new, (abort,))


def shorter_trial(situation: Situation) -> Iterator[Draft]:
    idea = Idea(
        family="trial_length",
        lens="cfo",
        lever="pricing",
        target_metric="avg_sales_cycle_days",
        direction="decrease",
        hypothesis="A shorter trial brings the decision forward without losing those who use the product.",
        notes="Part of the new trials ends a week sooner. Risk: slow starters do not see the value in time.",
        changes_price=True,
    )
    for setting, entity in situation.settings("pricing", "trial_days", idea.family):
        days = number(setting.value)
        if days is not None and SHORTEST_TRIAL_DAYS < days <= 90:
            shorter = max(SHORTEST_TRIAL_DAYS, int(days) - 7)
            yield from for_some(situation, idea, setting, entity, shorter, situation.falls("win_rate", "0.8"))


GENERATORS = (lower_discount_ceiling, deeper_discount, shorter_trial)


def _is_room_for_discounts(situation: Situation) -> bool:
    return _after_discount(situation) is not None


def _after_discount(situation: Situation) -> EconomicImpact | None:
    """What a deeper discount does to margin and payback if everybody gets it; None where that cannot be afforded."""
    margin, payback = situation.facts.value("gross_margin_pct"), situation.facts.value("payback_months")
    rails = situation.given.cfo_guardrails
    if situation.constraint != "conversion" or margin is None or payback is None or margin <= 0:
        return None
    price = 1 - STEP_POINTS * USED_SHARE / 100
    thinner = 100 - (100 - margin) / price
    if thinner < rails.margin_floor_pct + COMFORT_POINTS:
        return None
    slower = payback * margin / (price * thinner)
    if slower > rails.payback_target_months:
        return None
    return EconomicImpact(
        delta_margin_pct=(thinner - margin).quantize(CENT),
        delta_payback_months=(slower - payback).quantize(CENT),
    )
