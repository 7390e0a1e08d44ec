"""What generators work with: the situation of a tenant in a cycle, and the drafts they make of actions.

A draft is an action before it is scored, ranked and allowed. Which drafts there are is in candidates.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Literal

from kernel.decisions.contract import (
    AbortCondition,
    ActionType,
    Attributes,
    Channel,
    Constraint,
    Direction,
    EconomicImpact,
    Entity,
    Experiment,
    GateReading,
    KernelInput,
    Lever,
    ProposedChange,
    Setting,
    Subsystem,
)
from kernel.decisions.inputs import Facts
from kernel.decisions.weights import Weights

TENANT = Entity(type="tenant", id="")
# A single change of a budget, up or down; larger steps hide what they did.
MAX_CHANGE = Decimal("0.2")
# What a cycle may add to all daily budgets together: several steps at once are a large one.
MAX_INCREASE = Decimal("0.15")
CENT = Decimal("0.01")
# No amount, share or count has more digits before or after its point; arithmetic on such numbers is not exact.
_MOST_DIGITS = 30
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_NOT_APPLIED = ("awaiting_ack", "approved", "scheduled", "claimed", "applying")


@dataclass(frozen=True, slots=True)
class Issue:
    """Something wrong with a metric that decisions depend on."""

    metric_id: str
    kind: Literal["missing_data", "stale_data", "invalid_data", "missing_attribution", "inconsistent"]
    priority: int
    what: str
    fix: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """`effect_scale` brings the family's assumed effect into the unit of the target metric. Drafts of one `group`
    are proposed together or not at all."""

    family: str
    owner_subsystem: Subsystem
    type: ActionType
    lens: Literal["cmo", "cro", "cfo", "blended"]
    lever: Lever | None
    entity: Entity
    target_metric: str
    direction: Direction
    hypothesis: str
    change: ProposedChange
    attributes: Attributes
    notes: str
    effect_scale: Decimal = Decimal(1)
    abort: tuple[AbortCondition, ...] = ()
    experiment: Experiment | None = None
    economics: EconomicImpact | None = None
    group: str = ""
    # How many percent more the touched customers pay, negative for a discount.
    price_pct: Decimal = Decimal(0)
    # Families that change the same field for another end.
    rivals: tuple[str, ...] = ()
    is_paid: bool | None = None

    @property
    def id(self) -> str:
        return f"{self.family}:{self.entity.type}:{self.entity.id}" if self.entity.id else self.family

    @property
    def touches(self) -> tuple[str, ...]:
        """What no second action of the cycle may change: a channel as a whole, elsewhere a single field."""
        if self.type in ("alert", "data_correction", "forecast_update"):
            return ("ticket", self.family)
        if self.entity.type == "channel":
            return ("channel", self.entity.id)
        return (self.owner_subsystem, self.entity.type, self.entity.id, self.change.field)


@dataclass(frozen=True)
class Situation:
    """Everything a generator may look at. Money is per day and in the tenant's reporting currency."""

    given: KernelInput
    facts: Facts
    gates: tuple[GateReading, ...]
    issues: tuple[Issue, ...]
    weights: Weights
    # Known once the situation has been judged.
    constraint: Constraint | None = None
    priority_metric: str = ""

    @property
    def window_days(self) -> int:
        return self.given.config.default_observation_window_days

    @cached_property
    def margin(self) -> Decimal:
        """Gross margin as a fraction; the tenant's floor when it is unknown."""
        known = self.facts.value("gross_margin_pct")
        percent = self.given.cfo_guardrails.margin_floor_pct if known is None else known
        return max(Decimal(0), min(Decimal(1), percent / 100))

    @cached_property
    def win_rate(self) -> Decimal:
        known = self.facts.value("win_rate")
        return self.weights.references["win_rate"] if known is None else known

    @cached_property
    def bookings(self) -> Decimal:
        """New bookings per day: of the last 30 days, else what the open pipeline would give in a quarter."""
        month = self.facts.month("bookings_new")
        if month is not None and month > 0:
            return month / 30
        return (self.facts.value("pipeline_total") or Decimal(0)) * self.win_rate / 90

    @cached_property
    def deal(self) -> Decimal | None:
        """Bookings per new customer."""
        count, month = self.facts.month("bookings_count"), self.facts.month("bookings_new")
        if count and month and count > 0 and month > 0:
            return month / count
        return self.facts.value("avg_deal_size")

    @cached_property
    def acquisition_cost(self) -> Decimal:
        """What winning customers costs per day: blended CAC x customers, else what the channels spent."""
        cac, count = self.facts.value("cac_blended"), self.facts.month("bookings_count")
        if cac is not None and count is not None and count > 0:
            return cac * count / 30
        return sum((self.spend(channel) for channel in self.given.channels), Decimal(0))

    @cached_property
    def days(self) -> int:
        window = self.given.analysis_window
        return (window.end_date - window.start_date).days + 1

    def spend(self, channel: Channel) -> Decimal:
        return channel.spend / self.days

    def earned(self, channel: Channel) -> Decimal:
        """Bookings per day that the channel won: its customers at the usual deal, else its pipeline times win rate."""
        if channel.new_customers > 0 and self.deal:
            return channel.new_customers * self.deal / self.days
        return channel.pipeline * self.win_rate / self.days

    @cached_property
    def paid_earned(self) -> Decimal:
        return sum((self.earned(channel) for channel in self.active if channel.is_paid), Decimal(0))

    @cached_property
    def active(self) -> tuple[Channel, ...]:
        """Channels that run in a campaign that is not known to stand still, in order of id."""
        still = {campaign.id for campaign in self.given.campaigns if campaign.status != "running"}
        found = (c for c in self.given.channels if c.status == "active" and c.campaign_id not in still)
        return tuple(sorted(found, key=lambda channel: str(channel.id)))

    @cached_property
    def channel_cac(self) -> dict[str, Decimal | None]:
        """Spend per new customer by channel id; None with spend and no customer."""
        return {
            str(c.id): c.spend / c.new_customers if c.new_customers > 0 else None
            for c in self.active
            if c.spend > 0
        }

    @cached_property
    def cac_limit(self) -> Decimal | None:
        """Above this a channel is too dear: the tenant's cap, else one and a half times blended CAC."""
        if self.given.targets.cac_max:
            return self.given.targets.cac_max
        blended = self.facts.value("cac_blended")
        return None if not blended else blended * Decimal("1.5")

    @cached_property
    def headroom(self) -> Decimal:
        """How much daily spend may grow in a cycle: by its own cap, the month's and the daily one."""
        rails, config = self.given.guardrails, self.given.config
        budgets = sum((c.daily_budget for c in self.active), Decimal(0))
        rooms = [budgets * MAX_INCREASE]
        if rails.monthly_budget_cap is not None:
            cap, today = rails.monthly_budget_cap, self.facts.clock.date()
            rooms.append((cap - config.spend_committed_month) / days_left(today))
            rooms.append(cap / days_of_next_month(today) - config.spend_committed_daily)
        if rails.max_daily_spend is not None:
            rooms.append(rails.max_daily_spend - budgets)
        # What is applied stands in the budgets and in the month already.
        pending = sum(
            (
                max(action.daily_spend_change, Decimal(0))
                for action in self.given.live_actions
                if action.execution_status in _NOT_APPLIED
            ),
            Decimal(0),
        )
        return max(Decimal(0), min(rooms) - pending)

    def money(self, metric_id: str) -> Decimal:
        """Contribution margin or cost per day that moves in proportion to the metric."""
        if metric_id in ("cac_blended", "cac_paid", "payback_months"):
            return self.acquisition_cost
        if metric_id in ("gross_margin_pct", "contribution_margin_pct", "arr_total"):
            monthly = self.facts.value("mrr_total")
            return (monthly / 30 if monthly else self.bookings) * self.margin
        if metric_id == "pipeline_from_paid":
            return self.paid_earned * self.margin
        return self.bookings * self.margin * self.weights.elasticity.get(metric_id, Decimal(0))

    def settings(self, subsystem: Subsystem, field: str, family: str) -> Iterator[tuple[Setting, Entity]]:
        """The first setting of that field that no live action of the family is at work on, else the first."""
        kinds = ("campaign", "channel", "segment", "sequence", "tenant")
        found = sorted(
            (
                setting
                for setting in self.given.settings
                if (setting.subsystem, setting.field) == (subsystem, field) and setting.entity_type in kinds
            ),
            key=lambda setting: (setting.entity_type, setting.entity_id),
        )
        live = {(action.family, action.entity_type, action.entity_id) for action in self.given.live_actions}
        free = [s for s in found if (family, s.entity_type, s.entity_id) not in live]
        for setting in (free or found)[:1]:
            yield setting, Entity(type=setting.entity_type, id=setting.entity_id)  # type: ignore[arg-type]

    def falls(self, metric_id: str, share: str, days: int = 3) -> tuple[AbortCondition, ...]:
        """Stop when the metric is below this share of today's value."""
        value = self.facts.value(metric_id)
        if value is None or value <= 0:
            return ()
        limit = (value * Decimal(share)).quantize(Decimal("0.0001"))
        return (AbortCondition(metric_id=metric_id, operator="lt", threshold=limit, consecutive_days=days),)

    def rises(self, metric_id: str, limit: Decimal | None, days: int = 3) -> tuple[AbortCondition, ...]:
        """Stop when the metric is above the limit, unless it is already."""
        value = self.facts.value(metric_id)
        if limit is None or value is None or value > limit:
            return ()
        return (AbortCondition(metric_id=metric_id, operator="gt", threshold=limit, consecutive_days=days),)


def days_left(today: date) -> int:
    """Days of the calendar month from the day on, that day included."""
    return calendar.monthrange(today.year, today.month)[1] - today.day + 1


def days_of_next_month(today: date) -> int:
    return calendar.monthrange(today.year + today.month // 12, today.month % 12 + 1)[1]


def number(value: object) -> Decimal | None:
    """A JSON number, or a text of one, as Decimal; None for anything else, also for truth values and absurd sizes."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    found = Decimal(repr(value) if isinstance(value, float) else value)
    if not found.is_finite():
        return None
    exponent = found.as_tuple().exponent
    return found if max(abs(found.adjusted()), abs(exponent)) <= _MOST_DIGITS else None  # type: ignore[arg-type]


def plain(value: Decimal) -> int | str:
    """How an amount stands in JSON: whole numbers as numbers, others as text, so nothing is rounded."""
    return int(value) if value == value.to_integral_value() else f"{value.normalize():f}"
