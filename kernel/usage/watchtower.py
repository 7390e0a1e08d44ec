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
from kernel.usage import audit, periods
from models.statements import statements
from models.usage import usage_audit

Status = Literal["ok", "degraded", "alarm", "critical", "unknown"]
SEVERITY: tuple[Status, ...] = ("ok", "unknown", "degraded", "alarm", "critical")
# Days after its end by which a month is closed.
CLOSE_DAYS = 3
_DELIVERED_WITHIN = timedelta(hours=24)
_WAITS_LONG = timedelta(minutes=15)

_Found = tuple[Status, int, str]
_Check = Callable[[sa.Connection, datetime, UUID | None], _Found]


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
    check: _Check,
    at: datetime,
    tenant_id: UUID | None,
) -> Finding:
    # Each anew: what one of them asks of all tenants is not what the next one asks.
    tenancy.service(connection, tenant_id)
    try:
        with connection.begin_nested():
            return Finding(name, *check(connection, at, tenant_id))
    except sa.exc.SQLAlchemyError as error:
        told = str(getattr(error, "orig", error)).splitlines()[0]
        return Finding(name, "unknown", None, f"could not be asked: {told}")


def _publish_failures(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Captures of the last 15 minutes that could not be published at once."""
    count = _asked(connection, "publish_failures", at)
    status: Status = "ok" if not count else "degraded" if count <= 5 else "critical"
    return status, count, f"{count} captures of the last 15 minutes could not be published"


def _drift(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Sites whose counts were off by more than one in a hundred within the hour."""
    count = _asked(connection, "drift", at)
    return "degraded" if count else "ok", count, f"{count} sites were off by more than 1 % in the last hour"


def _stale_jobs(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Counts that are an hour overdue, or whose holder fell silent."""
    count = _asked(connection, "stale_jobs", at)
    return (
        "degraded" if count else "ok",
        count,
        f"{count} recounts are overdue: does reconciliation run?" if count else "no recount is overdue",
    )


def _dead_jobs(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Counts that were given up."""
    count = _asked(connection, "dead_jobs", at)
    return (
        "alarm" if count else "ok",
        count,
        f"{count} recounts were given up: see revenue-os usage recount"
        if count
        else "no recount was given up",
    )


def _missed_close(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Months that ended days ago and are not closed."""
    missed = periods.missed(connection, at=at, days=CLOSE_DAYS, tenant_id=tenant_id)
    told = ", ".join(f"{each.year_month} of {each.tenant}" for each in missed[:3])
    told += f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return (
        "alarm" if missed else "ok",
        len(missed),
        f"not closed: {told}" if missed else "every month is closed in time",
    )


def _backlog(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Seconds that the oldest captured event has waited to be delivered."""
    seconds = _asked(connection, "backlog", at)
    waits = timedelta(seconds=seconds)
    status: Status = "critical" if waits > _DELIVERED_WITHIN else "degraded" if waits > _WAITS_LONG else "ok"
    return status, seconds, f"the oldest undelivered event waits for {waits}"


def _quarantine(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Messages that were given up and not credited."""
    count = _asked(connection, "quarantine", at)
    return (
        "alarm" if count else "ok",
        count,
        f"{count} messages were given up and not credited: see revenue-os usage buffer"
        if count
        else "no message was given up",
    )


def _refused(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Events of the last hour that their month had no room for."""
    rows = connection.execute(statements("usage_watch")["refused_lately"], {"at": at}).all()
    count = sum(row.events for row in rows)
    if not count:
        return "ok", 0, "no event was refused in the last hour"
    told = ", ".join(f"{row.events:,} of {row.site}" for row in rows[:3])
    told += f" and {len(rows) - 3} more sites" if len(rows) > 3 else ""
    why = f"events were refused in the last hour, their month is full: {told}"
    return (
        "degraded",
        count,
        f"{why}; raise the plan, and drop one that is to begin later if it is in the way",
    )


def _audit(connection: sa.Connection, at: datetime, tenant_id: UUID | None) -> _Found:
    """Tenants in whose audit a row does not follow from the one before it."""
    of = [tenant_id] if tenant_id else connection.scalars(sa.select(usage_audit.c.tenant_id).distinct()).all()
    broken = {each: row for each in of if (row := audit.broken(connection, each)) is not None}
    told = ", ".join(f"of tenant {each} from row {row}" for each, row in list(broken.items())[:3])
    return (
        "critical" if broken else "ok",
        len(broken),
        f"{len(broken)} audits were changed: {told}" if broken else "every audit follows from its first row",
    )


_CHECKS: dict[str, _Check] = {
    "ingestPublishFailuresLast15m": _publish_failures,
    "billingReconciliationDriftLast1h": _drift,
    "staleReconciliationJobs": _stale_jobs,
    "deadReconciliationJobs": _dead_jobs,
    "missedClose": _missed_close,
    "deliveryBacklogSeconds": _backlog,
    "quarantine": _quarantine,
    "quotaRejectionsLast1h": _refused,
    "auditBroken": _audit,
}

# What each check of `look` finds, by its name.
CHECKS = {name: check.__doc__ or "" for name, check in _CHECKS.items()}


def _asked(connection: sa.Connection, name: str, at: datetime) -> Any:
    return connection.execute(statements("usage_watch")[name], {"at": at}).scalar_one()
