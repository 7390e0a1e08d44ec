"""What people see of deliveries: campaigns, accounts, runs, everybody a run holds, attempts, cases.

For the command line and for screens alike. Nothing is changed here. The caller is pinned to the tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import rollup
from kernel.delivery.rollup import Counts
from kernel.errors import RefusedError
from models.delivery import FINAL_RUN_STATUSES, ITEM_STATUSES
from models.statements import statements

# Of people who were never intended: they have no item.
EXCLUDED = "excluded"
PERSON_STATUSES = (*ITEM_STATUSES, EXCLUDED)
SHORTEST = 8  # characters of an id that stand for the whole

_Named = Literal["campaign", "run", "content", "case"]
_LISTED: Mapping[_Named, str] = {
    "campaign": "list", "run": "runs", "content": "preview", "case": "cases",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Campaign:
    """`channels` are those with content, None without any; `version` is the newest of them."""

    id: UUID
    name: str
    status: str
    channels: list[str] | None
    version: int | None
    runs: int
    last_run_at: datetime | None


@dataclass(frozen=True, slots=True)
class Account:
    """An account with a provider; `secret_env` names the environment variable with its secret.

    `unit_price` is what one message or call costs, None where nobody has said.
    """

    id: UUID
    name: str
    channel: str
    provider: str
    sender: str | None
    config: Mapping[str, Any]
    secret_env: str | None
    unit_price: Decimal | None
    price_currency: str | None
    is_connected: bool
    stopped_at: datetime | None
    stopped_by: str | None
    stop_reason: str | None


@dataclass(frozen=True, slots=True)
class Switch:
    """An account was stopped, or started again."""

    account: str
    is_stop: bool
    at: datetime
    by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Seed:
    """An address of the tenant's own that tests go to."""

    channel: str
    address: str
    added_by: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of a channel; a cap that is None is none."""

    channel: str
    hourly_cap: int | None
    daily_cap: int | None
    person_cap: int | None
    person_cap_days: int
    needs_consent: bool
    needs_unsubscribe: bool
    quiet_from: time | None
    quiet_until: time | None
    time_zone: str


@dataclass(frozen=True, slots=True)
class Content:
    id: UUID
    content_hash: str
    channel: str
    step: int
    version: int
    subject: str
    body: str
    plain_body: str | None
    written_by: str


@dataclass(frozen=True, slots=True)
class Run:
    """One execution. `counts` are of this moment while it goes on, else those it ended with; they add up to `intended`."""

    id: UUID
    campaign: str
    campaign_id: UUID
    channel: str
    step: int
    occurrence: str
    account: str
    provider: str
    status: str
    intended: int
    counts: Counts
    scheduled_for: datetime
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    approved_by: str
    started_at: datetime | None
    completed_at: datetime | None
    paused_at: datetime | None
    paused_by: str | None
    cancel_requested_at: datetime | None
    cancel_requested_by: str | None
    error_code: str | None
    error_message: str | None
    retry_of_run_id: UUID | None
    root_run_id: UUID
    request_id: str
    content_id: UUID
    content_hash: str


@dataclass(frozen=True, slots=True)
class Job:
    """`last_error` is also why it waits; without `scheduled_for` it waits until its run is resumed."""

    id: UUID
    chunk: int
    status: str
    attempts: int
    max_attempts: int
    scheduled_for: datetime | None
    locked_by: str | None
    lease_expires_at: datetime | None
    last_error: str | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """People nothing goes to, by reason. Those who cannot be addressed are not intended and in no count of the run."""

    reason: str
    is_intended: bool
    found_when_sending: bool
    people: int


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody the run holds. `run_id` is the run that works on the item: a retry, where it differs from the one asked."""

    ordinal: int
    item_id: UUID | None
    recipient_id: UUID | None
    name: str | None
    address: str | None
    status: str
    reason: str | None
    error: str | None
    is_retryable: bool | None
    provider_message_id: str | None
    attempts: int | None
    delivery_status: str | None
    settled_at: datetime | None
    run_id: UUID | None


@dataclass(frozen=True, slots=True)
class Attempt:
    id: UUID
    n: int
    run_id: UUID
    provider: str
    provider_key: str
    state: str
    started_at: datetime
    deadline_at: datetime
    finished_at: datetime | None
    replays: int
    http_status: int | None
    error_code: str | None
    error: str | None
    is_retryable: bool
    provider_message_id: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """An item whose outcome is not known, and what was said of it once somebody has found out."""

    id: UUID
    opened_at: datetime
    due_at: datetime
    reason: str
    evidence: Mapping[str, Any]
    resolution: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    note: str | None
    run_id: UUID
    item_id: UUID
    attempt_id: UUID | None
    address: str
    channel: str
    provider: str
    campaign: str


@dataclass(frozen=True, slots=True)
class Drawer:
    """Everything of a run but its people, of whom there may be many. `lineage` is root first, the run itself among them.

    `cases` may be the first of them alone; `open_cases` and `settled_cases` count all.
    """

    run: Run
    jobs: list[Job]
    exclusions: list[Exclusion]
    lineage: list[Run]
    open_cases: int
    settled_cases: int
    cases: list[Case]


@dataclass(frozen=True, slots=True)
class Page:
    """`after` is what to ask for next; None at the end."""

    people: list[Person] = field(default_factory=list)
    after: int | None = None


def campaigns(connection: sa.Connection, tenant_id: UUID) -> list[Campaign]:
    return [Campaign(**row) for row in _rows(connection, "campaigns", tenant_id=tenant_id)]


def accounts(connection: sa.Connection, tenant_id: UUID) -> list[Account]:
    return [Account(**row) for row in _rows(connection, "accounts", tenant_id=tenant_id)]


def switches(connection: sa.Connection, tenant_id: UUID) -> list[Switch]:
    """Every stop and start of the tenant's accounts, of each the newest first."""
    return [Switch(**row) for row in _rows(connection, "switches", tenant_id=tenant_id)]


def seeds(connection: sa.Connection, tenant_id: UUID) -> list[Seed]:
    return [Seed(**row) for row in _rows(connection, "seeds", tenant_id=tenant_id)]


def policies(connection: sa.Connection, tenant_id: UUID, workspace: str = "default") -> list[Policy]:
    found = _rows(connection, "policies", tenant_id=tenant_id, workspace=workspace)
    return [Policy(**row) for row in found]


def content(connection: sa.Connection, tenant_id: UUID, content_id: UUID) -> Content:
    (row,) = _rows(connection, "content", tenant_id=tenant_id, id=content_id)
    return Content(**row)


def runs(
    connection: sa.Connection, tenant_id: UUID, *, campaign_id: UUID | None = None, most: int = 100
) -> list[Run]:
    """The newest runs of the tenant, or of one campaign."""
    return _runs(connection, tenant_id, campaign_id=campaign_id, most=most)


def drawer(
    connection: sa.Connection, tenant_id: UUID, run_id: UUID, *, most_cases: int | None = None
) -> Drawer:
    """Raises RefusedError when the tenant has no such run."""
    found = _runs(connection, tenant_id, run_id=run_id)
    if not found:
        raise RefusedError(f"the tenant has no run {run_id}: see revenue-os campaign runs -t TENANT")
    of: dict[str, Any] = {"tenant_id": tenant_id, "run_id": run_id}
    lineage = _runs(connection, tenant_id, root_run_id=found[0].root_run_id)
    (counted,) = _rows(connection, "case_counts", **of)
    return Drawer(
        run=found[0],
        jobs=[Job(**row) for row in _rows(connection, "jobs", **of)],
        exclusions=exclusions(connection, tenant_id, run_id),
        lineage=lineage[::-1],
        open_cases=counted["open"],
        settled_cases=counted["settled"],
        cases=cases(connection, tenant_id, run_id=run_id, closed=True, most=most_cases),
    )


def exclusions(connection: sa.Connection, tenant_id: UUID, run_id: UUID) -> list[Exclusion]:
    found = _rows(connection, "exclusions", tenant_id=tenant_id, run_id=run_id)
    return [Exclusion(**row) for row in found]


def people(
    connection: sa.Connection,
    tenant_id: UUID,
    run_id: UUID,
    *,
    status: str | None = None,
    person: str | None = None,
    after: int = 0,
    most: int = 100,
) -> Page:
    """Those of a run in its order. `person` is a part of an address, of a name, or of an item's id.

    Raises RefusedError for a status that none can have.
    """
    if status is not None and status not in PERSON_STATUSES:
        raise RefusedError(f"status {status!r} is unknown: use {', '.join(PERSON_STATUSES)}")
    given = {"tenant_id": tenant_id, "run_id": run_id, "status": status, "person": person, "after": after}
    found = [Person(**row) for row in _rows(connection, "people", **given, most=most + 1)]
    return Page(found[:most], found[most - 1].ordinal if len(found) > most else None)


def attempts(connection: sa.Connection, tenant_id: UUID, item_id: UUID) -> list[Attempt]:
    found = _rows(connection, "attempts", tenant_id=tenant_id, item_id=item_id)
    return [Attempt(**row) for row in found]


def cases(
    connection: sa.Connection,
    tenant_id: UUID,
    *,
    run_id: UUID | None = None,
    closed: bool = False,
    most: int | None = None,
) -> list[Case]:
    """What is uncertain, the most urgent first; with `closed` what was comes behind it."""
    found = _rows(connection, "cases", tenant_id=tenant_id, run_id=run_id, closed=closed, most=most)
    return [Case(**row) for row in found]


def find(connection: sa.Connection, tenant_id: UUID, what: _Named, asked: str) -> UUID:
    """By the beginning of an id, a campaign also by its name. Raises RefusedError for none and for several."""
    beginning = asked.lower()
    is_id = len(asked) >= SHORTEST and not set(beginning) - set("0123456789abcdef-")
    if not is_id and what != "campaign":
        raise RefusedError(f"{asked!r} is no id of a {what}: give at least {SHORTEST} of its characters")
    given: dict[str, Any] = {"tenant_id": tenant_id, "beginning": f"{beginning}%" if is_id else ""}
    if what == "campaign":
        given["asked"] = asked
    found = [row["id"] for row in _rows(connection, f"{what}_by", **given)]
    if not found:
        raise RefusedError(
            f"the tenant has no {what} {asked!r}: see revenue-os campaign {_LISTED[what]} -t TENANT"
        )
    if len(found) > 1:
        raise RefusedError(f"several {what}s answer to {asked!r}: give more of the id")
    return found[0]


def _runs(
    connection: sa.Connection, tenant_id: UUID, most: int | None = None, **of: UUID | None
) -> list[Run]:
    wanted = dict.fromkeys(("run_id", "campaign_id", "root_run_id")) | of
    found = _rows(connection, "runs", tenant_id=tenant_id, most=most, **wanted)
    return [_run(connection, tenant_id, dict(row)) for row in found]


def _run(connection: sa.Connection, tenant_id: UUID, row: dict[str, Any]) -> Run:
    kept = {each.name: row.pop(each.name) for each in fields(Counts) if each.name != "open"}
    counts = Counts(**kept)
    if row["status"] not in FINAL_RUN_STATUSES:
        counts = rollup.counted(connection, tenant_id, row["id"])
    return Run(**row, counts=counts)


def _rows(connection: sa.Connection, name: str, **given: Any) -> list[Mapping[str, Any]]:
    return list(connection.execute(statements("delivery_views")[name], given).mappings())
