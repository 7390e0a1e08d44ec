"""The landing frames of one tenant as plain records, with days, money and references settled.

What several metrics ask of the facts (who a lead is, how a deal stood on a day) stands in `book.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from tests.oracle.records import (
    Activity,
    Channel,
    Contact,
    Event,
    FinanceMonth,
    Key,
    LedgerEntry,
    Opportunity,
    Records,
    Revenue,
    Spend,
    Stage,
    Weight,
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tenant:
    """`config_versions` holds (valid_from, payload), in any order."""

    id: str
    slug: str
    default_currency: str
    config_versions: list[tuple[datetime, dict[str, Any]]]

    def newest(self, field: str, default: Any) -> Any:
        """The field in the newest version: for what restates history when it changes."""
        versions = sorted(self.config_versions, key=lambda version: instant(version[0]))
        return default if not versions else _or(versions[-1][1].get(field), default)

    def in_force(self, field: str, default: Any, at: datetime, *, inclusive: bool) -> Any:
        """The field in the version in force at an instant; a version starting just then counts if inclusive."""
        before = [
            (instant(start), payload)
            for start, payload in self.config_versions
            if instant(start) < at or (inclusive and instant(start) == at)
        ]
        if not before:
            return default
        return _or(max(before, key=lambda version: version[0])[1].get(field), default)


def read(facts: Mapping[str, pd.DataFrame], tenant: Tenant) -> Records:
    """Every fact of the tenant as records.

    Raises LookupError for a foreign amount without a rate, and for a required reference to nothing.
    """
    reader = _Reader(facts, tenant)
    channels = [
        Channel(reader.key(row), row["channel"], _flag(row.get("is_paid")))
        for row in reader.rows("campaign_channels")
    ]
    by_key = {channel.key: channel for channel in channels}

    def channel_of(row: Row) -> Channel:
        return by_key[reader.required(row, "channel_key", "campaign_channels")]

    return Records(
        contacts=list(reader.contacts()),
        channels=channels,
        opportunities=list(reader.opportunities()),
        stages=list(reader.stages()),
        weights=[
            Weight(
                reader.required(row, "opportunity_key", "opportunities"),
                channel_of(row),
                _known(row, "weight"),
            )
            for row in reader.rows("opportunity_channel_attribution")
        ],
        spend=[reader.spend(row, channel_of(row)) for row in reader.rows("channel_spend_daily")],
        events=list(reader.events()),
        activities=list(reader.activities()),
        revenue=list(reader.revenue()),
        ledger=list(reader.ledger()),
        finance=list(reader.finance()),
    )


def instant(value: Any) -> datetime:
    """An aware UTC instant; one without a time zone is taken as UTC."""
    moment = pd.Timestamp(value).to_pydatetime(warn=False)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def day_end(day: date, zone: ZoneInfo) -> datetime:
    """The local midnight that ends the day, as a UTC instant."""
    following = day + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC)


class _Reader:
    def __init__(self, facts: Mapping[str, pd.DataFrame], tenant: Tenant) -> None:
        self._facts = facts
        self._default_currency = tenant.default_currency
        self._reporting_currency = tenant.newest("reporting_currency", tenant.default_currency)
        self._zone = ZoneInfo(tenant.newest("time_zone", "UTC"))
        self._resolvers: dict[str, Callable[[str, str], Key | None]] = {}
        self._rates: dict[tuple[str, date], Decimal] = {
            (row["base_currency"], _day(row["rate_date"])): _known(row, "rate")
            for row in self.rows("fx_rates")
            if row["quote_currency"] == self._reporting_currency
        }

    def rows(self, fact: str) -> list[Row]:
        """The rows of a fact, with None for whatever stands for nothing."""
        frame = self._facts.get(fact)
        if frame is None:
            return []
        columns = {name: _values(frame[name]) for name in frame}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def key(self, row: Row) -> Key:
        return (row["source_system"], str(row["source_key"]))

    def reference(self, row: Row, column: str, fact: str) -> Key | None:
        """The row meant: of the same source system, else the only one of that key."""
        if row.get(column) is None:
            return None
        if fact not in self._resolvers:
            self._resolvers[fact] = _resolver([self.key(found) for found in self.rows(fact)])
        return self._resolvers[fact](row["source_system"], str(row[column]))

    def required(self, row: Row, column: str, fact: str) -> Key:
        found = self.reference(row, column, fact)
        if found is None:
            raise LookupError(f"{column} {row.get(column)!r} is not in {fact}")
        return found

    def currency(self, row: Row) -> str:
        return row.get("currency") or self._default_currency

    def money(self, row: Row, column: str, day: date) -> Decimal | None:
        amount = _number(row.get(column))
        currency = self.currency(row)
        if amount is None or currency == self._reporting_currency:
            return amount
        for age in range(11):
            rate = self._rates.get((currency, day - timedelta(days=age)))
            if rate is not None:
                return amount * rate
        raise LookupError(
            f"no {currency}->{self._reporting_currency} rate within 10 days before {day}, needed for {column}"
        )

    def amount(self, row: Row, column: str, day: date) -> Decimal:
        found = self.money(row, column, day)
        if found is None:
            raise LookupError(f"{column} is missing in a row of {day}")
        return found

    def local_day(self, moment: datetime) -> date:
        return moment.astimezone(self._zone).date()

    def contacts(self) -> Iterator[Contact]:
        for row in self.rows("contacts"):
            yield Contact(
                self.key(row),
                row.get("email"),
                None if row.get("phone") is None else str(row["phone"]),
                instant(row.get("created_at") or row["ingested_at"]),
                self.reference(row, "merged_into_key", "contacts"),
                None if row.get("merged_at") is None else instant(row["merged_at"]),
            )

    def opportunities(self) -> Iterator[Opportunity]:
        for row in self.rows("opportunities"):
            created_at = instant(row["created_at"])
            contact = self.reference(row, "contact_key", "contacts")
            yield Opportunity(self.key(row), contact, created_at, self.local_day(created_at))

    def stages(self) -> Iterator[Stage]:
        for row in self.rows("opportunity_stage_history"):
            changed_at = instant(row["changed_at"])
            day = self.local_day(changed_at)
            closes = row.get("expected_close_date")
            yield Stage(
                self.required(row, "opportunity_key", "opportunities"),
                changed_at,
                day,
                row["stage"],
                self.money(row, "amount", day),
                _number(row.get("win_probability")) or Decimal(0),
                None if closes is None else _day(closes),
            )

    def spend(self, row: Row, channel: Channel) -> Spend:
        day = _day(row["date"])
        counts = [int(row.get(name) or 0) for name in ("impressions", "clicks", "leads", "opportunities")]
        return Spend(channel, day, self.amount(row, "spend", day), *counts)

    def events(self) -> Iterator[Event]:
        for row in self.rows("events"):
            at = instant(row["occurred_at"])
            properties = row.get("properties") or {}
            yield Event(
                self.key(row),
                at,
                self.local_day(at),
                row["event_type"],
                self.reference(row, "contact_key", "contacts"),
                self.reference(row, "campaign_key", "campaigns"),
                json.loads(properties) if isinstance(properties, str) else properties,
            )

    def activities(self) -> Iterator[Activity]:
        for row in self.rows("activities"):
            at = instant(row["occurred_at"])
            yield Activity(
                at,
                self.local_day(at),
                row["activity_type"],
                row.get("direction"),
                row.get("outcome"),
                self.reference(row, "contact_key", "contacts"),
            )

    def revenue(self) -> Iterator[Revenue]:
        for row in self.rows("revenue_events"):
            day = _day(row["effective_date"])
            yield Revenue(
                self.key(row),
                day,
                row["type"],
                self.amount(row, "amount", day),
                self.reference(row, "account_key", "accounts"),
                self.reference(row, "opportunity_key", "opportunities"),
                self.reference(row, "campaign_key", "campaigns"),
                row.get("attributed_channel"),
                _number(row.get("contract_months")),
                _flag(row.get("refunds_booking")),
                row.get("cost_class"),
                row.get("cost_function"),
            )

    def ledger(self) -> Iterator[LedgerEntry]:
        """Each entry at the rate of its account's first one in that currency, so that churn cancels gains."""
        entries = [
            (self.required(row, "account_key", "accounts"), _day(row["effective_date"]), row)
            for row in self.rows("subscription_ledger")
        ]
        first_days: dict[tuple[Key, str], date] = {}
        for account, day, row in sorted(entries, key=lambda entry: entry[1]):
            first_days.setdefault((account, self.currency(row)), day)
        for account, day, row in entries:
            delta = self.amount(row, "mrr_delta", first_days[account, self.currency(row)])
            yield LedgerEntry(account, day, row["reason"], delta)

    def finance(self) -> Iterator[FinanceMonth]:
        for row in self.rows("finance_inputs_monthly"):
            month = _day(row["month"])
            yield FinanceMonth(
                month,
                (month + timedelta(days=31)).replace(day=1) - timedelta(days=1),
                self.money(row, "cash_balance", month),
                self.money(row, "net_burn", month),
                _number(row.get("headcount_fte")),
                _number(row.get("variable_cost_share")),
            )


def _resolver(keys: list[Key]) -> Callable[[str, str], Key | None]:
    known = set(keys)
    systems: dict[str, list[str]] = {}
    for system, source_key in keys:
        systems.setdefault(source_key, []).append(system)

    def resolve(system: str, source_key: str) -> Key | None:
        if (system, source_key) in known:
            return (system, source_key)
        others = systems.get(source_key, [])
        return (others[0], source_key) if len(others) == 1 else None

    return resolve


def _values(column: pd.Series) -> list[Any]:
    # As objects in one step: an Arrow column that is iterated makes each value by itself, ten times slower.
    whole = column.astype(object)
    return [
        None if nothing or value == "" else value for value, nothing in zip(whole, column.isna(), strict=True)
    ]


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _number(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _known(row: Row, column: str) -> Decimal:
    return Decimal(str(row[column]))


def _day(value: Any) -> date:
    return pd.Timestamp(value).date()


def _flag(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "t", "yes") if value is not None else False
