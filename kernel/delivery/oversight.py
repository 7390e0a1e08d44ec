"""Deliveries as they are looked at from above: what waits, and what is measured. Nothing here changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import invariants
from models.statements import statements

LAST_SUCCESS = timedelta(days=30)  # how far back one is looked for


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many wait. `key` changes with what waits, with every turn at it, and with the minute.

    The last because a worker that was lost before it began leaves everything as it was. `overdue` counts cases alone.
    """

    count: int
    key: str
    overdue: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """Jobs that workers of all tenants have before them. `next_at` is None when nothing waits for a time: jobs of paused
    runs do not.
    """

    due_jobs: int
    waiting_jobs: int
    next_at: datetime | None


def due_jobs(connection: sa.Connection, at: datetime) -> Waiting:
    """Jobs a worker may claim now, at most 1,000 of them."""
    return _waiting(connection, "due_jobs", at)


def silent(connection: sa.Connection, at: datetime) -> Waiting:
    """Leases that ended without a word, and attempts whose outcome is overdue."""
    return _waiting(connection, "silent", at)


def due_cases(connection: sa.Connection, at: datetime) -> Waiting:
    """Open cases whose provider may be asked again."""
    return _waiting(connection, "due_cases", at)


def overdue_cases(connection: sa.Connection, most: int = 50) -> list[dict[str, Any]]:
    """tenant, channel, provider, reason, opened_at, due_at, assigned_to; the longest overdue first."""
    return _rows(connection, "overdue_cases", most=most)


def due(connection: sa.Connection) -> Due:
    """Of every tenant: the caller is pinned to none."""
    return Due(**_rows(connection, "due")[0])


def due_items(connection: sa.Connection) -> int:
    """People that could be sent to now, of every tenant: the caller is pinned to none. Counts them one by one."""
    return connection.execute(_sql("due_items")).scalar_one()


def in_flight(connection: sa.Connection, tenant_id: UUID | None) -> int:
    """How many items a fence would turn into cases."""
    return _rows(connection, "in_flight", tenant_id=tenant_id)[0]["items"]


def funnel(connection: sa.Connection, since: datetime, most: int = 50) -> list[dict[str, Any]]:
    """The newest runs: tenant, campaign, channel, step, status, created_at, is_retry, and items by what became of them."""
    return _rows(connection, "funnel", since=since, most=most)


def waits(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    """Of jobs due since then: day, channel, jobs, waiting, start_seconds and end_seconds.

    The seconds are the percentiles 50, 95 and 99, None without any job. Without a channel a row is of the whole day,
    without a day of all of them.
    """
    return _rows(connection, "waits", since=since)


def health(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    """By account: tenant, account, provider, is_stopped, attempts since then by state, replayed, and the five most
    frequent error_classes; last_success_at is looked for in runs of the last thirty days.
    """
    return _rows(connection, "health", since=since, **_changed(connection, since - LAST_SUCCESS))


def attempts_by_day(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    """day, state, count."""
    return _rows(connection, "attempts_by_day", since=since, **_changed(connection, since))


def _changed(connection: sa.Connection, since: datetime) -> dict[str, str]:
    """The lineages that hold every attempt since then: a run changes when it begins, and when its last one ends."""
    found = connection.execute(statements("delivery_invariants")["lineages"], {"since": since})
    return invariants.keys(found.all())


def _waiting(connection: sa.Connection, name: str, at: datetime) -> Waiting:
    found = connection.execute(_sql(name)).one()._mapping
    key = f"{name}:{found['digest']}:{int(at.timestamp()) // 60}"
    return Waiting(found["count"], key, found.get("overdue", 0))


def _rows(connection: sa.Connection, name: str, **given: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(_sql(name), given)]


def _sql(name: str) -> sa.TextClause:
    return statements("delivery_oversight")[name]
