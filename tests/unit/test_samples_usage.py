"""A month of a sample site's usage: what is true of it stands in its lines, by every version of keys. No database."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from kernel.usage.keys.batch import keys_of
from samples import usage

BEGINS = datetime(2026, 10, 1, tzinfo=UTC)
EVENTS = 1_000
MONTH = usage.month("shop", BEGINS, EVENTS)
SITE = UUID("a0000000-0000-0000-0000-000000000001")


def records() -> list[dict[str, Any]]:
    """Every line that is an event, in the order they come."""
    found = []
    for week in MONTH.weeks:
        found += [json.loads(line) for line in week.lines[:-1]]
    return found


def keys(version: str) -> Counter[str | None]:
    read = records()
    came = [datetime.fromisoformat(each.pop("received_at")) for each in read]
    return Counter(
        keys_of(version, [str(SITE)] * len(read), read, [round(at.timestamp() * 1000) for at in came])
    )


def test_the_same_month_is_made_again_and_another_site_has_another():
    assert usage.month("shop", BEGINS, EVENTS) == MONTH
    assert usage.month("shed", BEGINS, EVENTS).weeks != MONTH.weeks


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_an_event_and_its_retries_are_one_by_every_version_of_keys(version: str):
    found = keys(version)
    assert len(found) == MONTH.events == EVENTS
    assert found.total() == MONTH.events + MONTH.retries
    assert sum(times - 1 for times in found.values()) == MONTH.retries == 100


def test_altered_retries_say_something_else_under_the_same_id():
    said: dict[str, set[str]] = {}
    for record in records():
        record.pop("received_at")
        said.setdefault(record["event_id"], set()).add(json.dumps(record, sort_keys=True))
    assert sum(len(each) - 1 for each in said.values()) == MONTH.altered == 4


def test_lines_come_in_order_and_within_their_week():
    begins = BEGINS
    for week in MONTH.weeks:
        came = [datetime.fromisoformat(json.loads(line)["received_at"]) for line in week.lines[:-1]]
        assert came == sorted(came)
        assert begins <= came[0] <= came[-1] < week.ends
        begins = week.ends
    assert begins == datetime(2026, 11, 1, tzinfo=UTC)


def test_working_days_are_busier_than_weekends():
    days = Counter(datetime.fromisoformat(each["received_at"]).date() for each in records())
    weekend = [count for day, count in days.items() if day.weekday() > 4]
    working = [count for day, count in days.items() if day.weekday() < 5]
    assert len(days) == 31
    assert sum(weekend) / len(weekend) < 0.6 * sum(working) / len(working)


def test_each_week_ends_with_a_line_that_is_no_event():
    bad = [week.lines[-1] for week in MONTH.weeks]
    assert len(bad) == MONTH.bad == 5
    assert sum(len(week.lines) for week in MONTH.weeks) == MONTH.lines
    assert {b"received_at" in line for line in bad} == {True, False}


@pytest.mark.parametrize(("begins", "weeks"), [(datetime(2026, 2, 1, tzinfo=UTC), 4), (BEGINS, 5)])
def test_weeks_cover_the_month(begins: datetime, weeks: int):
    made = usage.month("shop", begins, 50)
    assert len(made.weeks) == weeks
    assert made.weeks[-1].ends == (begins + timedelta(days=31)).replace(day=1)
