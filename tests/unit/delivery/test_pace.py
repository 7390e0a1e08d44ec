"""When so many messages would be through, by the pace, the caps and the quiet hours."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.delivery import holding
from kernel.delivery.pace import Rules, finish

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
FREE = Rules()
NIGHT = Rules(quiet_from=time(21), quiet_until=time(8), time_zone="Europe/Berlin")  # 20:00 to 07:00 in UTC


def after(messages: int, rules: Rules = FREE, per_second: float | None = 1.0, **given) -> timedelta | None:
    ends = finish(messages, NOON, rules, per_second=per_second, **given)
    return None if ends is None else ends - NOON


def test_without_rules_the_pace_alone_takes_time() -> None:
    assert after(36_000, per_second=10) == timedelta(hours=1)


def test_a_cap_of_the_hour_makes_the_rest_wait_for_the_next_one() -> None:
    assert after(250, Rules(hourly_cap=100)) == timedelta(hours=2, seconds=50)


def test_what_the_hour_has_had_counts() -> None:
    assert after(100, Rules(hourly_cap=100), used={"hour": 60}) == timedelta(hours=1, seconds=60)


def test_what_an_hour_has_had_that_is_over_by_the_start_does_not_count() -> None:
    earlier = NOON - timedelta(hours=3)
    assert after(100, Rules(hourly_cap=100), used={"hour": 60}, asked_at=earlier) == timedelta(seconds=100)


def test_a_cap_of_the_day_makes_the_rest_wait_for_midnight() -> None:
    assert after(1100, Rules(daily_cap=1000)) == timedelta(hours=12, seconds=100)


def test_the_slower_of_pace_and_cap_decides() -> None:
    assert after(7200, Rules(hourly_cap=1_000_000), per_second=1) == timedelta(hours=2)
    assert after(7200, Rules(hourly_cap=1800), per_second=1) == timedelta(hours=3.5)


def test_nothing_goes_in_quiet_hours() -> None:
    # Eight hours until 20:00, eleven of silence, and the rest.
    assert after(8 * 3600 + 60, NIGHT) == timedelta(hours=19, seconds=60)


def test_a_start_in_quiet_hours_waits_for_their_end() -> None:
    late = datetime(2026, 11, 20, 23, tzinfo=UTC)
    assert finish(60, late, NIGHT, per_second=1) == datetime(2026, 11, 21, 7, 1, tzinfo=UTC)


def test_the_night_in_which_clocks_are_put_forward_is_an_hour_shorter() -> None:
    saturday = datetime(2026, 3, 28, 19, 59, tzinfo=UTC)
    assert finish(120, saturday, NIGHT, per_second=1) == datetime(2026, 3, 29, 6, 1, tzinfo=UTC)


def test_without_a_pace_caps_alone_take_time() -> None:
    assert after(250, Rules(hourly_cap=100), per_second=None) == timedelta(hours=2)
    assert after(100, Rules(hourly_cap=100), per_second=None) == timedelta(0)


@pytest.mark.parametrize("rules", [Rules(hourly_cap=0), Rules(daily_cap=0)], ids=["hour", "day"])
def test_a_cap_of_nought_never_ends(rules: Rules) -> None:
    assert after(1, rules) is None


def test_nobody_is_done_at_once() -> None:
    assert after(0) == timedelta(0)


def test_quiet_hours_begin_within_an_hour_too() -> None:
    lunch = Rules(quiet_from=time(12, 30), quiet_until=time(13, 15))
    assert after(3600, lunch) == timedelta(hours=1, minutes=45)


# The nights in which clocks are changed ------------------------------------------------------------------------------

HALF = timedelta(minutes=30)


@cache
def transitions() -> list[tuple[str, datetime]]:
    """Of all zones in 2026 and 2027: the instant from which another offset holds."""
    found = []
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        # No zone keeps an offset for less than a week: the shortest is that of Ramadan.
        weeks = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(weeks=week) for week in range(106)]
        for low, high in pairwise(weeks):
            if low.astimezone(zone).utcoffset() == high.astimezone(zone).utcoffset():
                continue
            before = low.astimezone(zone).utcoffset()
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
            found.append((name, high.replace(second=0, microsecond=0)))
    return found


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_quiet_hours_end_later_and_the_computation_ends_whatever_clocks_do(data: st.DataObject) -> None:
    name, changes = data.draw(st.sampled_from(transitions()))
    zone, minutes = ZoneInfo(name), st.integers(-150, 150)
    wall = changes.replace(tzinfo=None) + changes.astimezone(zone).utcoffset()
    until = (wall + timedelta(minutes=data.draw(minutes))).time()
    since = (wall + timedelta(minutes=data.draw(st.sampled_from([-600, -240, -90, -30, 30, 600])))).time()
    rules = Rules(quiet_from=since, quiet_until=until, time_zone=name)
    now = changes + timedelta(minutes=data.draw(minutes))
    ends = holding.quiet_until(rules, now)
    if ends is not None:
        assert ends > now
        assert ends.tzinfo is now.tzinfo
    is_walls = holding.quiet_until(rules, now) is not None
    local = now.astimezone(zone).time()
    if since != until and (since <= local < until if since < until else local >= since or local < until):
        assert is_walls  # never less quiet than the clock on the wall says
    for messages, capped, per_second in (
        (200, rules.__class__(10, None, since, until, name), 1.0),
        (5000, rules, 0.1),
    ):
        through = finish(messages, now - 12 * HALF, capped, per_second=per_second)
        assert through is None or through > now - 12 * HALF


def test_in_the_hour_that_comes_twice_the_later_one_ends_the_quiet_hours() -> None:
    rules = Rules(quiet_from=time(22), quiet_until=time(2, 30), time_zone="Europe/Berlin")
    end = datetime(2027, 10, 31, 1, 30, tzinfo=UTC)
    for minutes in (95, 60, 45, 20, 1):
        assert holding.quiet_until(rules, end - timedelta(minutes=minutes)) == end
    assert holding.quiet_until(rules, end) is None


def test_quiet_hours_that_end_in_an_hour_that_is_left_out_end_after_it() -> None:
    rules = Rules(quiet_from=time(22), quiet_until=time(2, 30), time_zone="Europe/Berlin")
    assert holding.quiet_until(rules, datetime(2027, 3, 28, 0, 50, tzinfo=UTC)) == datetime(
        2027, 3, 28, 1, 30, tzinfo=UTC
    )
