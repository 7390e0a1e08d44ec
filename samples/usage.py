"""A month of a site's usage as a server would hand it over, a file a week: visits, retries, and lines that are no events.

What is true of it stands beside. No two events are one by any version of keys, and a retry is one with its event by all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from samples.draw import DAY, Streams

_SEED = 7
# Nothing comes twice within one by itself, and a retry comes in the two seconds it begins with.
_WINDOW_SECONDS = 10
_RETRIED = 0.1  # of the events
_ALTERED = 0.04  # of the retries
_WEEKEND = 0.4  # of a working day
_KINDS = (("page", "view", ""), ("interaction", "view", "pricing"), ("interaction", "scroll_depth", "75"),
          ("conversion", "form_submit", "demo"), ("system", "heartbeat", "session_active"))  # fmt: skip
_SHARES = (0.5, 0.2, 0.12, 0.05, 0.13)
_PAGES = ("", "pricing", "product", "customers", "docs/start", "blog/five-numbers")


@dataclass(frozen=True, slots=True)
class Week:
    """Lines of JSON as they came in, and the instant at which they were handed over."""

    name: str
    ends: datetime
    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Month:
    """`retries` are lines that repeat an event, `altered` those of them with another payload, `bad` are no events."""

    weeks: tuple[Week, ...]
    events: int
    retries: int
    altered: int
    bad: int

    @property
    def lines(self) -> int:
        return self.events + self.retries + self.bad


def month(site: str, begins: datetime, events: int) -> Month:
    """The month that begins at an instant in UTC, of a site's public id: the same for the same arguments."""
    days = ((begins + timedelta(days=31)).replace(day=1) - begins).days
    rng = Streams(_SEED, site).of(f"usage {begins:%Y-%m}")
    came = _instants(rng, begins, days, events)
    payloads = [_payload(rng, site, number, at) for number, at in enumerate(came)]
    received = [(at, payload) for at, payload in zip(came, payloads, strict=True)]
    again = rng.choice(events, round(events * _RETRIED), replace=False)
    altered = max(1, round(len(again) * _ALTERED))
    for place, number in enumerate(again):
        changed = {"ev": payloads[number]["ev"] + 1} if place < altered else {}
        after = timedelta(milliseconds=int(rng.integers(100, 1_500)))
        received.append((came[number] + after, payloads[number] | changed))
    received.sort(key=lambda each: each[0])
    ends = [min(day, days) for day in range(7, days + 7, 7)]
    weeks = tuple(_week(site, begins, number, end, received) for number, end in enumerate(ends, 1))
    return Month(weeks, events, len(again), altered, len(weeks))


def _instants(rng: np.random.Generator, begins: datetime, days: int, count: int) -> list[datetime]:
    of_day = DAY // _WINDOW_SECONDS
    hour = np.arange(of_day) * _WINDOW_SECONDS / 3600
    by_day = [_WEEKEND if (begins + timedelta(days=day)).weekday() > 4 else 1.0 for day in range(days)]
    weight = np.outer(by_day, 0.1 + np.exp(-(((hour - 14) / 5) ** 2))).ravel()
    windows = np.sort(rng.choice(days * of_day, count, replace=False, p=weight / weight.sum()))
    offset = rng.integers(0, 400, count)
    return [
        begins + timedelta(seconds=int(window) * _WINDOW_SECONDS, milliseconds=int(late))
        for window, late in zip(windows, offset, strict=True)
    ]


def _payload(rng: np.random.Generator, site: str, number: int, at: datetime) -> dict[str, Any]:
    category, action, label = _KINDS[rng.choice(len(_KINDS), p=_SHARES)]
    visitor = int(rng.integers(0, 900))
    page = _PAGES[int(rng.integers(0, len(_PAGES)))]
    return {
        "s": site, "url": f"https://{site}.example/{page}", "ec": category, "ea": action, "el": label,
        "ev": int(rng.integers(0, 500)), "sid": f"s-{visitor}-{at:%d}", "event_id": f"{at:%Y%m}-{number:06}",
        "ts": round(at.timestamp() * 1000), "meta": {"fp": f"fp-{visitor:04}"},
    }  # fmt: skip


def _week(
    site: str, begins: datetime, number: int, end: int, received: list[tuple[datetime, dict[str, Any]]]
) -> Week:
    """One to seven days that end with the day of this number, and one line that is no event."""
    first, ends = begins + timedelta(days=(number - 1) * 7), begins + timedelta(days=end)
    lines = [_line(payload, at) for at, payload in received if first <= at < ends]
    bad = (
        b'{"s": "' + site.encode(),
        _line({"s": site, "ec": "page", "ea": "view"}, ends - timedelta(seconds=1)),
        _line({"s": f"not-{site}", "url": "https://elsewhere.example/"}, ends - timedelta(seconds=1)),
    )
    return Week(f"{site}-{begins:%Y-%m}-week-{number}.jsonl", ends, (*lines, bad[number % len(bad)]))


def _line(payload: dict[str, Any], at: datetime) -> bytes:
    told = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
    return json.dumps(payload | {"received_at": told}, separators=(",", ":")).encode()
