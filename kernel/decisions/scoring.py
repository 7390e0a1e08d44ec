"""The score of a draft in money, term by term, and the label that compares paid with outbound.

Expected contribution margin over the window, less cash at risk and less a price for what is not known. The numbers
stand in weights; which drafts may be at all is decided in gates and decide.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from kernel.decisions.effects import Effect
from kernel.decisions.inputs import Facts
from kernel.decisions.levers import CENT, Draft, Situation
from kernel.decisions.weights import DEFAULT_WEIGHTS, Prior, Weights

__all__ = ["DEFAULT_WEIGHTS", "Prior", "Weights", "paid_label", "score", "terms"]

PaidLabel = Literal["paid_outperforming", "outbound_outperforming", "insufficient_paid_data", "none"]

_PAYBACK = ("cac_blended", "cac_paid", "payback_months")
_MARGIN = ("gross_margin_pct", "contribution_margin_pct")
# A channel that wins customers at half the usual cost is far better, at one and a half times far worse.
_PAID_BETTER, _PAID_WORSE = Decimal("0.5"), Decimal("1.5")


def terms(draft: Draft, effect: Effect, situation: Situation) -> dict[str, Decimal]:
    """Money over the window by term, to the cent; their sum is the score.

    contribution, payback, margin: what the effect is worth, under the weight of the target metric's kind;
    spend: what is added to budgets; cash_at_risk: the part of it taken as lost; uncertainty: caution x error.
    """
    weights, given = situation.weights, situation.given
    days = Decimal(draft.attributes.window_days)
    reach = draft.attributes.exposure_pct / 100 if draft.type == "experiment" else Decimal(1)
    money = situation.money(draft.target_metric) * days * reach
    gain = money * effect.mean_pct / 100
    spend = max(draft.attributes.daily_spend_change, Decimal(0)) * days
    found = {
        "contribution": Decimal(0),
        "payback": Decimal(0),
        "margin": Decimal(0),
        "spend": -spend,
        "cash_at_risk": -weights.cash
        * weights.spend_at_risk[given.cfo_guardrails.cash_risk_tolerance]
        * spend,
        "uncertainty": -weights.caution[given.config.risk_tolerance] * money * effect.stderr_pct / 100,
    }
    if draft.target_metric in _PAYBACK:
        found["payback"] = weights.payback * gain
    elif draft.target_metric in _MARGIN:
        found["margin"] = weights.margin * gain
    else:
        found["contribution"] = weights.contribution * gain
    found["margin"] += weights.margin * situation.bookings * days * reach * draft.price_pct / 100
    cac, deal = situation.facts.value("cac_blended"), situation.deal
    if spend and cac and deal and situation.margin:
        # The customers it wins at what customers cost now, less what they cost here.
        found["payback"] = weights.payback * (gain / (deal * situation.margin) * cac - spend)
    return {name: value.quantize(CENT) for name, value in found.items()}


def score(by_term: dict[str, Decimal]) -> Decimal:
    return sum(by_term.values(), Decimal(0))


def paid_label(facts: Facts) -> PaidLabel:
    """CAC of paid channels against blended CAC: below half, above one and a half times, between, or unknown."""
    paid, blended = facts.fresh("cac_paid"), facts.value("cac_blended")
    if paid is not None and paid.value_status == "infinite":
        return "outbound_outperforming"
    if paid is None or paid.value is None or not blended:
        return "insufficient_paid_data"
    if paid.value < _PAID_BETTER * blended:
        return "paid_outperforming"
    return "outbound_outperforming" if paid.value > _PAID_WORSE * blended else "none"
