"""What kind of company each sample tenant is. Every phenomenon of the generator has its dial here."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Foreign:
    """A share of the accounts that pays in another currency; one unit of it is worth about `rate` of home."""

    currency: str
    share: float
    rate: float


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A configuration in force from local noon of the day that lies `at` (0 to 1) into the covered days."""

    at: float
    reason: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Profile:
    """Shares and probabilities are 0 to 1; money is in whole units of `currency`."""

    id: str
    slug: str
    name: str
    currency: str = "USD"
    time_zone: str = "UTC"
    config: Mapping[str, Any] = field(default_factory=dict)
    config_changes: tuple[ConfigChange, ...] = ()
    flags: Mapping[str, bool] = field(
        default_factory=lambda: {"revenue_os_enabled": True, "cfo_expansion_enabled": True}
    )

    # How much of the history there is, and what of it: names of source systems or facts it lacks.
    history_days: int | None = None
    absent: frozenset[str] = frozenset()

    # Demand.
    leads_per_day: float = 6.0
    growth_per_year: float = 0.2
    weekend_share: float = 0.3
    yearly_swing: float = 0.15
    anonymous_share: float = 0.04
    mql_share: float = 0.5
    emails_per_lead: float = 3.0
    duplicate_share: float = 0.05
    foreign: tuple[Foreign, ...] = ()

    # Sales.
    deal_share: float = 0.6  # of the MQLs
    win_share: float = 0.3
    cycle_days: float = 28.0
    reopened_share: float = 0.05
    contacted_share: float = 0.88
    response_hours: float = 3.0
    no_show_share: float = 0.12

    # Money.
    opening_customers: int = 200
    new_mrr: float = 250.0
    churn_per_month: float = 0.012
    expansion_per_month: float = 0.02
    refund_share: float = 0.05
    gross_margin: float = 0.72
    cac: float = 1250.0
    paid_cac: float = 600.0
    burn_per_month: float = 40_000.0
    runway_months: float = 18.0
    headcount: float = 14.0

    # Deliveries: shares of the rows.
    late_share: float = 0.02
    corrected_share: float = 0.005
    repeated_share: float = 0.003

    @property
    def currencies(self) -> tuple[str, ...]:
        """The home currency, then the foreign ones; inside the generator a currency is an index into this."""
        return (self.currency, *(foreign.currency for foreign in self.foreign))

    @property
    def rates(self) -> tuple[float, ...]:
        """About what one unit of each currency is worth at home; enough to size amounts, never to convert."""
        return (1.0, *(foreign.rate for foreign in self.foreign))

    def lacks(self, source_system: str, fact: str) -> bool:
        return source_system in self.absent or fact in self.absent


A = Profile(
    id="aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
    slug="acme-healthy",
    name="Acme Healthy",
    time_zone="America/New_York",
    config={"target_bookings": 30_000, "target_pipeline": 200_000, "follow_up_sla_hours": 24},
    config_changes=(
        ConfigChange(
            0.5,
            "Leads are promised an answer within four hours",
            {"target_bookings": 35_000, "target_pipeline": 200_000, "follow_up_sla_hours": 4},
        ),
    ),
    win_share=0.34,
    expansion_per_month=0.05,
)
B = Profile(
    id="bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb",
    slug="borealis-underperforming",
    name="Borealis Underperforming",
    time_zone="UTC",
    config={"target_bookings": 60_000, "target_pipeline": 150_000},
    leads_per_day=5.0,
    growth_per_year=-0.1,
    mql_share=0.4,
    win_share=0.2,
    cycle_days=45.0,
    reopened_share=0.08,
    contacted_share=0.7,
    response_hours=30.0,
    no_show_share=0.25,
    opening_customers=180,
    churn_per_month=0.03,
    expansion_per_month=0.008,
    refund_share=0.08,
    gross_margin=0.54,
    cac=2800.0,
    paid_cac=2900.0,
    burn_per_month=55_000.0,
    runway_months=10.0,
    headcount=17.0,
)
C = Profile(
    id="cccccccc-cccc-cccc-cccc-cccccccccccc",
    slug="cirrus-cash-constrained",
    name="Cirrus Cash-Constrained",
    time_zone="Asia/Kolkata",
    config={"target_bookings": 30_000, "fiscal_year_start_month": 4, "bookings_basis": "tcv"},
    leads_per_day=4.0,
    opening_customers=150,
    churn_per_month=0.025,
    gross_margin=0.65,
    cac=1700.0,
    paid_cac=1400.0,
    burn_per_month=70_000.0,
    runway_months=5.0,
    headcount=22.0,
)
D = Profile(
    id="dddddddd-dddd-dddd-dddd-dddddddddddd",
    slug="delta-new",
    name="Delta New",
    currency="GBP",
    time_zone="Europe/London",
    flags={"revenue_os_enabled": True, "cfo_expansion_enabled": False},
    history_days=60,
    absent=frozenset({"finance", "ads", "subscription_ledger", "activities"}),
    leads_per_day=2.0,
    cycle_days=14.0,
    opening_customers=0,
)
E = Profile(
    id="eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee",
    slug="europa-high-volume",
    name="Europa High-Volume",
    currency="EUR",
    time_zone="Europe/Berlin",
    config={"target_bookings": 500_000, "target_pipeline": 1_500_000, "follow_up_sla_hours": 12},
    foreign=(Foreign("USD", 0.25, 0.92), Foreign("GBP", 0.15, 1.17)),
    leads_per_day=60.0,
    growth_per_year=0.3,
    opening_customers=2000,
    new_mrr=300.0,
    gross_margin=0.75,
    cac=1500.0,
    paid_cac=900.0,
    burn_per_month=150_000.0,
    runway_months=24.0,
    headcount=95.0,
)
PROFILES = (A, B, C, D, E)


def tenants(count: int) -> tuple[Profile, ...]:
    """The first five as they are, then more companies of the same kinds under ids and slugs of their own."""
    return tuple(PROFILES[i] if i < len(PROFILES) else _sibling(i) for i in range(count))


def _sibling(number: int) -> Profile:
    kind = PROFILES[number % len(PROFILES)]
    slug = f"tenant-{number:05d}"
    digest = hashlib.md5(slug.encode(), usedforsecurity=False).digest()
    return replace(kind, id=str(uuid.UUID(bytes=digest)), slug=slug, name=f"{kind.name} {number}")
