"""The companies of the certification: every figure of every day, as data. What must come of them stands in the scenarios.

Figures agree with each other: payback = CAC / (new MRR x gross margin), paid CAC = paid spend / customers of paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

AS_OF = date(2026, 3, 16)  # the newest day of the first cycle
MORNING = datetime(2026, 3, 17, 6, 30, tzinfo=UTC)  # when that cycle runs
DAYS = 35  # what a cycle looks at
_NAMES = UUID("6f0c3a52-4c1b-5d8e-9a77-2d1f0b6e8c41")

# What a metric is on every day. A word that is no number is the status of a value that does not exist; a tuple holds
# the last days, one each, and its first value stands for every day before.
Figure = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel of the one campaign: what it may spend a day, and the customers it wins in 35 days."""

    name: str
    is_paid: bool
    daily_budget: int
    customers: str


@dataclass(frozen=True, slots=True)
class Company:
    """`figures` are totals by metric; `settings` hold subsystem, field and value; `activated` counts days before."""

    slug: str
    id: UUID
    figures: Mapping[str, Figure]
    channels: tuple[Channel, ...]
    settings: tuple[tuple[str, str, Any], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    gates_on: bool = True
    enabled: bool = True
    kernel_mode: str = "enforce"
    activated: int | None = 100

    def channel_id(self, name: str) -> UUID:
        return uuid5(self.id, name)

    def but(self, slug: str, figures: Mapping[str, Figure | None] | None = None, **changed: Any) -> Company:
        """The same company under another name with some figures changed; None takes a metric away."""
        merged = {**self.figures, **(figures or {})}
        kept = {name: figure for name, figure in merged.items() if figure is not None}
        return replace(self, slug=slug, id=named(slug), figures=kept, **changed)


def named(slug: str) -> UUID:
    return uuid5(_NAMES, slug)


# The same targets for all; what is not named is the platform's default: payback 12 + 3 months, margin floor 50,
# runway 6 months, CAC at most 2,500.
TARGETS = {"target_pipeline": "100000", "target_bookings": "30000"}

SETTINGS: tuple[tuple[str, str, Any], ...] = (
    ("crm", "follow_up_sla_hours", 24),
    ("crm", "sequence_delay_days", 4),
    ("crm", "max_touches", 5),
    ("pricing", "discount_max_pct", 20),
    ("pricing", "trial_days", 30),
    ("routing", "round_robin_enabled", False),
    ("routing", "capacity_per_rep", 40),
    ("content", "variant_weights", {"plain": 95, "story": 5}),
    ("content", "cta_text", "Learn more"),
)

# Alike for all: twelve customers a month, and a funnel that is neither good nor bad.
_USUAL: Mapping[str, Figure] = {
    "data_coverage_pct": "100",
    "bookings_count": "0.4",
    "pipeline_from_paid": "40000",
    "spend_paid_total": "300",
    "win_rate": "0.25",
    "email_reply_rate": "0.06",
    "meeting_book_rate": "0.04",
    "speed_to_lead_hours": "20",
    "follow_up_rate": "0.9",
    "no_show_rate": "0.2",
    "avg_sales_cycle_days": "45",
    "net_revenue_retention": "1.04",
    "revenue_per_fte": "160000",
    "missing_attribution_pct": "12",
}


def _company(
    slug: str, id: str, figures: Mapping[str, Figure], deal: int, customers: tuple[str, ...]
) -> Company:
    """`deal` is what a new customer books in its first year; customers are those of search, social and e-mail."""
    sold = {
        "avg_deal_size": str(deal),
        "bookings_new": str(deal * 12 / 30),
        "mrr_total": str(deal / 12 * 200),
    }
    search, social, email = customers
    channels = (
        Channel("paid_search", True, 200, search),
        Channel("paid_social", True, 100, social),
        Channel("email", False, 60, email),
    )
    return Company(slug, UUID(id), {**_USUAL, **sold, **figures}, channels, SETTINGS, TARGETS)


# Paid channels spend 300 a day, 10,500 in 35 days: 19.44 customers at 540, 3.621 at 2,900, 1.75 at 6,000.
HEALTHY = _company(
    "prct-a-healthy",
    "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
    {
        "cac_blended": "1200",
        "gross_margin_pct": "72",
        "payback_months": "6.67",
        "cac_paid": "540",
        "roas_paid": "3.2",
        "cash_runway_months": "18",
        "pipeline_total": "80000",
    },
    3000,
    ("14", "5.444", "10"),
)
DEGRADED = _company(
    "prct-b-degraded",
    "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb",
    {
        "cac_blended": "2600",
        "gross_margin_pct": "62",
        "payback_months": "16.77",
        "cac_paid": "2900",
        "roas_paid": "1.1",
        "cash_runway_months": "9",
        "pipeline_total": "90000",
    },
    3000,
    ("3", "0.621", "7"),
)
FAILING = _company(
    "prct-c-failing",
    "cccccccc-cccc-cccc-cccc-cccccccccccc",
    {
        "cac_blended": "3600",
        "gross_margin_pct": "46",
        "payback_months": "32.61",
        "cac_paid": "6000",
        "roas_paid": "0.4",
        "cash_runway_months": "5",
        "pipeline_total": "90000",
    },
    2880,
    ("1.75", "0", "6"),
)


def day(number: int) -> date:
    """The day so many after the newest of the first cycle."""
    return AS_OF + timedelta(days=number)
