"""The close of a tenant's month: what must hold before, what is frozen, and the drafts that follow from it.

One transaction, all of it or nothing. Which months there are stands in `periods`, what is compared in `recount`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, evidence, invoices, manifest, periods, recount
from kernel.usage.matrix import Matrix, compare, sites_of
from kernel.usage.sites import of as all_sites
from models.statements import array, statements
from models.usage import invoice_snapshot

_FROZEN = ("CLOSED", "ADJUSTED")


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold before a month is closed; `why` says what is in the way and what to do, or what holds."""

    name: Literal["month_over", "previous_month", "jobs", "counted", "quarantine", "plans"]
    is_ok: bool
    why: str


class Snapshot(NamedTuple):
    """The hash of a site's frozen month: a dispute pack of it is verified with this one and no other."""

    site: str  # public id
    snapshot: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A month as it was frozen. `is_new` is false when it was closed before: then nothing was changed."""

    year_month: str
    is_new: bool
    closed_at: datetime
    closed_by: str
    sites: int
    rows: int
    events: int
    overage: int
    hash: str  # of the last snapshot: it binds all others, and so whoever keeps it can prove them
    snapshots: tuple[Snapshot, ...]


def preflight(connection: sa.Connection, tenant_id: UUID, month: str, *, at: datetime) -> list[Check]:
    """Every check of a close, as it would come out now. Of one moment in a transaction of one snapshot."""
    tenancy.service(connection, tenant_id)
    sites = sites_of(connection, tenant_id, month)
    return _checked(connection, tenant_id, month, at, sites)[0]


def close(connection: sa.Connection, tenant_id: UUID, month: str, *, at: datetime, actor: str) -> Closed:
    """Freezes a month, drafts its invoices and closes it, in this transaction: a READ COMMITTED one of its own.

    Who writes into the month is waited for, and then waits. A month that is closed already stays as it is. `actor` is an
    owner or approver of the tenant or the operator. Raises RefusedError, with nothing changed, naming the first check
    that does not hold.
    """
    tenancy.service(connection, tenant_id)
    who = audit.entitled(connection, tenant_id, actor)
    given = {"tenant_id": tenant_id, "month": month, "at": at}
    # Before it is opened: a month that was never metered in may end, one that is to come is not opened here.
    _refuse([_is_over(month, at), _previous(connection, tenant_id, month)], month)
    connection.execute(_sql("open_period"), given)
    period = connection.execute(_sql("hold_period"), given).one()
    if period.state in _FROZEN:
        return _closed(connection, tenant_id, month, period, is_new=False)
    sites = sites_of(connection, tenant_id, month)
    # The month is held: what is counted from here on is all of it, in every statement.
    checks, matrices, terms = _checked(connection, tenant_id, month, at, sites)
    _refuse(checks, month)
    connection.execute(_sql("set_closing"), given)
    frozen = _freeze(connection, tenant_id, month, matrices, terms, at=at, actor=who)
    drafts = invoices.draft(connection, tenant_id, month, frozen, at=at)
    connection.execute(
        statements("usage_recount")["settle"],
        given
        | {
            "sites": array(matrices),
            "drifts": [json.dumps(matrix.as_json()) for matrix in matrices.values()],
            "counted_to": recount.oldest_under_way(connection),
        },
    )
    connection.execute(_sql("set_closed"), given | {"actor": who})
    audit.append(
        connection, tenant_id, "month_closed", actor=who, at=at, year_month=month, sites=len(frozen),
        rows=sum(each["row_count"] for each in frozen), hash=frozen[-1]["hash"] if frozen else manifest.FIRST,
        invoices=drafts,
    )  # fmt: skip
    period = connection.execute(_sql("hold_period"), given).one()
    return _closed(connection, tenant_id, month, period, is_new=True)


def concerned(connection: sa.Connection, month: str) -> list[tenancy.Tenant]:
    """The tenants that a month is about: all that had a plan or usage by then."""
    tenancy.service(connection)
    found = []
    for tenant in tenancy.all_tenants(connection):
        tenancy.service(connection, tenant.id)
        first = periods.first(connection, tenant.id)
        if first is not None and first <= month:
            found.append(tenant)
    return found


def close_all(
    engine: sa.Engine, month: str, *, at: datetime, actor: str
) -> tuple[dict[str, Closed], dict[str, str]]:
    """Closes a month of every tenant that it is about, each in a transaction of its own: one that is refused keeps no
    other's open. By slug what was closed, and why the others were not.
    """
    closed: dict[str, Closed] = {}
    refused: dict[str, str] = {}
    with engine.begin() as connection:
        tenants = concerned(connection, month)
    for tenant in tenants:
        try:
            with engine.begin() as connection:
                closed[tenant.slug] = close(connection, tenant.id, month, at=at, actor=actor)
        except RefusedError as error:
            refused[tenant.slug] = str(error)
    return closed, refused


def broken_chain(connection: sa.Connection, tenant_id: UUID) -> str | None:
    """The first snapshot of the tenant that does not follow from the one before it, or is not what its hash says."""
    tenancy.service(connection, tenant_id)
    previous = manifest.FIRST
    for each in evidence.snapshots(connection, tenant_id):
        if each["previous_hash"] != previous or each["hash"] != manifest.verify.digest(each, without="hash"):
            return f"{each['year_month']} of site {each['site_id']}"
        previous = each["hash"]
    return None


def _freeze(
    connection: sa.Connection,
    tenant_id: UUID,
    month: str,
    matrices: Mapping[UUID, Matrix],
    terms: Mapping[UUID, dict[str, Any]],
    *,
    at: datetime,
    actor: str,
) -> list[dict[str, Any]]:
    previous = connection.execute(_sql("last_hash"), {"tenant_id": tenant_id}).scalar() or manifest.FIRST
    counts = {site_id: (matrix.ledger["billable"], terms[site_id]) for site_id, matrix in matrices.items()}
    # The month is held: whoever approves another one waits, and finds it closed.
    corrected = evidence.corrections(connection, tenant_id, month, counts)
    frozen = []
    for site_id, matrix in matrices.items():
        rows = evidence.rows_of(connection, tenant_id, site_id, month)
        read = {"rows": rows.row_count, "billable": rows.event_count, "overage": rows.overage_count}
        if any(matrix.ledger[name] != count for name, count in read.items()):
            raise RefusedError(
                f"{month} of site {site_id} was counted as {dict(matrix.ledger)} and read as {read}: nothing was closed"
            )
        fields = manifest.snapshot(
            rows, tenant_id=tenant_id, site_id=site_id, year_month=month, plan=terms[site_id],
            adjustments=evidence.in_currency(corrected.get(site_id, []), terms[site_id]["currency"]),
            code_version=evidence.code_version(), previous_hash=previous, generated_at=at, generated_by=actor,
        )  # fmt: skip
        connection.execute(invoice_snapshot.insert().values(fields | {"generated_at": at}))
        previous = fields["hash"]
        frozen.append(fields)
    return frozen


def _checked(
    connection: sa.Connection, tenant_id: UUID, month: str, at: datetime, sites: Sequence[UUID]
) -> tuple[list[Check], dict[UUID, Matrix], dict[UUID, dict[str, Any]]]:
    given = {"tenant_id": tenant_id, "month": month}
    matrices: dict[UUID, Matrix] = {}
    terms: dict[UUID, dict[str, Any]] = {}
    try:
        matrices = compare(connection, tenant_id, month, sites)
        counted = _counted(matrices)
    except RefusedError as error:
        counted = Check("counted", False, str(error))
    try:
        terms = evidence.terms_of(connection, tenant_id, sites, month)
        named = sum(each["id"] is not None for each in terms.values())
        planned = Check("plans", True, f"{named} of {len(terms)} sites have a plan, the others cost nothing")
    except RefusedError as error:
        planned = Check("plans", False, str(error))
    checks = [
        _is_over(month, at),
        _previous(connection, tenant_id, month),
        _jobs(connection, given),
        counted,
        _quarantine(connection, given),
        planned,
    ]
    return checks, matrices, terms


def _is_over(month: str, at: datetime) -> Check:
    ready = periods.bounds(month)[1] + periods.GRACE
    if at >= ready:
        return Check("month_over", True, f"{month} is over, with its time for what came before midnight")
    return Check("month_over", False, f"{month} cannot be closed before {ready:%Y-%m-%d %H:%M} UTC: wait")


def _previous(connection: sa.Connection, tenant_id: UUID, month: str) -> Check:
    first, previous = periods.first(connection, tenant_id), periods.before(month)
    if first is None or month < first:
        told = "none" if first is None else first
        return Check(
            "previous_month", False, f"the first month of the tenant is {told}: there is nothing to close"
        )
    if previous < first:
        return Check("previous_month", True, "no month comes before it")
    state = connection.execute(_sql("period"), {"tenant_id": tenant_id, "month": previous}).scalar()
    if state in _FROZEN:
        return Check("previous_month", True, f"{previous} is closed")
    return Check("previous_month", False, f"{previous} is not closed: close it first")


def _jobs(connection: sa.Connection, given: Mapping[str, Any]) -> Check:
    left = {row.status: row.jobs for row in connection.execute(_sql("unfinished_jobs"), given)}
    if not left:
        return Check("jobs", True, "nothing waits to be counted")
    told = ", ".join(f"{count} {status}" for status, count in left.items())
    return Check("jobs", False, f"recounts are not done ({told}): run revenue-os usage recount")


def _counted(matrices: Mapping[UUID, Matrix]) -> Check:
    for site_id, matrix in matrices.items():
        if matrix.behind:
            return Check("counted", False, f"{matrix.behind[0]} was built before site {site_id} last changed:"
                         " run revenue-os usage marts")  # fmt: skip
        if matrix.off:
            told = ", ".join(f"{name} {by:+,}" for name, by in sorted(matrix.off.items()))
            return Check("counted", False, f"site {site_id} is not counted the same everywhere ({told}):"
                         " run revenue-os usage recount, and usage marts")  # fmt: skip
    rows = sum(matrix.ledger["rows"] for matrix in matrices.values())
    return Check("counted", True, f"{rows:,} rows of {len(matrices)} sites are counted the same everywhere")


def _quarantine(connection: sa.Connection, given: Mapping[str, Any]) -> Check:
    asked = given | {"buffer_id": None, "is_approved": True}
    left = connection.execute(_sql("uncredited"), asked).all()
    if not left:
        return Check("quarantine", True, "nothing was billed and never delivered without a credit")
    return Check(
        "quarantine",
        False,
        f"message {left[0].id} was given up and its {left[0].events:,} events are billed without an approved credit"
        f" ({len(left)} such messages): credit it",
    )


def _refuse(checks: Sequence[Check], month: str) -> None:
    for check in checks:
        if not check.is_ok:
            raise RefusedError(f"{month} is not closed, {check.name} does not hold: {check.why}")


def _closed(connection: sa.Connection, tenant_id: UUID, month: str, period: Any, *, is_new: bool) -> Closed:
    frozen = evidence.snapshots(connection, tenant_id, month=month)
    named = {each.id: each.public_id for each in all_sites(connection, tenant_id)}
    return Closed(
        month,
        is_new,
        period.closed_at,
        period.closed_by,
        len(frozen),
        sum(each["row_count"] for each in frozen),
        sum(each["event_count"] for each in frozen),
        sum(each["overage_count"] for each in frozen),
        frozen[-1]["hash"] if frozen else manifest.FIRST,
        tuple(Snapshot(named[UUID(each["site_id"])], each["hash"]) for each in frozen),
    )


def _sql(name: str) -> sa.TextClause:
    return statements("usage_close")[name]
