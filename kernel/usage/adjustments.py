"""Corrections of what was metered: asked for by one, approved by another or refused, paid for by a month that is open.

The ledger is never changed by one. How an adjustment is priced stands in `verify.rate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, periods
from models.statements import array, statements
from models.usage import sites, usage_adjustments

Kind = Literal["late", "void", "credit", "correction"]
_KINDS = ("late", "void", "credit", "correction")
_REASON = 10  # characters
_FROZEN = ("CLOSED", "ADJUSTED")


@dataclass(frozen=True, slots=True)
class Approved:
    """`pays` is the month on whose invoice the correction of `of_year_month` stands."""

    id: UUID
    of_year_month: str
    pays: str
    quantity: int


def ask(
    connection: sa.Connection,
    tenant_id: UUID,
    site_id: UUID,
    month: str,
    quantity: int,
    *,
    kind: Kind,
    reason: str,
    actor: str,
    at: datetime,
    key: str | None = None,
) -> UUID:
    """Asks that a month of a site be billed for more events, or fewer; the id of what waits for approval.

    Late events add, voids and credits take away. `key` is of what may be asked for once only, such as a late event.
    Raises RefusedError, also for more than the month has left to take away.
    """
    tenancy.service(connection, tenant_id)
    who = audit.entitled(connection, tenant_id, actor)
    periods.bounds(month)
    if kind not in _KINDS:
        raise RefusedError(f"kind {kind!r} is unknown: use {', '.join(_KINDS)}")
    is_other_way = quantity < 0 if kind == "late" else kind in ("void", "credit") and quantity > 0
    if quantity == 0 or is_other_way:
        hint = f"write {-quantity}" if quantity else "name how many"
        raise RefusedError(
            f"a {kind} of {quantity} events is none: late ones add, voids and credits take away; {hint}"
        )
    if len(reason.strip()) < _REASON:
        raise RefusedError(
            f"the reason needs at least {_REASON} characters: it stands on the invoice and is kept for good"
        )
    if month > periods.month_of(at):
        raise RefusedError(f"{month} has not begun: there is nothing to correct")
    known = sa.select(sites.c.id).where(sites.c.tenant_id == tenant_id, sites.c.id == site_id)
    if connection.execute(known).first() is None:
        raise RefusedError(f"the tenant has no site {site_id}: list them first")
    _refuse_below_nothing(connection, {"tenant_id": tenant_id, "site_id": site_id, "month": month}, quantity)
    row = {
        "tenant_id": tenant_id, "site_id": site_id, "year_month": periods.month_of(at), "of_year_month": month,
        "idempotency_key": key, "quantity": quantity, "kind": kind, "reason": reason, "asked_by": who,
        "created_at": at,
    }  # fmt: skip
    try:
        with connection.begin_nested():
            made = connection.execute(
                usage_adjustments.insert().values(row).returning(usage_adjustments.c.id)
            ).scalar_one()
    except sa.exc.IntegrityError as error:
        if "usage_adjustments_once_key" not in str(error.orig):
            raise
        raise RefusedError(f"a {kind} of {key} was asked for already: it counts once") from None
    audit.append(
        connection, tenant_id, "adjustment_asked", actor=who, at=at, id=made, site_id=site_id,
        of_year_month=month, quantity=quantity, kind=kind, reason=reason,
    )  # fmt: skip
    return made


def approve(
    connection: sa.Connection, tenant_id: UUID, ids: Iterable[UUID], *, actor: str, at: datetime
) -> list[Approved]:
    """Approves what others asked for, all of it or nothing. A month that is still open pays for itself, a closed one is
    paid for by the present one and is adjusted from now on.

    Raises RefusedError when the actor asked for one or may not, and when fewer events than none would be left.
    """
    tenancy.service(connection, tenant_id)
    who = audit.entitled(connection, tenant_id, actor, operator=False)
    given: dict[str, Any] = {"tenant_id": tenant_id, "at": at}
    rows = _undecided(connection, given, ids)
    for row in rows:
        if row.asked_by == who:
            raise RefusedError(
                "nobody approves what they asked for themselves: ask another owner or approver of the tenant"
            )
    done: list[Approved] = []
    for month, of_month in groupby(rows, lambda row: row.of_year_month):
        done += _approve(connection, given, month, list(of_month), who)
    audit.append(
        connection, tenant_id, "adjustments_approved", actor=who, at=at,
        ids=[each.id for each in done], events=sum(each.quantity for each in done),
    )  # fmt: skip
    return done


def refuse(
    connection: sa.Connection, tenant_id: UUID, ids: Iterable[UUID], *, why: str, actor: str, at: datetime
) -> list[UUID]:
    """Refuses what somebody asked for, or takes it back, all of it or nothing; which. It costs nothing and may be asked
    for anew, but late events: they stay known and are billed by nobody.

    Raises RefusedError when the actor may not, for no reason, and for what was approved or refused already.
    """
    tenancy.service(connection, tenant_id)
    who = audit.entitled(connection, tenant_id, actor, operator=False)
    if len(why.strip()) < _REASON:
        raise RefusedError(f"the reason needs at least {_REASON} characters: it is kept for good")
    given = {"tenant_id": tenant_id, "at": at}
    refused = [row.id for row in _undecided(connection, given, ids)]
    named = given | {"ids": array(refused)}
    connection.execute(_sql("refuse"), named | {"actor": who, "why": why})
    connection.execute(_sql("uncredit"), named)
    audit.append(connection, tenant_id, "adjustments_refused", actor=who, at=at, ids=refused, reason=why)
    return refused


def _undecided(
    connection: sa.Connection, given: Mapping[str, Any], ids: Iterable[UUID]
) -> Sequence[sa.Row[Any]]:
    """These adjustments, held until the transaction ends. Raises RefusedError when one is unknown or decided."""
    asked = list(dict.fromkeys(ids))
    # One at a time: what is left of a month is counted with what was approved before.
    connection.execute(_sql("hold_adjustments"), given)
    rows = connection.execute(_sql("asked"), {**given, "ids": array(asked)}).all()
    if missing := set(asked) - {row.id for row in rows}:
        raise RefusedError(f"the tenant has no adjustment {min(missing, key=str)}: list them first")
    for row in rows:
        if row.approved_at is not None or row.refused_at is not None:
            done = "refused" if row.approved_at is None else "approved"
            raise RefusedError(f"adjustment {row.id} was {done} already: nothing was changed")
    return rows


def _refuse_below_nothing(connection: sa.Connection, given: Mapping[str, Any], quantity: int) -> None:
    """For a site's month, with what was approved of it."""
    units = connection.execute(_sql("units"), given).scalar_one()
    if units + quantity < 0:
        raise RefusedError(
            f"{given['month']} has {units:,} billable events: {-quantity:,} cannot be taken from them"
        )


def _approve(
    connection: sa.Connection, given: dict[str, Any], month: str, rows: list[sa.Row[Any]], who: str
) -> list[Approved]:
    """Those about one month."""
    is_frozen = _is_frozen(connection, given, month)
    pays = periods.month_of(given["at"]) if is_frozen else month
    if is_frozen:
        # Before the month that pays is opened: an import too holds the older month first.
        connection.execute(_sql("set_adjusted"), given | {"month": month})
    connection.execute(_sql("open_period"), given | {"month": pays})
    if _is_frozen(connection, given, pays):
        raise RefusedError(f"{pays} is closed already: approve it when the next month has begun")
    taken: dict[UUID, int] = {}
    for row in rows:
        taken[row.site_id] = taken.get(row.site_id, 0) + row.quantity
    for site_id, quantity in taken.items():
        _refuse_below_nothing(connection, given | {"site_id": site_id, "month": month}, quantity)
    ids = array(row.id for row in rows)
    connection.execute(_sql("approve"), given | {"ids": ids, "actor": who, "pays": pays})
    return [Approved(row.id, month, pays, row.quantity) for row in rows]


def credit(
    connection: sa.Connection,
    tenant_id: UUID,
    buffer_id: UUID,
    *,
    reason: str,
    actor: str,
    at: datetime,
) -> list[UUID]:
    """Asks for the credit of a message that was given up, one for each month it was billed in; their ids.

    Raises RefusedError for one that was not given up, or was credited.
    """
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "buffer_id": buffer_id, "month": None, "is_approved": False, "at": at}
    # Nobody has it tried again meanwhile.
    connection.execute(_sql("hold_message"), given)
    made = []
    for row in connection.execute(_sql("uncredited"), given).all():
        asked = ask(
            connection, tenant_id, row.site_id, row.year_month, -row.events, kind="credit", reason=reason,
            actor=actor, at=at, key=f"buffer:{buffer_id}:{row.year_month}",
        )  # fmt: skip
        made.append(asked)
        connection.execute(_sql("note_credit"), given | {"id": asked})
    if not made:
        raise RefusedError(
            f"message {buffer_id} was not given up, billed nothing, or a credit was asked for already"
        )
    return made


def listed(connection: sa.Connection, tenant_id: UUID, month: str | None = None) -> list[Mapping[str, Any]]:
    """The tenant's adjustments in the order they were asked for; of a month, those about it and those it pays for."""
    tenancy.service(connection, tenant_id)
    rows = connection.execute(_sql("adjustments"), {"tenant_id": tenant_id, "month": month})
    return [dict(row) for row in rows.mappings()]


def _is_frozen(connection: sa.Connection, given: Mapping[str, Any], month: str) -> bool:
    """Whether the month is closed, or lies before the tenant's first one and will never be."""
    state = connection.execute(_sql("share_period"), {**given, "month": month}).scalar()
    begins = periods.first(connection, given["tenant_id"])
    return state in _FROZEN or begins is None or month < begins


def _sql(name: str) -> sa.TextClause:
    return statements("usage_close")[name]
