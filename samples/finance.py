"""What finance closes each month, and daily exchange rates into the reporting currency."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from samples import draw
from samples.draw import Calendar, Streams
from samples.profiles import Profile

_DAYS_TO_CLOSE = 8
_RATES_BEFORE = 520  # the oldest ledger entry, ten days and a weekend


def closed_months(calendar: Calendar) -> list[date]:
    """The first days of the months finance has closed, from the one of the first covered day on."""
    found = []
    month = calendar.first.replace(day=1)
    while _closed_at(month) <= calendar.as_of:
        found.append(month)
        month = _next(month)
    return found


def _next(month: date) -> date:
    return (month + timedelta(days=32)).replace(day=1)


def _closed_at(month: date) -> int:
    return ((_next(month) - date(1970, 1, 1)).days + _DAYS_TO_CLOSE) * draw.DAY + 15 * 3600


def monthly_rows(profile: Profile, calendar: Calendar, streams: Streams) -> pd.DataFrame:
    """Cash falls by each month's burn and stands, at the newest close, for the profile's runway."""
    rng = streams.of("finance months")
    closed = closed_months(calendar)
    count = len(closed)
    burn = np.rint(profile.burn_per_month * 100 * rng.uniform(0.9, 1.1, count)).astype(np.int64)
    if count > 6:
        burn[count - 6] = -burn[count - 6] // 4  # one good month in which cash grew
    newest = round(profile.runway_months * burn[-3:].mean()) if count else 0
    cash = newest + burn.sum() - np.cumsum(burn)
    heads = np.rint(profile.headcount * 10 * np.linspace(0.9, 1.1, count)).astype(np.int64)
    return draw.frame(
        {
            "month": pa.array(closed, pa.date32()),
            "currency": draw.same(profile.currency, count),
            "cash_balance": draw.money(cash),
            "net_burn": draw.money(burn),
            "headcount_fte": draw.decimals(heads, 1),
            "variable_cost_share": draw.decimals(np.full(count, 35), 2, np.arange(count) == count - 9),
            "ingested_at": draw.instants(np.array([_closed_at(month) for month in closed], dtype=np.int64)),
        }
    )


def rate_rows(profile: Profile, calendar: Calendar, streams: Streams) -> pd.DataFrame:
    """A rate of every working day but the last days of the year, for each foreign currency."""
    rng = streams.of("rates")
    day = np.arange(-_RATES_BEFORE, calendar.days)
    on = [calendar.first + timedelta(days=int(number)) for number in day]
    open_days = np.array([d.weekday() < 5 and not (d.month == 12 and d.day > 24) for d in on])
    parts = []
    for foreign in profile.foreign:
        steps = rng.normal(0, 0.002, len(day))
        rate = foreign.rate * np.exp(np.cumsum(steps) - steps.sum() / 2)
        parts.append((foreign.currency, day[open_days], np.rint(rate[open_days] * 1e6).astype(np.int64)))
    base = [currency for currency, days, _ in parts for _ in days]
    quoted = np.concatenate([days for _, days, _ in parts]) if parts else np.empty(0, int)
    rate = np.concatenate([rates for _, _, rates in parts]) if parts else np.empty(0, int)
    return draw.frame(
        {
            "rate_date": draw.dates(calendar, quoted),
            "base_currency": pa.array(base, pa.string()),
            "quote_currency": draw.same(profile.currency, len(quoted)),
            "rate": draw.decimals(rate, 6),
            "ingested_at": draw.instants(draw.next_morning(rng, calendar, np.maximum(quoted, 0))),
        }
    )
