"""The watch over usage: what stands still, what waits too long, what does not add up. Nothing is changed here.

Whom it is told stands in `telling`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.usage import periods
from models.statements import statements

Status = Literal["ok", "degraded", "alarm", "critical", "unknown"]
SEVERITY: tuple[Status, ...] = ("ok", "unknown", "degraded", "alarm", "critical")
# Days after its end by which a month is closed.
CLOSE_DAYS = 3
_DELIVERED_WITHIN = timedelta(hours=24)
_WAITS_LONG = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Finding:
    """A check and what it found; `value` is a count or seconds, None when nobody could say."""

    check: str
    status: Status
    value: int | None
    told: str


def look(
    connection: sa.Connection,
    *,
    at: datetime,
    tenant_id: UUID | None = None,
    checks: Collection[str] | None = None,
) -> list[Finding]:
    """Every check, or those that are named, of all tenants or one. One that cannot be made is unknown, and hides no
    other.
    """
    tenancy.service(connection, tenant_id)
    return [
        _one(connection, name, check, at, tenant_id)
        for name, check in _CHECKS.items()
        if checks is None or name in checks
    ]


def overall(findings: Sequence[Finding]) -> Status:
    """The worst of them; what nobody could say counts as degraded."""
    worst = max((finding.status for finding in findings), key=SEVERITY.index, default="ok")
    return "degraded" if worst == "unknown" else worst


def _one(
    connection: sa.Connection,
    name: str,
    check: Callable[[sa.Connection, datetime], tuple[Status, int, str]],
    at: datetime,
    tenant_id: UUID | None,
) -> Finding:
    # Each anew: what one of them asks of all tenants is not what the next one asks.
    tenancy.service(connection, tenant_id)
    try:
        with connection.begin_nested():
            return Finding(name, *check(connection, at))
    except sa.exc.SQLAlchemyError as error:
        told = str(getattr(error, "orig", error)).splitlines()[0]
        return Finding(name, "unknown", None, f"could not be asked: {told}")


def _publish_failures(connection: sa.Connection, at: datetime) -> tuple[Status, int, str]:
    """Captures of the last 15 minutes that could not be published at once."""
    count = _asked(connection, "publish_failures", at)
    status: Status = "ok" if not count else "degraded" if count <= 5 else "critical"
    return status, count, f"{count} captures of the last 15 minutes could not be published"


def _drift(connection: sa.Connection, at: datetime) -> tuple[Status, int, str]:
    """Sites whose counts were off by more than one in a hundred within the hour."""
    count = _asked(connection, "drift", at)
    return "degraded" if count else "ok", count, f"{count} sites were off by more than 1 % in the last hour"


def _stale_jobs(connection: sa.Connection, at: datetime) -> tuple[Status, int, str]:
    """Counts that are an hour overdue, or whose holder fell silent."""
    count = _asked(connection, "stale_jobs", at)
    return (
        "degraded" if count else "ok",
        count,
        f"{count} recounts are overdue: does reconciliation run?" if count else "no recount is overdue",
    )


def _dead_jobs(connection: sa.Connection, at: datetime) -> tuple[Status, int, str]:
    """Counts that were given up."""
    count = _asked(connection, "dead_jobs", at)
    return (
        "alarm" if count else "ok",
        count,
        f"{count} recounts were given up: see revenue-os usage recount"
        if count
        else "no recount was given up",
    )


def _missed_close(connection: sa.Connection, at: datetime) -> tuple[Status, int, str]:
    """Months that ended days ago and are not closed."""
    pinned = connection.execute(sa.text("select current_setting('app.tenant_id', true)")).scalar()
    missed = periods.missed(connection, at=at, days=CLOSE_DAYS, tenant_id=UUID(pinned) if pinned else None)
    told = ", ".join(f"{each.year_month} of {each.tenant}" for each in missed[:3])
    told += f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return (
        "alarm" if missed else "ok",
        len(missed),
        f"not closed: {told}" if missed else "every month is closed in time",
    )


def _backlog(connection: sa.Connection, at: datetime) -> tuple[Status, int, str]:
    """Seconds that the oldest captured event has waited to be delivered."""
    seconds = _asked(connection, "backlog", at)
    waits = timedelta(seconds=seconds)
    status: Status = "critical" if waits > _DELIVERED_WITHIN else "degraded" if waits > _WAITS_LONG else "ok"
    return status, seconds, f"the oldest undelivered event waits for {waits}"


def _quarantine(connection: sa.Connection, at: datetime) -> tuple[Status, int, str]:
    """Messages that were given up and not credited."""
    count = _asked(connection, "quarantine", at)
    return (
        "alarm" if count else "ok",
        count,
        f"{count} messages were given up and not credited: see revenue-os usage buffer"
        if count
        else "no message was given up",
    )


_CHECKS: dict[str, Callable[[sa.Connection, datetime], tuple[Status, int, str]]] = {
    "ingestPublishFailuresLast15m": _publish_failures,
    "billingReconciliationDriftLast1h": _drift,
    "staleReconciliationJobs": _stale_jobs,
    "deadReconciliationJobs": _dead_jobs,
    "missedClose": _missed_close,
    "deliveryBacklogSeconds": _backlog,
    "quarantine": _quarantine,
}

# What each check of `look` finds, by its name.
CHECKS = {name: check.__doc__ or "" for name, check in _CHECKS.items()}


def _asked(connection: sa.Connection, name: str, at: datetime) -> Any:
    return connection.execute(statements("usage_watch")[name], {"at": at}).scalar_one()
