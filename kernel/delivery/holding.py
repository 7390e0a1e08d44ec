"""What holds a job back at the moment of sending: pauses, stops, quiet hours, expired approvals, caps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
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


def quiet_until(rules: Any, now: datetime) -> datetime | None:
    """The end of the quiet hours that `now` lies in, None outside of them. `quiet_from` after `quiet_until` spans midnight."""
    if rules.quiet_from is None:
        return None
    local = now.astimezone(ZoneInfo(rules.time_zone))
    at, start, end = local.time(), rules.quiet_from, rules.quiet_until
    is_quiet = start <= at < end if start <= end else (at >= start or at < end)
    if not is_quiet:
        return None
    day = local.date() if at < end else local.date() + timedelta(days=1)
    return datetime.combine(day, end, tzinfo=local.tzinfo).astimezone(now.tzinfo)


def room(connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], wanted: int) -> tuple[int, datetime]:
    """How many of `wanted` the caps leave, under lock, and when there is more."""
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
    if row.hourly_cap is not None or row.daily_cap is not None:
        connection.execute(statements("delivery")["take"], _window(tenant_id, row) | {"units": units})


def _window(tenant_id: UUID, row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id, "workspace_id": row.workspace_id, "channel": row.channel, "now": row.now,
    }  # fmt: skip
