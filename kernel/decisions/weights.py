"""The versioned numbers of scoring: assumed effects, how results are trusted, how risk is weighed.

They are stored as rows and recorded with each cycle; the rules that use them stand in effects and scoring.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from kernel.decisions.contract import Lever

Risk = Literal["low", "medium", "high"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Prior(_Record):
    """Percent of the target metric, in the intended direction, of the part that is touched."""

    mean_pct: Decimal
    stderr_pct: Decimal = Field(gt=0)


def _prior(mean: int, stderr: int) -> Prior:
    return Prior(mean_pct=Decimal(mean), stderr_pct=Decimal(stderr))


# Assumptions until there are results: cautious means, and errors wide enough that three results outweigh them.
_FAMILIES = {
    # A fifth more budget wins three fifths of a fifth: added spend reaches people who are harder to win.
    "scale_channel": _prior(12, 6),
    "reallocate_budget": _prior(12, 6),
    # Of the improvement that arithmetic gives when the channel's customers are lost in proportion.
    "cut_channel": _prior(100, 50),
    "pause_channel": _prior(90, 50),
    "take_budget": _prior(100, 50),
    "follow_up_sla": _prior(8, 6),
    "sequence_timing": _prior(5, 4),
    "max_touches": _prior(4, 4),
    "discount_ceiling": _prior(3, 3),
    # Five points off the price of half the deals: they are won about three times as easily as the price falls.
    "deeper_discount": _prior(8, 5),
    "trial_length": _prior(4, 4),
    "rep_capacity": _prior(5, 5),
    "round_robin": _prior(6, 6),
    "challenger_variant": _prior(4, 4),
    "clear_call_to_action": _prior(4, 4),
}
_LEVERS: dict[Lever, Prior] = {
    "campaigns": _prior(3, 5), "channels": _prior(3, 5), "sequences": _prior(3, 5), "pricing": _prior(2, 4),
}  # fmt: skip
# How much of bookings moves when the metric moves by all of itself; 1 where bookings are proportional to it.
_ELASTICITY = {
    "pipeline_total": "1", "pipeline_from_paid": "1", "bookings_new": "1", "win_rate": "1", "avg_deal_size": "1",
    "qualified_opps_created": "0.8", "opps_created": "0.8", "mqls_created": "0.5", "leads_created": "0.4",
    "meeting_book_rate": "0.3", "avg_sales_cycle_days": "0.3", "follow_up_rate": "0.2", "no_show_rate": "0.2",
    "email_reply_rate": "0.15", "speed_to_lead_hours": "0.1",
}  # fmt: skip


class Weights(_Record):
    """Money weights first; the initial calibration of contribution, payback, margin and cash is 1, 1.5, 1.3, 2."""

    version: int = Field(ge=1)
    contribution: Decimal = Field(Decimal("1.0"), ge=0)
    payback: Decimal = Field(Decimal("1.5"), ge=0)
    margin: Decimal = Field(Decimal("1.3"), ge=0)
    cash: Decimal = Field(Decimal("2.0"), ge=0)
    # The share of added spend that is taken as lost, by how much cash risk the tenant tolerates.
    spend_at_risk: dict[Risk, Decimal] = {
        "low": Decimal("0.5"),
        "medium": Decimal("0.25"),
        "high": Decimal("0.1"),
    }
    # Standard errors that are subtracted from the mean, by how much risk the tenant tolerates.
    caution: dict[Risk, Decimal] = {"low": Decimal("1"), "medium": Decimal("0.5"), "high": Decimal("0.25")}
    families: dict[str, Prior] = _FAMILIES
    levers: dict[Lever, Prior] = _LEVERS
    otherwise: Prior = _prior(2, 4)
    elasticity: dict[str, Decimal] = {name: Decimal(value) for name, value in _ELASTICITY.items()}
    # What stands for a target where tenants set none; only for choosing the binding constraint.
    references: dict[str, Decimal] = {
        "win_rate": Decimal("0.25"), "follow_up_rate": Decimal("0.9"), "no_show_rate": Decimal("0.2"),
    }  # fmt: skip
    # How many results like its own precision the prior stands for.
    shrinkage: Decimal = Field(Decimal(1), gt=0)
    half_life_days: Decimal = Field(Decimal(90), gt=0)
    # No single result is trusted to more than a percent, and one without an error to ten.
    least_stderr_pct: Decimal = Field(Decimal(1), gt=0)
    unknown_stderr_pct: Decimal = Field(Decimal(10), gt=0)
    # One full harm to economics stays above this for one half-life.
    veto_from: Decimal = Field(Decimal("0.5"), gt=0)

    def prior(self, family: str, lever: Lever | None) -> Prior:
        by_lever = self.levers.get(lever) if lever else None
        return self.families.get(family) or by_lever or self.otherwise


DEFAULT_WEIGHTS = Weights(version=1)
