"""Reconciliation: which months of which sites changed, who counts them again, and counters put right.

The ledger is never changed to fit a count. What is compared stands in `matrix`, the close in `close`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit
from kernel.usage.matrix import Matrix, compare, refuse_archived, sites_of
from models.statements import array, statements

ATTEMPTS = 8
LEASE = timedelta(minutes=15)
_ERROR = 1000  # characters
_FROZEN = ("CLOSED", "ADJUSTED")


@dataclass(frozen=True, slots=True)
class Job:
    tenant_id: UUID
    site_id: UUID
    year_month: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of a job: COMPLETED, QUEUED again because more came meanwhile, FAILED, DEAD, or LOST to another."""

    job: Job
    status: str
    matrix: Matrix | None = None
    error: str | None = None


def find(connection: sa.Connection, tenant_id: UUID, at: datetime) -> list[tuple[UUID, str]]:
    """Queues the months of sites whose ledger changed since the last look, in this transaction; which they are.

    A row is looked at once no transaction is under way that might still write one before it: nothing is missed.
    """
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "at": at}
    connection.execute(_sql("make_watermark"), given)
    connection.execute(_sql("hold_watermark"), given)
    return [(row.site_id, row.year_month) for row in connection.execute(_sql("find"), given)]


def queue(
    connection: sa.Connection, tenant_id: UUID, month: str, *, at: datetime, sites: Iterable[UUID] = ()
) -> list[UUID]:
    """Has a month counted again, of these sites or all it knows, dead jobs too; which sites.

    Raises RefusedError for one whose rows were archived: it would be counted as nothing.
    """
    tenancy.service(connection, tenant_id)
    asked = list(sites) or sites_of(connection, tenant_id, month)
    refuse_archived(connection, tenant_id, month, asked)
    given = {"tenant_id": tenant_id, "month": month, "sites": array(asked), "at": at}
    return sorted(connection.scalars(_sql("queue"), given), key=str)


def find_all(engine: sa.Engine, clock: Callable[[], datetime]) -> int:
    """As find, of every tenant; how many months were queued. Each in a transaction of its own: nobody waits for all."""
    with engine.begin() as connection:
        tenancy.service(connection)
        tenants = tenancy.all_tenants(connection)
    found = 0
    for tenant in tenants:
        with engine.begin() as connection:
            found += len(find(connection, tenant.id, clock()))
    return found


def waiting(connection: sa.Connection, at: datetime) -> int:
    """How many tenants have something to count: rows since they were last looked through, or a count that is due."""
    tenancy.service(connection)
    return connection.execute(_sql("waiting"), {"at": at}).scalar_one()


def claim(
    connection: sa.Connection,
    owner: str,
    at: datetime,
    *,
    lease: timedelta = LEASE,
    tenant_id: UUID | None = None,
    month: str | None = None,
    but: Iterable[Job] = (),
) -> Job | None:
    """Takes the job that is due longest, of all tenants or one; also one whose holder died. None when none is due but
    those that are named.
    """
    tenancy.service(connection, tenant_id)
    connection.execute(_sql("bury"), {"at": at, "attempts": ATTEMPTS})
    left = list(but)
    given = {
        "at": at, "owner": owner, "until": at + lease, "only_tenant": tenant_id, "only_month": month,
        "not_tenants": array(job.tenant_id for job in left), "not_sites": array(job.site_id for job in left),
        "not_months": array(job.year_month for job in left),
    }  # fmt: skip
    row = connection.execute(_sql("claim"), given).first()
    return None if row is None else Job(row.tenant_id, row.site_id, row.year_month, row.attempt_count)


def work(
    engine: sa.Engine,
    owner: str,
    clock: Callable[[], datetime],
    *,
    tenant_id: UUID | None = None,
    month: str | None = None,
    lease: timedelta = LEASE,
) -> list[Counted]:
    """Counts everything that is due now, each month once and in transactions of its own; what changed meanwhile is left
    to the next time. `owner` is nobody else's name.
    """
    done: list[Counted] = []
    again: list[Job] = []
    while True:
        with engine.begin() as connection:
            job = claim(connection, owner, clock(), lease=lease, tenant_id=tenant_id, month=month, but=again)
        if job is None:
            return done
        done.append(count(engine, job, owner, clock))
        if done[-1].status != "COMPLETED":
            again.append(job)


def count(engine: sa.Engine, job: Job, owner: str, clock: Callable[[], datetime]) -> Counted:
    """Compares the job's month in one snapshot, corrects its counter, and settles the job."""
    named = {"tenant_id": job.tenant_id, "site_id": job.site_id, "month": job.year_month}
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            tenancy.service(connection, job.tenant_id)
            counted_to = oldest_under_way(connection)
            matrix = compare(connection, job.tenant_id, job.year_month, [job.site_id])[job.site_id]
        with engine.begin() as connection:
            tenancy.service(connection, job.tenant_id)
            # Before the job, as a close does: so neither waits for the other.
            state = connection.execute(_sql("hold_period"), named).scalar()
            told = {"share": matrix.share, "drift": json.dumps(matrix.as_json())}
            given = named | told | {"owner": owner, "counted_to": counted_to, "at": clock()}
            status = connection.execute(_sql("finish"), given).scalar()
            if status is not None and state is not None and state not in _FROZEN:
                _correct(connection, job, matrix, owner, clock())
        return Counted(job, status or "LOST", matrix)
    except Exception as error:
        told = f"{type(error).__name__}: {error}".replace("\0", "\ufffd")[:_ERROR]
        given = named | {"owner": owner, "attempts": ATTEMPTS, "error": told, "at": clock()}
        with engine.begin() as connection:
            tenancy.service(connection, job.tenant_id)
            given["is_final"] = isinstance(error, RefusedError)
            status = connection.execute(_sql("fail"), given).scalar()
        return Counted(job, status or "LOST", error=told)


def oldest_under_way(connection: sa.Connection) -> int:
    """The number of a transaction: the rows of all before it are seen by this statement, or never will be."""
    return connection.execute(_sql("oldest_under_way")).scalar_one()


def jobs(connection: sa.Connection, tenant_id: UUID, month: str | None = None) -> list[Mapping[str, Any]]:
    """Every job of the tenant, of all months or one, as it stands."""
    tenancy.service(connection, tenant_id)
    return [
        dict(row)
        for row in connection.execute(_sql("jobs"), {"tenant_id": tenant_id, "month": month}).mappings()
    ]


def _correct(connection: sa.Connection, job: Job, matrix: Matrix, owner: str, at: datetime) -> None:
    counter = matrix.others["counters"]
    by = {name: -matrix.off.get(f"counters.{name}", 0) for name in ("billable", "overage", "rejected")}
    # One that is not there begins with what the ledger says.
    if counter is None or not any(by.values()):
        return
    given = {"tenant_id": job.tenant_id, "site_id": job.site_id, "month": job.year_month, "at": at}
    connection.execute(_sql("correct"), given | by)
    audit.append(
        connection, job.tenant_id, "counter_corrected", actor=owner, at=at,
        site_id=job.site_id, year_month=job.year_month, said=dict(counter), by=by,
    )  # fmt: skip


def _sql(name: str) -> sa.TextClause:
    return statements("usage_recount")[name]
