"""One tenant's facts as records: instants in UTC, days local, money in the reporting currency.

Making them from landing frames stands in `frames.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

# A row's identity: its source system and its source key.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Contact:
    key: Key
    email: str | None
    phone: str | None
    created_at: datetime
    merged_into: Key | None
    merged_at: datetime | None


@dataclass(frozen=True, slots=True)
class Channel:
    key: Key
    kind: str
    is_paid: bool


@dataclass(frozen=True, slots=True)
class Opportunity:
    key: Key
    contact: Key | None
    created_at: datetime
    day: date


@dataclass(frozen=True, slots=True)
class Stage:
    """The state of a deal from `changed_at` on. `amount` is in the reporting currency, None when unknown."""

    opportunity: Key
    changed_at: datetime
    day: date
    stage: str
    amount: Decimal | None
    win_probability: Decimal
    expected_close_date: date | None


@dataclass(frozen=True, slots=True)
class Weight:
    opportunity: Key
    channel: Channel
    weight: Decimal


@dataclass(frozen=True, slots=True)
class Spend:
    channel: Channel
    day: date
    spend: Decimal
    impressions: int
    clicks: int
    leads: int
    opportunities: int


@dataclass(frozen=True, slots=True)
class Event:
    key: Key
    at: datetime
    day: date
    type: str
    contact: Key | None
    campaign: Key | None
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Activity:
    at: datetime
    day: date
    type: str
    direction: str | None
    outcome: str | None
    contact: Key | None


@dataclass(frozen=True, slots=True)
class Revenue:
    key: Key
    day: date
    type: str
    amount: Decimal
    account: Key | None
    opportunity: Key | None
    campaign: Key | None
    attributed_channel: str | None
    contract_months: Decimal | None
    refunds_booking: bool
    cost_class: str | None
    cost_function: str | None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    account: Key
    day: date
    reason: str
    mrr_delta: Decimal


@dataclass(frozen=True, slots=True)
class FinanceMonth:
    month: date
    last_day: date
    cash_balance: Decimal | None
    net_burn: Decimal | None
    headcount_fte: Decimal | None
    variable_cost_share: Decimal | None


@dataclass(frozen=True, slots=True)
class Records:
    contacts: list[Contact]
    channels: list[Channel]
    opportunities: list[Opportunity]
    stages: list[Stage]
    weights: list[Weight]
    spend: list[Spend]
    events: list[Event]
    activities: list[Activity]
    revenue: list[Revenue]
    ledger: list[LedgerEntry]
    finance: list[FinanceMonth]
