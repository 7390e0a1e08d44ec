"""What holds a job back at the moment of sending: pauses, stops, quiet hours, approvals that are good no more, caps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from models.statements import statements

_ASK_AGAIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Held:
    """Until when the job waits, or in which status its queued items end."""

    why: str
    until: datetime | None = None
    status: Literal["cancelled", "expired"] | None = None


def why_not(row: sa.Row[Any]) -> Held | None:
    """Why nothing of the job may be sent at `row.now`, None when it may; `row` is that of statement `hold`."""
    if row.cancel_requested_at is not None:
        return Held("the run was cancelled", status="cancelled")
    if row.expires_at is not None and row.expires_at <= row.now:
        return Held(f"the run was good until {row.expires_at:%Y-%m-%d %H:%M %Z}", status="expired")
    if row.approval_expires_at <= row.now:
        return Held(
            f"the approval was good until {row.approval_expires_at:%Y-%m-%d %H:%M %Z}", status="expired"
        )
    if row.paused_at is not None:
        return Held("the run is paused", until=row.now + _ASK_AGAIN)
    if not row.is_active:
        return Held("the tenant is suspended", until=row.now + _ASK_AGAIN)
    if row.stopped_at is not None:
        return Held(f"account {row.account} is stopped: {row.stop_reason}", until=row.now + _ASK_AGAIN)
    if until := quiet_until(row, row.now):
        return Held("it is quiet hours", until=until)
    return None


def why_not_begin(row: sa.Row[Any]) -> Held | None:
    """The same for a first call. One that is repeated is compared byte for byte instead."""
    told = changed(row)
    return why_not(row) or (Held(told, until=row.now + _ASK_AGAIN) if told else None)


def changed(row: Any) -> str | None:
    """What is another thing about a run's account than was approved; `row` has is_as_approved, is_connected, account."""
    if not row.is_as_approved:
        return (
            f"account {row.account} is another one than was approved, or the approval is older than a change of what "
            "approvals cover: set sender and unsubscribe link back, or have the content written and approved again"
        )
    if not row.is_connected:
        return f"account {row.account} is not connected: test it first"
    return None


def quiet_until(rules: Any, now: datetime) -> datetime | None:
    """The end of the quiet hours that `now` lies in, None outside of them. `quiet_from` after `quiet_until` spans midnight."""
    ends = [end for begins, end in quiet_hours(rules, now) if begins <= now < end]
    return max(ends).astimezone(now.tzinfo) if ends else None


def quiet_hours(rules: Any, now: datetime) -> list[tuple[datetime, datetime]]:
    """Those around `now`, in UTC: of yesterday, today and tomorrow, as each begins and ends."""
    if rules.quiet_from is None or rules.quiet_from == rules.quiet_until:
        return []
    zone = ZoneInfo(rules.time_zone)
    today, nights = now.astimezone(zone).date(), timedelta(days=rules.quiet_from > rules.quiet_until)
    found = []
    for day in (today + timedelta(days=days) for days in (-1, 0, 1)):
        # An hour that comes twice or not at all, as clocks are changed, is quiet as long as it may be.
        begins = min(_instants(day, rules.quiet_from, zone))
        found.append((begins, max(_instants(day + nights, rules.quiet_until, zone))))
    return found


def _instants(day: date, at: time, zone: ZoneInfo) -> list[datetime]:
    local = datetime.combine(day, at, tzinfo=zone)
    return [local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)]


def waits_for_others(row: sa.Row[Any]) -> bool:
    """Whether `room` has to wait for whoever sends on the channel at the same time."""
    return any(cap is not None for cap in (row.person_cap, row.hourly_cap, row.daily_cap))


def room(connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], wanted: int) -> tuple[int, datetime]:
    """How many of `wanted` the caps leave, under lock, and when there is more. With a cap of a person that lock as well."""
    if row.person_cap is not None:
        given = {"tenant_id": tenant_id, "channel": row.channel}
        connection.execute(statements("delivery")["one_at_a_time"], given)
    if row.hourly_cap is None and row.daily_cap is None:
        return wanted, row.now
    used = connection.execute(statements("delivery")["room"], _window(tenant_id, row)).one()
    left, until = wanted, row.now
    for cap, taken, following in (
        (row.hourly_cap, used.hour_used, used.next_hour), (row.daily_cap, used.day_used, used.next_day),
    ):  # fmt: skip
        if cap is not None and cap - taken < left:
            left = max(cap - taken, 0)
        if cap is not None and cap <= taken:
            until = max(until, following)
    return left, until


def take(connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], units: int) -> None:
    """Also without a cap: one that is set within the hour has to know what went out before."""
    connection.execute(statements("delivery")["take"], _window(tenant_id, row) | {"units": units})


def _window(tenant_id: UUID, row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id, "workspace_id": row.workspace_id, "channel": row.channel, "now": row.now,
    }  # fmt: skip
