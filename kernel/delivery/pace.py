"""How fast messages go, and when so many would be through: a computation, nothing of it asks the database."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from kernel.delivery import holding

_LONGEST = timedelta(days=366)  # nobody waits longer, and caps may be nought


@dataclass(frozen=True, slots=True)
class Rules:
    """Those of a channel that take time; a cap that is None is none."""

    hourly_cap: int | None = None
    daily_cap: int | None = None
    quiet_from: time | None = None
    quiet_until: time | None = None
    time_zone: str = "UTC"


def finish(
    messages: int,
    starts_at: datetime,
    rules: Rules,
    *,
    per_second: float | None,
    used: dict[str, int] | None = None,
    asked_at: datetime | None = None,
) -> datetime | None:
    """When the last of `messages` has gone; None when that is more than a year away.

    `used` are the units of the hour and the day of `asked_at` that are taken. Without a pace (`per_second` is None) only
    caps and quiet hours take time, so that it is no later than it will be.
    """
    taken: dict[tuple[str, datetime], float] = defaultdict(float)
    for span, units in (used or {}).items():
        taken[span, _beginning(span, asked_at or starts_at)] = units
    at, left = starts_at.astimezone(UTC), float(messages)
    while at - starts_at < _LONGEST:
        if left <= 0:
            return at
        if until := holding.quiet_until(rules, at):
            at = until
            continue
        hour, day = ("hour", _beginning("hour", at)), ("day", _beginning("day", at))
        ends = {"hour": hour[1] + timedelta(hours=1), "day": day[1] + timedelta(days=1)}
        room = min(
            (cap - taken[window] for window, cap in ((hour, rules.hourly_cap), (day, rules.daily_cap)) if cap is not None),
            default=left,
        )  # fmt: skip
        if room <= 0:
            is_day = rules.daily_cap is not None and taken[day] >= rules.daily_cap
            at = ends["day" if is_day else "hour"]
            continue
        until = min(ends["hour"], _next_quiet(rules, at))
        possible = room if per_second is None else min(room, (until - at).total_seconds() * per_second)
        if possible >= left:
            return at if per_second is None else at + timedelta(seconds=left / per_second)
        left -= possible
        taken[hour] += possible
        taken[day] += possible
        at = until
    return None


def _beginning(span: str, at: datetime) -> datetime:
    """As quota windows begin: in UTC."""
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour if span == "hour" else hour.replace(hour=0)


def _next_quiet(rules: Rules, at: datetime) -> datetime:
    later = (begins for begins, _ in holding.quiet_hours(rules, at) if begins > at)
    return min(later, default=datetime.max.replace(tzinfo=UTC))
