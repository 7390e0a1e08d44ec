"""Campaigns, their channels, and what the channels cost and bring each day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from models.vocabulary import CHANNELS
from samples import draw
from samples.draw import Calendar, Streams
from samples.profiles import Profile


@dataclass(frozen=True, slots=True)
class _Channel:
    campaign: int
    kind: str
    is_paid: bool
    lead_share: float


# A kind runs in several campaigns, and linkedin is paid in one and free in another.
_CAMPAIGNS = (
    ("Search always on", "pipeline"),
    ("Search brand", "pipeline"),
    ("Social prospecting", "pipeline"),
    ("Newsletter", "bookings"),
    ("Content hub", "awareness"),
    ("Outbound sequence", "pipeline"),
    ("Field events", "awareness"),
    ("Win-back", "reactivation"),
)
_CHANNELS = (
    _Channel(0, "paid_search", True, 0.22),
    _Channel(1, "paid_search", True, 0.07),
    _Channel(2, "paid_social", True, 0.15),
    _Channel(2, "linkedin", True, 0.07),
    _Channel(3, "email", False, 0.09),
    _Channel(4, "content", False, 0.12),
    _Channel(4, "organic_social", False, 0.05),
    _Channel(5, "email", False, 0.04),
    _Channel(5, "voice", False, 0.02),
    _Channel(5, "sms", False, 0.01),
    _Channel(5, "linkedin", False, 0.02),
    _Channel(6, "events", False, 0.02),
    _Channel(6, "direct_mail", True, 0.02),
    _Channel(7, "email", False, 0.0),
)
COUNT = len(_CHANNELS)
CAMPAIGN_OF = np.array([channel.campaign for channel in _CHANNELS])
KIND_OF = np.array([CHANNELS.index(channel.kind) for channel in _CHANNELS])
IS_PAID = np.array([channel.is_paid for channel in _CHANNELS])
LEAD_SHARES = np.array([channel.lead_share for channel in _CHANNELS])
MAIN, PAUSED, SOCIAL, CONTENT, MAILED = 0, 1, 2, 5, 12


def paused_from(calendar: Calendar) -> int:
    """The day from which the brand search is paused."""
    return max(1, calendar.days // 2)


def campaigns(profile: Profile, calendar: Calendar) -> pd.DataFrame:
    count = len(_CAMPAIGNS)
    number = np.arange(count)
    begun = np.where(number == 6, calendar.days // 3, 0)
    return draw.frame(
        {
            "source_key": draw.keys("ca", number),
            "name": pa.array([name for name, _ in _CAMPAIGNS]),
            "objective": pa.array([objective for _, objective in _CAMPAIGNS]),
            "status": draw.words(("running", "paused"), (number == 1).astype(int)),
            "budget_currency": draw.same(profile.currency, count),
            "budget_total": draw.money(1_000_000 * (1 + number)),
            "start_date": draw.dates(calendar, begun),
            "end_date": draw.dates(calendar, np.full(count, calendar.days + 90), number != 6),
            "metadata": draw.nothing(count),
            "ingested_at": draw.instants(np.full(count, calendar.start + 3600)),
        }
    )


def channels(calendar: Calendar) -> pd.DataFrame:
    number = np.arange(COUNT)
    return draw.frame(
        {
            "source_key": draw.keys("ch", number),
            "campaign_key": draw.keys("ca", CAMPAIGN_OF),
            "channel": draw.words(CHANNELS, KIND_OF),
            "status": draw.words(("active", "paused"), (number == PAUSED).astype(int)),
            "is_paid": draw.flags(IS_PAID),
            "daily_budget": draw.money(np.where(IS_PAID, 20_000, 0)),
            "external_campaign_id": draw.keys("ext", np.where(IS_PAID, number + 9000, draw.NONE)),
            "ingested_at": draw.instants(np.full(COUNT, calendar.start + 3600)),
        }
    )


def spend(
    profile: Profile, calendar: Calendar, streams: Streams, budget: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """Daily spend of every channel that costs anything, and the same as cents by channel and day.

    `budget` is what the paid channels may cost each day, in cents of the home currency; on average that is
    what they do cost.
    """
    rng = streams.of("spend")
    shape = (COUNT, calendar.days)
    factor = rng.lognormal(0, 0.2, shape) * np.where(calendar.weekdays >= 5, profile.weekend_share, 1.0)
    factor[rng.random(shape) < 0.03] = 0
    factor[SOCIAL, calendar.weekdays >= 5] = 0
    factor[MAILED, calendar.weekdays != 0] = 0
    factor[PAUSED, paused_from(calendar) :] = 0
    shares = np.where(IS_PAID, LEAD_SHARES, 0.0)[:, None] * np.ones(shape)
    shares[:, paused_from(calendar) :][PAUSED] = 0
    shares /= shares.sum(axis=0)
    mean = np.maximum(factor.mean(axis=1, keepdims=True), 1e-9)
    mean[PAUSED] *= calendar.days / paused_from(calendar)
    cents = np.rint(budget * shares * factor / mean).astype(np.int64)
    # An unpaid channel that costs a little every Monday must stay out of everything paid.
    cents[CONTENT, calendar.weekdays == 0] = 5_000

    reported = IS_PAID[:, None] & (rng.random(shape) > 0.01)
    reported[MAILED] &= calendar.weekdays == 0
    reported[CONTENT] = calendar.weekdays == 0
    cents[~reported] = 0
    channel, day = np.nonzero(reported)
    return _spend_rows(profile, calendar, rng, channel, day, cents[channel, day]), cents


def _spend_rows(
    profile: Profile,
    calendar: Calendar,
    rng: np.random.Generator,
    channel: np.ndarray,
    day: np.ndarray,
    cents: np.ndarray,
) -> pd.DataFrame:
    count = len(channel)
    currency = currency_of_channel(profile, channel)
    impressions = rng.poisson(cents / 100 * 35)
    clicks = rng.binomial(impressions, 0.02)
    leads = rng.binomial(clicks, 0.05)
    opportunities = rng.binomial(leads, 0.25)
    return draw.frame(
        {
            "channel_key": draw.keys("ch", channel),
            "date": draw.dates(calendar, day),
            "currency": draw.words(profile.currencies, currency),
            "spend": draw.money(np.rint(cents / np.array(profile.rates)[currency])),
            "impressions": draw.numbers(impressions),
            "clicks": draw.numbers(clicks),
            "leads": draw.numbers(leads),
            "opportunities": draw.numbers(opportunities),
            "revenue_booked": draw.money(opportunities * rng.integers(0, 100_000, count)),
            "ingested_at": draw.instants(draw.next_morning(rng, calendar, day)),
        }
    )


def currency_of_channel(profile: Profile, channel: np.ndarray) -> np.ndarray:
    """Social and linkedin are billed in the first foreign currency, if the tenant has one."""
    return np.where(np.isin(channel, (SOCIAL, SOCIAL + 1)), min(1, len(profile.foreign)), 0)
