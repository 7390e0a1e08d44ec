"""What a run's counts make of it: a pure rule, and the one place that writes it down."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from kernel.delivery import audit
from models.delivery import ACCEPTED_STATUSES, FINAL_RUN_STATUSES, OPEN_ITEM_STATUSES, campaign_runs
from models.statements import statements

_COUNTED = {
    **dict.fromkeys(ACCEPTED_STATUSES, "accepted"), **dict.fromkeys(OPEN_ITEM_STATUSES, "open"), "failed": "rejected",
    "skipped": "suppressed", "unknown": "unknown", "cancelled": "cancelled", "expired": "expired",
    "abandoned": "abandoned",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Counts:
    """Items of a run by what became of them. `intended` is the sum of all others."""

    open: int = 0
    accepted: int = 0
    rejected: int = 0
    suppressed: int = 0
    unknown: int = 0
    cancelled: int = 0
    expired: int = 0
    abandoned: int = 0

    @property
    def intended(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True, slots=True)
class Result:
    status: str
    code: str | None = None
    message: str | None = None


def status_of(counts: Counts, *, cancel_requested: bool) -> Result:
    """The status of a run by its counts; specification §11.7, in this order."""
    missed = counts.rejected + counts.expired + counts.abandoned
    if counts.intended == 0:
        return Result("failed", "empty_audience", "nobody was intended")
    if counts.open:
        return Result("running")
    if counts.unknown:
        told = f"{counts.unknown} outcomes are not known: see revenue-os campaign cases -t TENANT"
        return Result("needs_reconciliation", "unknown_outcomes", told)
    if cancel_requested and counts.cancelled:
        told = f"cancelled: {counts.accepted} had gone out, {counts.cancelled} were held back"
        return Result("cancelled", "cancelled", told)
    if counts.suppressed == counts.intended:
        return Result("completed", "no_eligible_recipients", "everybody of the audience was suppressed")
    if not missed:
        return Result("completed")
    told = f"{missed} of {counts.intended} were not accepted: see revenue-os campaign show --status failed"
    return Result("partial" if counts.accepted else "failed", "items_rejected", told)


def counted(connection: sa.Connection, tenant_id: UUID, run_id: UUID) -> Counts:
    """The items the run intended, as they stand now."""
    given = {"tenant_id": tenant_id, "run_id": run_id}
    found: dict[str, int] = {}
    for row in connection.execute(statements("delivery")["counts"], given):
        name = _COUNTED[row.status] if row.is_here else "rejected"
        found[name] = found.get(name, 0) + row.count
    return Counts(**found)


def roll_up(
    connection: sa.Connection,
    tenant_id: UUID,
    run_id: UUID,
    at: datetime,
    *,
    actor: str,
    is_correction: bool = False,
) -> Result | None:
    """Writes down what became of the run when no job of it is open; the caller has locked the run.

    None while jobs go on, and for a run that ended before: an end is an end, unless it is proven to have been another.
    """
    given = {"tenant_id": tenant_id, "run_id": run_id}
    run = connection.execute(statements("delivery")["lock_run"], given).one()
    if (run.status in FINAL_RUN_STATUSES and not is_correction) or connection.execute(
        statements("delivery")["open_jobs"], given
    ).scalar():
        return None
    counts = counted(connection, tenant_id, run_id)
    result = status_of(counts, cancel_requested=run.cancel_requested_at is not None)
    numbers = {name: count for name, count in asdict(counts).items() if name != "open"}
    ended = result.status in FINAL_RUN_STATUSES
    connection.execute(
        campaign_runs.update()
        .where(campaign_runs.c.tenant_id == tenant_id, campaign_runs.c.id == run_id)
        .values(
            **numbers, intended=counts.intended, status=result.status, error_code=result.code,
            error_message=result.message, completed_at=at if ended else None, updated_at=at,
        )
    )  # fmt: skip
    if result.status != run.status:
        audit.append(
            connection, tenant_id, run_id, f"run_{result.status}", actor=actor, at=at, **numbers,
            intended=counts.intended,
        )  # fmt: skip
    return result
