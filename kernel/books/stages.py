"""In which stage of automation a tenant is: the newest row says, and P3 only until the approval of it ends.

P0 is set up, P1 decides in the shadow, P2 helps people, P3 posts. What a stage asks for stands in `evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import canary, people, settings
from kernel.books.contract import Stage
from kernel.books.evidence import Evidence
from kernel.books.holding import hold
from kernel.errors import RefusedError
from models.books import books_audit
from models.books_release import books_stages

_ORDER: tuple[Stage, ...] = ("P0", "P1", "P2", "P3")
# What was true when it was approved is looked at again after a quarter.
LONGEST_APPROVAL = timedelta(days=92)


@dataclass(frozen=True, slots=True)
class Current:
    """`number` is 0 before the first row. An approval that ended is P2 again, whatever the row says."""

    stage: Stage
    number: int
    since: datetime | None
    approved_by: str | None = None
    expires_at: datetime | None = None


def newest(connection: sa.Connection, tenant_id: UUID) -> Current:
    """What the newest row says, an approval that ended included."""
    tenancy.service(connection, tenant_id)
    columns = books_stages.c
    query = (
        sa.select(columns.stage, columns.number, columns.at, columns.approved_by, columns.expires_at)
        .where(columns.tenant_id == tenant_id)
        .order_by(columns.number.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return Current(*row) if row else Current("P0", 0, None)


def current(connection: sa.Connection, tenant_id: UUID, *, at: datetime) -> Current:
    held = newest(connection, tenant_id)
    is_ended = held.stage == "P3" and held.expires_at <= at
    return Current("P2", held.number, held.since) if is_ended else held


def advance(
    connection: sa.Connection,
    tenant_id: UUID,
    evidence: Evidence,
    *,
    by: str,
    at: datetime,
    reason: str,
    expires_at: datetime | None = None,
) -> Current:
    """Moves the tenant one stage up, on the evidence for it. P3 asks for a person who approves it, and for its end.

    `by` is an approver or owner of the tenant; to P1 and P2 the platform's operator may move it too. Raises RefusedError
    with what the evidence lacks; evidence of another day is none.
    """
    hold(connection, tenant_id)
    held = current(connection, tenant_id, at=at)
    to = evidence.stage
    if _ORDER.index(to) != _ORDER.index(held.stage) + 1 and (held.number, to) != (0, "P0"):
        following = _ORDER[_ORDER.index(held.stage) + 1 :]
        where = f"from where it goes to {following[0]} alone" if following else "the last one"
        raise RefusedError(f"the tenant is in {held.stage}, {where}, and not to {to}")
    if evidence.tenant_id != tenant_id or not timedelta(0) <= at - evidence.at <= timedelta(days=1):
        raise RefusedError(f"the evidence for {to} is not of this tenant and day: gather it again")
    lacking = [
        f"{each.name}: {each.found}, needs {each.needed}" for each in evidence.criteria if not each.is_met
    ]
    if lacking:
        raise RefusedError(f"{to} is not earned yet: {'; '.join(lacking)}")
    is_posting = to == "P3"
    if by != people.OPERATOR or is_posting:
        by = people.approver(connection, tenant_id, by)
    if is_posting:
        _refuse_approval(connection, tenant_id, at, expires_at)
    made = _add(
        connection, tenant_id, to, actor=by, at=at, reason=reason, evidence=evidence,
        approved_by=by if is_posting else None, expires_at=expires_at if is_posting else None,
    )  # fmt: skip
    if is_posting:
        canary.start(
            connection,
            tenant_id,
            "autopost",
            champion="review",
            challenger=f"stage {made.number}",
            by=by,
            at=at,
        )
    return made


def _refuse_approval(
    connection: sa.Connection, tenant_id: UUID, at: datetime, expires_at: datetime | None
) -> None:
    if expires_at is None or not at < expires_at <= at + LONGEST_APPROVAL:
        raise RefusedError(f"an approval of P3 ends within {LONGEST_APPROVAL.days} days: say when")
    if not settings.current(connection, tenant_id).settings.autopost_requested:
        raise RefusedError("the tenant has not asked for it: set autopost_requested first")


def demote(
    connection: sa.Connection,
    tenant_id: UUID,
    *,
    by: str,
    at: datetime,
    reason: str,
    evidence: dict[str, Any] | None = None,
) -> Current:
    """Takes P3 back to P2 at once: anybody of the tenant may, and the machine. Nothing more is posted by itself."""  # fmt: skip
    if by not in (people.OPERATOR, people.PIPELINE):
        by = people.person(connection, tenant_id, by)
    hold(connection, tenant_id)
    held = newest(connection, tenant_id)
    if held.stage != "P3":
        raise RefusedError(f"the tenant is in {held.stage}: only P3 is taken back")
    canary.end_autopost(connection, tenant_id, at=at, reason=reason)
    told = Evidence.of(tenant_id, "P2", at, (), evidence or {})
    return _add(connection, tenant_id, "P2", actor=by, at=at, reason=reason, evidence=told)


def _add(
    connection: sa.Connection, tenant_id: UUID, stage: Stage, *, actor: str, at: datetime, reason: str,
    evidence: Evidence, approved_by: str | None = None, expires_at: datetime | None = None,
) -> Current:  # fmt: skip
    number = newest(connection, tenant_id).number + 1
    row = {
        "tenant_id": tenant_id, "number": number, "stage": stage, "at": at, "actor": actor, "reason": reason,
        "evidence": evidence.told, "evidence_hash": evidence.hash, "approved_by": approved_by, "expires_at": expires_at,
    }  # fmt: skip
    connection.execute(books_stages.insert().values(row))
    chain.append(
        connection, books_audit, tenant_id, "stage_changed",
        actor=actor, at=at, number=number, stage=stage, reason=reason, evidence_hash=evidence.hash,
    )  # fmt: skip
    return Current(stage, number, at, approved_by, expires_at)
