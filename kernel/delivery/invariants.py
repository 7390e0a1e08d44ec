"""Deliveries as they are looked at from above: rules that nothing may have broken, what waits, and what is measured.

Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import audit
from models.statements import statements

_CHAINS = "every_audit_chain_verifies"
INVARIANTS: Mapping[str, str] = {
    "one_accepted_attempt_per_item": "At most one attempt of an item was accepted.",
    "no_ended_run_has_open_items": "Every item of a run that has ended has an outcome.",
    "counts_equal_item_totals": "What a run says of its items is what the items are.",
    "no_attempt_is_overdue_without_a_case": "An attempt a quarter of an hour past its deadline has a case.",
    "no_attempt_has_a_later_token_than_its_job": "Nobody has sent with a lease that was never given.",
    "every_accepted_attempt_can_be_shown": "An accepted attempt has the provider's id, or a note of who found it.",
    "every_item_belongs_to_its_runs": "An item has the tenant and workspace of its runs, and a job of its run.",
    "nobody_is_contacted_twice": "A step of a run and its retries reaches an address once.",
    "usage_is_committed_once": "What is reserved is committed once when accepted, and given back when rejected.",
    "no_message_of_a_provider_is_two_items": "A message of a provider stands for one item.",
    "every_item_agrees_with_its_last_attempt": "An item's status, count and message are those of its last attempt.",
    "unknown_items_and_open_cases_are_the_same": "Exactly the unknown items have an open case.",
    _CHAINS: "No row of the audit was changed, taken out or put in.",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks an invariant: `id` is that of an item, attempt, run or chain, as `why` tells."""

    invariant: str
    tenant_id: UUID
    id: UUID
    why: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many wait. `key` changes with what waits, with every turn at it, and with the minute.

    The last because a worker that was lost before it began leaves everything as it was. `overdue` counts cases alone.
    """

    count: int
    key: str
    overdue: int = 0


def check(connection: sa.Connection, tenant_id: UUID | None = None, *, most: int = 100) -> list[Violation]:
    """What breaks the invariants of a tenant, or of all; at most `most` rows of each."""
    tenancy.service(connection, tenant_id)
    found = [
        Violation(name, row.tenant_id, row.id, row.why)
        for name in INVARIANTS
        if name != _CHAINS
        for row in connection.execute(_sql(name), {"most": most})
    ]
    chains = [
        Violation(_CHAINS, each, chain, f"row {number} does not follow from the one before it")
        for each in connection.execute(_sql("tenants")).scalars().all()
        for chain, number in audit.broken(connection, each).items()
    ]
    return found + chains[:most]


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


def funnel(connection: sa.Connection, since: datetime, most: int = 50) -> list[dict[str, Any]]:
    """The newest runs: tenant, campaign, channel, step, status, created_at, is_retry, and items by what became of them."""
    return _rows(connection, "funnel", since=since, most=most)


def waits(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    """Of jobs due since then: day, channel, jobs, waiting, start_seconds and end_seconds.

    The seconds are the percentiles 50, 95 and 99, None without any job. Without a channel a row is of the whole day,
    without a day of all of them.
    """
    return _rows(connection, "waits", since=since)


def duplicates(connection: sa.Connection) -> list[dict[str, Any]]:
    """By step of a campaign: tenant, campaign, channel, step, people, reached_twice, extra_effects; the worst first."""
    return _rows(connection, "duplicates")


def health(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    """By account: tenant, account, provider, is_stopped, attempts since then by state, replayed, and the five most
    frequent error_classes; last_success_at is of any time.
    """
    return _rows(connection, "health", since=since)


def attempts_by_day(connection: sa.Connection, since: datetime) -> list[dict[str, Any]]:
    """day, state, count."""
    return _rows(connection, "attempts_by_day", since=since)


def _waiting(connection: sa.Connection, name: str, at: datetime) -> Waiting:
    found = connection.execute(_sql(name)).one()._mapping
    key = f"{name}:{found['digest']}:{int(at.timestamp()) // 60}"
    return Waiting(found["count"], key, found.get("overdue", 0))


def _rows(connection: sa.Connection, name: str, **given: Any) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(_sql(name), given)]


def _sql(name: str) -> sa.TextClause:
    return statements("delivery_invariants")[name]
