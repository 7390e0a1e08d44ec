"""A company's whole history: every fact in the columns of its landing contract, and how it was handed over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from kernel.landing.contracts import FACTS
from models.vocabulary import ACCOUNT_STAGES, CONTACT_STAGES
from samples import campaigns, deals, draw, finance, people, revenue, subscriptions, touches
from samples.deliveries import Delivery, deliver
from samples.draw import NONE, Calendar, Streams
from samples.profiles import Profile

END = date(2026, 6, 30)
DAYS = 400
SEED = 1
REFERENCE_SOURCE_SYSTEM = "crm"  # what every other system means by its account, campaign and channel keys


@dataclass(frozen=True, slots=True)
class Coverage:
    source_system: str
    fact: str
    covered_from: date
    covered_to: date
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    valid_from: datetime
    reason: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tenant:
    id: str
    slug: str
    name: str
    default_currency: str
    config_versions: tuple[ConfigVersion, ...]
    flags: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Truth:
    """What the database must hold after every delivery was loaded in order.

    `facts` has a frame per landing contract, in its columns and `source_system`; `watermarks` the newest
    hand-over (`last_ingested_at`) of each `source_system` on each of the tenant's days (`date`), counting
    versions that were corrected later.
    """

    tenant: Tenant
    facts: dict[str, pd.DataFrame]
    coverage: tuple[Coverage, ...]
    watermarks: pd.DataFrame


@dataclass(frozen=True, slots=True)
class World:
    truth: Truth
    deliveries: tuple[Delivery, ...]


def generate(
    profile: Profile, *, seed: int = SEED, end: date = END, days: int = DAYS, scale: float = 1.0
) -> World:
    """The same arguments give the same world. `end` is the last business day; `scale` multiplies the facts."""
    days = min(days, profile.history_days or days)
    calendar = Calendar(end - timedelta(days=days - 1), days, ZoneInfo(profile.time_zone))
    streams = Streams(seed, profile.slug)
    facts = {fact: frame for fact, frame in _facts(profile, calendar, streams, scale).items() if len(frame)}
    settled, deliveries = deliver(profile, calendar, streams, facts)
    tenant = Tenant(
        profile.id,
        profile.slug,
        profile.name,
        profile.currency,
        _config_versions(profile, calendar),
        dict(profile.flags),
    )
    truth = Truth(tenant, settled, _coverage(calendar, settled), _watermarks(calendar, deliveries))
    return World(truth, deliveries)


def _facts(profile: Profile, calendar: Calendar, streams: Streams, scale: float) -> dict[str, pd.DataFrame]:
    opening = people.opening_customers(profile, scale)
    leads = people.leads(profile, calendar, streams, scale)
    account_count = max(opening, int(leads.account.max(initial=NONE)) + 1)
    direct = max(1, round(0.12 * (leads.deal_at != NONE).sum()))
    currency = _currencies(profile, streams, account_count + direct)
    made, history = deals.deals(profile, calendar, streams, leads, currency, first_direct=account_count)
    contacts = people.contacts(profile, calendar, streams, leads, opening)
    earned = deals.attribution(streams, made)
    ledger = subscriptions.ledger(profile, calendar, streams, made, currency, opening)

    paid_share = np.bincount(
        earned.deal, earned.weight * campaigns.IS_PAID[earned.channel] / 100, minlength=len(made.created_at)
    )
    budget = revenue.acquisition_budget(profile, calendar, made, paid_share)
    spend_rows, spend = campaigns.spend(profile, calendar, streams, budget.paid)
    mrr = subscriptions.daily_mrr(profile, calendar, ledger, currency)
    billed = revenue.billing(profile, calendar, streams, made, ledger, currency)
    costs = revenue.finance(profile, calendar, streams, mrr, budget, spend, billed)
    events, meetings = touches.event_rows(profile, calendar, streams, leads, contacts, made, history, opening)

    currency_words = draw.words(profile.currencies, made.currency)
    crm = {
        "accounts": people.account_rows(
            calendar, streams, *_accounts(calendar, leads, made, ledger, currency, opening)
        ),
        "contacts": people.contact_rows(contacts, streams, _contact_stages(leads, contacts, made, opening)),
        "campaigns": campaigns.campaigns(profile, calendar),
        "campaign_channels": campaigns.channels(calendar),
        "opportunities": deals.opportunity_rows(calendar, streams, made, history, currency_words),
        "opportunity_stage_history": deals.history_rows(calendar, streams, history, currency_words),
        "opportunity_channel_attribution": deals.attribution_rows(streams, made, earned),
        "events": events,
        "activities": touches.activity_rows(profile, calendar, streams, leads, contacts, made, meetings),
    }
    by_source = {
        "finance": {
            "fx_rates": finance.rate_rows(profile, calendar, streams),
            "finance_inputs_monthly": finance.monthly_rows(profile, calendar, streams),
            "revenue_events": revenue.rows(profile, calendar, streams, "finance", costs),
        },
        "crm": crm,
        "ads": {"channel_spend_daily": spend_rows},
        "billing": {
            "revenue_events": revenue.rows(profile, calendar, streams, "billing", billed),
            "subscription_ledger": subscriptions.rows(profile, calendar, streams, ledger, currency),
        },
    }
    return _together(profile, by_source)


def _together(profile: Profile, by_source: dict[str, dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Frames by fact, with their source system, of the sources and facts the tenant has."""
    parts: dict[str, list[pa.Table]] = {}
    for source, frames in by_source.items():
        for fact, frame in frames.items():
            if not profile.lacks(source, fact):
                table = pa.Table.from_pandas(frame, preserve_index=False)
                parts.setdefault(fact, []).append(
                    table.append_column("source_system", draw.same(source, len(frame)))
                )
    return {
        fact: pa.concat_tables(parts[fact]).combine_chunks().to_pandas(types_mapper=pd.ArrowDtype)
        for fact in FACTS
        if fact in parts
    }


def _currencies(profile: Profile, streams: Streams, accounts: int) -> np.ndarray:
    chosen = draw.pick(streams.of("currencies"), [foreign.share for foreign in profile.foreign], accounts)
    return chosen + 1


def _accounts(
    calendar: Calendar,
    leads: people.Leads,
    made: deals.Deals,
    ledger: subscriptions.Ledger,
    currency: np.ndarray,
    opening: int,
) -> tuple[np.ndarray, np.ndarray]:
    """When each account was created, and its stage today."""
    created = np.full(len(currency), calendar.end - 7200)
    created[:opening] = calendar.start
    known = leads.account != NONE
    np.minimum.at(created, leads.account[known], leads.at[known] - 60)
    np.minimum.at(created, made.account, made.created_at - 60)

    mrr = np.bincount(ledger.account, ledger.delta, minlength=len(currency))
    came_back = np.zeros(len(currency), dtype=bool)
    came_back[ledger.account[ledger.reason == subscriptions.REACTIVATION]] = True
    bought = np.zeros(len(currency), dtype=bool)
    bought[ledger.account] = True
    prospect, customer, churned, reactivated = range(len(ACCOUNT_STAGES))
    stage = np.select([came_back & (mrr > 0), mrr > 0, bought], [reactivated, customer, churned], prospect)
    return created, stage


def _contact_stages(
    leads: people.Leads, contacts: people.Contacts, made: deals.Deals, opening: int
) -> np.ndarray:
    stage = np.zeros(len(contacts.account), dtype=np.int64)
    stage[:opening] = CONTACT_STAGES.index("customer")

    def reach(which: np.ndarray, name: str) -> None:
        stage[which[which != NONE]] = CONTACT_STAGES.index(name)

    reach(leads.contact[leads.mql_at != NONE], "mql")
    reach(made.contact, "opportunity")
    reach(made.contact[made.won_at != NONE], "customer")
    return stage[contacts.original]


def _config_versions(profile: Profile, calendar: Calendar) -> tuple[ConfigVersion, ...]:
    settled = {"reporting_currency": profile.currency, "time_zone": profile.time_zone}
    founded = datetime.fromtimestamp(calendar.start, UTC) - timedelta(days=900)
    versions = [ConfigVersion(founded, "The company signs up", {**settled, **profile.config})]
    for change in profile.config_changes:
        on = calendar.first + timedelta(days=int(calendar.days * change.at))
        noon = datetime.combine(on, time(12), calendar.zone).astimezone(UTC)
        versions.append(ConfigVersion(noon, change.reason, {**settled, **change.payload}))
    return tuple(versions)


def _coverage(calendar: Calendar, facts: dict[str, pd.DataFrame]) -> tuple[Coverage, ...]:
    """Every dated fact covers all the days; finance inputs cover the months that were closed."""
    found = []
    for fact, frame in facts.items():
        if FACTS[fact].happened is None:
            continue
        first, last = calendar.first, calendar.last
        if fact == "finance_inputs_monthly":
            newest = frame["month"].max()
            first, last = (
                frame["month"].min(),
                (newest + timedelta(days=32)).replace(day=1) - timedelta(days=1),
            )
        found += [Coverage(source, fact, first, last) for source in sorted(frame["source_system"].unique())]
    return tuple(sorted(found, key=lambda row: (row.source_system, row.fact)))


def _watermarks(calendar: Calendar, deliveries: Iterable[Delivery]) -> pd.DataFrame:
    parts = []
    for delivery in deliveries:
        handed_over = pa.Array.from_pandas(delivery.rows["ingested_at"]).cast(pa.int64()).to_numpy()
        day = calendar.day_of(handed_over)
        newest = pd.DataFrame({"day": day, "at": handed_over}).groupby("day", as_index=False)["at"].max()
        parts.append(newest.assign(source_system=delivery.source_system))
    every = pd.concat(parts).groupby(["source_system", "day"], as_index=False)["at"].max()
    return draw.frame(
        {
            "source_system": pa.array(every["source_system"], pa.string()),
            "date": draw.dates(calendar, every["day"].to_numpy()),
            "last_ingested_at": draw.instants(every["at"].to_numpy()),
        }
    )
