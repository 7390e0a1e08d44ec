"""Seeded randomness, the tenant's calendar, and whole columns at a time. What a company does stands elsewhere.

Inside the generator a business day is a number counted from the first day, an instant is seconds since 1970
UTC, money is whole cents, and -1 stands for nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

NONE = -1
DAY = 86_400
_EPOCH = date(1970, 1, 1)


class Streams:
    """One generator of random numbers per named purpose, so that adding a draw to one disturbs no other."""

    def __init__(self, seed: int, tenant: str) -> None:
        self._seed = seed
        self._tenant = zlib.crc32(tenant.encode())

    def of(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._tenant, zlib.crc32(purpose.encode())])


@dataclass(frozen=True)
class Calendar:
    """The covered days of one tenant in its time zone."""

    first: date
    days: int
    zone: ZoneInfo

    @cached_property
    def midnights(self) -> np.ndarray:
        """The instants that begin each day, and the one that ends the last."""
        on = [self.first + timedelta(days=number) for number in range(self.days + 1)]
        return np.array(
            [int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp()) for day in on]
        )

    @property
    def last(self) -> date:
        return self.first + timedelta(days=self.days - 1)

    @property
    def start(self) -> int:
        return int(self.midnights[0])

    @property
    def end(self) -> int:
        return int(self.midnights[-1])

    @property
    def as_of(self) -> int:
        """Noon UTC after the last day: by then everything was handed over."""
        return (self.epoch_day(self.days)) * DAY + DAY // 2

    def epoch_day(self, day: Any) -> Any:
        return (self.first - _EPOCH).days + day

    def instants(self, day: np.ndarray, share: np.ndarray) -> np.ndarray:
        """The instants a share (0 to 1) of real time into each day, which may have 23 or 25 hours."""
        begins = self.midnights[day]
        length = self.midnights[day + 1] - begins
        return begins + np.minimum((share * length).astype(np.int64), length - 1)

    def day_of(self, instants: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.midnights, instants, side="right") - 1

    @cached_property
    def weekdays(self) -> np.ndarray:
        return (self.first.weekday() + np.arange(self.days)) % 7

    @cached_property
    def changes_clocks(self) -> np.ndarray:
        return np.diff(self.midnights) != DAY

    @cached_property
    def day_of_month(self) -> np.ndarray:
        return np.array([(self.first + timedelta(days=number)).day for number in range(self.days)])

    @cached_property
    def ends_month(self) -> np.ndarray:
        return np.array([(self.first + timedelta(days=number + 1)).day == 1 for number in range(self.days)])


def within_day(rng: np.random.Generator, calendar: Calendar, day: np.ndarray) -> np.ndarray:
    """Shares of the day: mostly working hours, some at any hour, a few on the first and on the last second.

    On a day that changes clocks half of them fall into its first hours.
    """
    count = len(day)
    kind = rng.random(count)
    share = np.clip(rng.normal(0.56, 0.12, count), 0, 0.999)
    share = np.where(kind < 0.15, rng.random(count), share)
    share = np.where(calendar.changes_clocks[day] & (kind > 0.5), rng.random(count) / 6, share)
    share = np.where(kind < 0.01, 0.0, share)
    return np.where(kind > 0.99, 1.0, share)


def next_morning(rng: np.random.Generator, calendar: Calendar, day: np.ndarray) -> np.ndarray:
    """When a source hands over what is known by day only: the next day between 5 and 11 UTC."""
    return (calendar.epoch_day(day) + 1) * DAY + rng.integers(5 * 3600, 11 * 3600, len(day))


def around(mean: float, spread: float, rng: np.random.Generator, count: int) -> np.ndarray:
    """Log-normal numbers of that mean; `spread` is the standard deviation of their logarithms."""
    return rng.lognormal(np.log(mean) - spread**2 / 2, spread, count)


def smoothed(calendar: Calendar, day: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """How many per day, averaged over the month around each day."""
    counts = np.bincount(day, weight, minlength=calendar.days)
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    number = np.arange(calendar.days)
    first, last = np.maximum(number - 15, 0), np.minimum(number + 15, calendar.days - 1)
    return (sums[last + 1] - sums[first]) / (last + 1 - first)


def pick(rng: np.random.Generator, shares: Sequence[float], count: int) -> np.ndarray:
    """Indexes drawn by share; what the shares leave open becomes nothing."""
    return _nothing_beyond(np.searchsorted(np.cumsum(shares), rng.random(count), side="right"), len(shares))


def _nothing_beyond(index: np.ndarray, size: int) -> np.ndarray:
    return np.where(index < size, index, NONE)


# Columns.


def keys(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Source keys such as ct-12."""
    return pc.binary_join_element_wise(prefix, _nullable(numbers).cast(pa.string()), "-")


def words(choices: Sequence[str | None], codes: np.ndarray) -> pa.Array:
    return pa.array(choices, pa.string()).take(_nullable(codes))


def same(value: Any, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), count)


def nothing(count: int) -> pa.Array:
    return pa.nulls(count, pa.string())


def decimals(units: np.ndarray, scale: int, missing: np.ndarray | None = None) -> pa.Array:
    """Exact decimals from whole units of the last place."""
    units = np.asarray(units, dtype=np.int64)
    halves = np.empty((len(units), 2), dtype=np.int64)  # low and high half of each 128-bit integer
    halves[:, 0] = units
    halves[:, 1] = units >> 63
    whole = pa.Array.from_buffers(
        pa.decimal128(18, scale), len(units), [None, pa.py_buffer(halves.tobytes())]
    )
    if missing is None:
        return whole
    return pc.if_else(pa.array(missing), pa.scalar(None, whole.type), whole)


def money(cents: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    return decimals(cents, 2, missing)


def instants(seconds: np.ndarray) -> pa.Array:
    return _nullable(seconds).cast(pa.timestamp("s", tz="UTC"))


def dates(calendar: Calendar, day: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Days counted from the first one (also before it) as dates."""
    return pa.array(calendar.epoch_day(np.asarray(day)).astype(np.int32), mask=missing).cast(pa.date32())


def flags(values: np.ndarray) -> pa.Array:
    return pa.array(np.asarray(values, dtype=bool))


def numbers(values: np.ndarray) -> pa.Array:
    return _nullable(values)


def joined(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def frame(columns: dict[str, pa.Array]) -> pd.DataFrame:
    return pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)


def _nullable(values: np.ndarray) -> pa.Array:
    values = np.asarray(values, dtype=np.int64)
    return pa.array(values, mask=values == NONE)
