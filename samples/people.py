"""Who a company knows: leads as they come in, the accounts behind them, and contacts with their duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from models.vocabulary import ACCOUNT_STAGES, CONTACT_STAGES, PERSONAS, SEGMENTS, SIZE_BUCKETS
from samples import campaigns, draw
from samples.draw import NONE, Calendar, Streams
from samples.profiles import Profile

_FIRST = ("Ana", "Ben", "Chloé", "Dev", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kim", "Lena",
          "Milan", "Noor", "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tara", "Uma", "Viktor", "Wen", "Zoë")  # fmt: skip
_LAST = ("Abbott", "Baker", "Castro", "Dubois", "Eriksen", "Fischer", "García", "Huang", "Ivanov", "Jansen",
         "Khan", "Lopez", "Müller", "Novak", "O'Neil", "Patel", "Quist", "Rossi", "Silva", "Tanaka")  # fmt: skip
_ASCII = str.maketrans("éëíüá", "eeiua", "'")
_COMPANY = ("Amber", "Birch", "Cobalt", "Dune", "Elm", "Fjord", "Granite", "Harbor", "Iris", "Juniper")
_TRADE = ("Logistics", "Foods", "Analytics", "Clinics", "Software", "Media", "Energy", "Retail")
_INDUSTRIES = ("transport", "food", "data", "health", "software", "media", "energy", "retail")
_ROLES = ("Owner", "Head of Operations", "Finance Lead", "Marketing Manager", "Engineer")


@dataclass(frozen=True, slots=True)
class Leads:
    """One entry per lead, in order of time. `account` and `contact` are -1 for a lead nobody identified."""

    at: np.ndarray
    day: np.ndarray
    channel: np.ndarray
    account: np.ndarray
    contact: np.ndarray
    mql_at: np.ndarray
    deal_at: np.ndarray

    @property
    def campaign(self) -> np.ndarray:
        return np.where(self.channel == NONE, NONE, campaigns.CAMPAIGN_OF[self.channel])


@dataclass(frozen=True, slots=True)
class Contacts:
    """Who each contact is. `original` is the contact it duplicates, else itself.

    The first ones are those of the opening customers, then one per identified lead, then the duplicates.
    """

    account: np.ndarray
    original: np.ndarray
    created_at: np.ndarray
    merged_into: np.ndarray
    merged_at: np.ndarray

    @property
    def duplicates(self) -> np.ndarray:
        return np.flatnonzero(self.original != np.arange(len(self.original)))


def opening_customers(profile: Profile, scale: float) -> int:
    """Customers from before the first covered day; they are the first accounts and the first contacts."""
    return 0 if profile.opening_customers == 0 else max(3, round(profile.opening_customers * scale))


def day_weights(profile: Profile, calendar: Calendar) -> np.ndarray:
    """Demand of each day relative to an ordinary one: by weekday, by time of year, and its trend."""
    weekday = np.where(calendar.weekdays >= 5, profile.weekend_share, 1.0)
    number = np.arange(calendar.days)
    yearly = 1 + profile.yearly_swing * np.sin(2 * np.pi * calendar.epoch_day(number) / 365.25)
    return weekday * yearly * (1 + profile.growth_per_year) ** (number / 365)


def leads(profile: Profile, calendar: Calendar, streams: Streams, scale: float) -> Leads:
    rng = streams.of("leads")
    per_day = rng.poisson(profile.leads_per_day * scale * day_weights(profile, calendar))
    day = np.repeat(np.arange(calendar.days), per_day)
    at = np.sort(calendar.instants(day, draw.within_day(rng, calendar, day)))
    count = len(at)

    channel = draw.pick(rng, campaigns.LEAD_SHARES, count)
    paused = (channel == campaigns.PAUSED) & (day >= campaigns.paused_from(calendar))
    channel[paused] = campaigns.MAIN

    identified = rng.random(count) >= profile.anonymous_share
    opening = opening_customers(profile, scale)
    account = np.full(count, NONE)
    account[identified] = opening + _accounts_of(rng, int(identified.sum()))
    contact = np.full(count, NONE)
    contact[identified] = opening + np.arange(identified.sum())

    mql_at = _later(rng, calendar, at, identified & (rng.random(count) < profile.mql_share), 1.5)
    deal_at = _later(rng, calendar, mql_at, (mql_at != NONE) & (rng.random(count) < profile.deal_share), 3.0)
    return Leads(at, day, channel, account, contact, mql_at, deal_at)


def _accounts_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """One account in five leads is that of an earlier lead."""
    number = np.arange(count)
    earlier = np.floor(rng.random(count) * number).astype(np.int64)
    parent = np.where(rng.random(count) < 0.2, earlier, number)
    while not np.array_equal(parent, parent[parent]):
        parent = parent[parent]
    return np.unique(parent, return_inverse=True)[1]


def _later(
    rng: np.random.Generator, calendar: Calendar, since: np.ndarray, happens: np.ndarray, mean_days: float
) -> np.ndarray:
    """Instants some days later; nothing where it does not happen, or not before the last day ends."""
    at = since + (rng.exponential(mean_days, len(since)) * draw.DAY).astype(np.int64) + 60
    return np.where(happens & (at < calendar.end), at, NONE)


def contacts(profile: Profile, calendar: Calendar, streams: Streams, leads: Leads, opening: int) -> Contacts:
    rng = streams.of("contacts")
    known = leads.contact != NONE
    account = np.concatenate([np.arange(opening), leads.account[known]])
    created = np.concatenate([np.full(opening, calendar.start + 60), leads.at[known] - 30])
    single = Contacts(account, np.arange(len(account)), created, *_unmerged(len(account)))
    doubled = _duplicated(single, rng, calendar, opening, profile.duplicate_share)
    # A duplicate of a duplicate: both are merged, one after the other.
    return _chained(doubled, rng, calendar, len(account))


def _unmerged(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(count, NONE), np.full(count, NONE)


def _duplicated(
    single: Contacts, rng: np.random.Generator, calendar: Calendar, opening: int, share: float
) -> Contacts:
    candidates = np.arange(opening, len(single.account))
    of = candidates[rng.random(len(candidates)) < share]
    created = single.created_at[of] + rng.integers(3600, 20 * draw.DAY, len(of))
    of, created = of[created < calendar.end], created[created < calendar.end]
    merged_at = created + rng.integers(3600, 15 * draw.DAY, len(of))
    merged = (rng.random(len(of)) < 0.7) & (merged_at < calendar.end)
    return _with(single, of, created, np.where(merged, of, NONE), np.where(merged, merged_at, NONE))


def _chained(doubled: Contacts, rng: np.random.Generator, calendar: Calendar, singles: int) -> Contacts:
    number = np.arange(len(doubled.account))
    merged = number[(doubled.merged_into != NONE) & (number >= singles)]
    of = merged[::10]
    half_way = (doubled.created_at[of] + doubled.merged_at[of]) // 2
    created = (doubled.created_at[of] + half_way) // 2
    chained = _with(doubled, of, created, of, half_way)
    chained.original[len(number) :] = doubled.original[of]
    return chained


def _with(
    contacts: Contacts, of: np.ndarray, created: np.ndarray, merged_into: np.ndarray, merged_at: np.ndarray
) -> Contacts:
    return Contacts(
        np.concatenate([contacts.account, contacts.account[of]]),
        np.concatenate([contacts.original, of]),
        np.concatenate([contacts.created_at, created]),
        np.concatenate([contacts.merged_into, merged_into]),
        np.concatenate([contacts.merged_at, merged_at]),
    )


def account_rows(
    calendar: Calendar, streams: Streams, created_at: np.ndarray, stage: np.ndarray
) -> pd.DataFrame:
    """`created_at` and `stage` (index into ACCOUNT_STAGES) of each account, in order of its number."""
    rng = streams.of("accounts")
    count = len(created_at)
    number = np.arange(count)
    trade = rng.integers(0, len(_TRADE), count)
    size = draw.pick(rng, (0.3, 0.3, 0.2, 0.1, 0.06, 0.03, 0.01), count)
    name = draw.joined(
        draw.words([f"{word} " for word in _COMPANY], rng.integers(0, len(_COMPANY), count)),
        draw.words([f"{word} " for word in _TRADE], trade),
        pa.array(number).cast(pa.string()),
    )
    return draw.frame(
        {
            "source_key": draw.keys("ac", number),
            "name": name,
            "external_crm_id": draw.keys("001", number),
            "industry": draw.words(_INDUSTRIES, np.where(rng.random(count) < 0.1, NONE, trade)),
            "size_bucket": draw.words(SIZE_BUCKETS, size),
            "segment": draw.words(SEGMENTS, np.minimum(size // 2, 3)),
            "lifecycle_stage": draw.words(ACCOUNT_STAGES, stage),
            "metadata": draw.nothing(count),
            "created_at": draw.instants(created_at),
            "ingested_at": draw.instants(created_at + rng.integers(60, 3600, count)),
        }
    )


def contact_rows(contacts: Contacts, streams: Streams, stage: np.ndarray) -> pd.DataFrame:
    """`stage` is an index into CONTACT_STAGES per contact."""
    rng = streams.of("contact rows")
    count = len(contacts.account)
    number = np.arange(count)
    # A duplicate carries the name and address of its original, spelled differently.
    of = contacts.original
    first = rng.integers(0, len(_FIRST), count)[of]
    last = rng.integers(0, len(_LAST), count)[of]
    reach = rng.random(count)[of]
    is_copy = number != of
    return draw.frame(
        {
            "source_key": draw.keys("ct", number),
            "account_key": draw.keys("ac", contacts.account),
            "email": _emails(first, last, of, is_copy, missing=reach < 0.07),
            "phone": _phones(of, is_copy, missing=(reach < 0.01) | (reach > 0.8)),
            "first_name": draw.words(_FIRST, first),
            "last_name": draw.words(_LAST, last),
            "role_title": draw.words(_ROLES, rng.integers(0, len(_ROLES), count)),
            "persona_tag": draw.words(PERSONAS, rng.integers(0, len(PERSONAS), count)),
            "lifecycle_stage": draw.words(CONTACT_STAGES, stage),
            "external_crm_id": draw.keys("003", number),
            "merged_into_key": draw.keys("ct", contacts.merged_into),
            "merged_at": draw.instants(contacts.merged_at),
            "metadata": draw.nothing(count),
            "created_at": draw.instants(contacts.created_at),
            "ingested_at": draw.instants(
                np.maximum(contacts.created_at, contacts.merged_at) + rng.integers(60, 1800, count)
            ),
        }
    )


def _emails(
    first: np.ndarray, last: np.ndarray, of: np.ndarray, is_copy: np.ndarray, missing: np.ndarray
) -> pa.Array:
    plain = draw.joined(
        draw.words([f"{name.lower().translate(_ASCII)}." for name in _FIRST], first),
        draw.words([f"{name.lower().translate(_ASCII)}." for name in _LAST], last),
        pa.array(of).cast(pa.string()),
        "@mail.example",
    )
    return _unless(missing, pc.if_else(pa.array(is_copy), pc.ascii_upper(plain), plain))


def _phones(of: np.ndarray, is_copy: np.ndarray, missing: np.ndarray) -> pa.Array:
    digits = pa.array(1_000_000 + of % 9_000_000).cast(pa.string())
    spaced = draw.joined(
        "+1 212 ", pc.utf8_slice_codeunits(digits, 0, 3), " ", pc.utf8_slice_codeunits(digits, 3)
    )
    return _unless(missing, pc.if_else(pa.array(is_copy), draw.joined("+1212", digits), spaced))


def _unless(missing: np.ndarray, values: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), values)
