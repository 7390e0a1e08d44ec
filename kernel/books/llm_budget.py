"""What may be spent on language models: the worst case is reserved before a call, and what it cost is settled after it.

A cap that would be crossed has the tenant fall back on rules and its own model until the month ends or the cap is raised.
Which model is asked, and what, stands in `llm`.
"""

from __future__ import annotations

import calendar
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books.people import PIPELINE
from kernel.books.prices import MICROS
from kernel.books.settings import Settings
from models.books import books_audit
from models.statements import statements

Reason = Literal["calls_per_txn_exceeded", "tenant_budget_exceeded", "global_budget_exceeded"]
# Calls are counted against what was decided in these days, once there is enough of it for a ratio to mean anything.
WINDOW = timedelta(days=30)
LEAST_DECIDED = 100
# A call has its answer within seconds, or whoever made it died.
LONGEST_CALL = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Caps:
    """Calls per decided transaction in 30 days, and US dollars in a month (UTC): of the tenant, and of all together."""

    calls_per_txn: Decimal = Decimal("0.30")
    tenant_usd: Decimal = Decimal(50)
    global_usd: Decimal = Decimal(1000)

    def of(self, reason: Reason) -> Decimal:
        return {
            "calls_per_txn_exceeded": self.calls_per_txn,
            "tenant_budget_exceeded": self.tenant_usd,
            "global_budget_exceeded": self.global_usd,
        }[reason]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program's settings say of every tenant."""

    calls_per_txn: Decimal = Decimal("0.30")
    global_usd: Decimal = Decimal(1000)

    def caps(self, given: Settings) -> Caps:
        """Those of a tenant with these settings."""
        return Caps(self.calls_per_txn, given.llm_tenant_cap_usd, self.global_usd)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that may be made, and what it may cost at most, in millionths of a US dollar."""

    tenant_id: UUID
    id: UUID
    micros: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No call may be made: which cap stands against it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Status:
    """What this month (UTC) costs, reservations at their worst. `projected_usd`: at this rate, the tenant's whole month."""

    month: str
    tenant_spend_usd: Decimal
    global_spend_usd: Decimal
    tenant_cap_usd: Decimal
    global_cap_usd: Decimal
    projected_usd: Decimal
    fallback_active: bool
    fallback_reason: Reason | None
    fallback_since: datetime | None


def reserve(
    connection: sa.Connection,
    tenant_id: UUID,
    txn_id: UUID,
    *,
    model: str,
    cache_key: str,
    micros: int,
    caps: Caps,
    at: datetime,
) -> Reservation | Refused:
    """Reserves a call's worst cost, if no cap is crossed by it. Call it in a transaction of its own, committed before the
    call: others wait for it.

    A cap is crossed by what is strictly greater. The first of calls, tenant, all that is crossed is the reason, from then
    on for every call of the tenant until `release`.
    """
    month = month_of(at)
    tenancy.service(connection, tenant_id)
    given = {"since": at - WINDOW, "at": at}
    decided = _execute(connection, "decided", tenant_id, **given).scalar_one()
    # First what is everybody's, then the tenant's month: whoever reserves takes them in this order.
    _execute(connection, "hold_all", tenant_id)
    release(connection, tenant_id, caps=caps, at=at)
    everybody = _spent_by_all(connection, tenant_id, month)
    _execute(connection, "begin_month", tenant_id, month=month)
    own = _execute(connection, "hold_month", tenant_id, month=month).one()
    if own.fallback_reason:
        return Refused(own.fallback_reason)
    calls = _execute(connection, "calls", tenant_id, **given).scalar_one()
    reason = _crossed(
        caps, decided, calls + 1, own.reserved_micros + own.spent_micros + micros, everybody + micros
    )
    if reason:
        _fall_back(connection, tenant_id, month, reason, caps.of(reason), at)
        return Refused(reason)
    made = Reservation(tenant_id, uuid4(), micros)
    _execute(connection, "reserve", tenant_id, month=month, micros=micros)
    _execute(
        connection, "add_call", tenant_id, id=made.id, txn_id=txn_id, month=month, model=model, cache_key=cache_key,
        micros=micros, at=at,
    )  # fmt: skip
    return made


def _crossed(caps: Caps, decided: int, calls: int, tenant: int, everybody: int) -> Reason | None:
    if decided >= LEAST_DECIDED and calls > caps.calls_per_txn * decided:
        return "calls_per_txn_exceeded"
    if tenant > caps.tenant_usd * MICROS:
        return "tenant_budget_exceeded"
    if everybody > caps.global_usd * MICROS:
        return "global_budget_exceeded"
    return None


def room(connection: sa.Connection, tenant_id: UUID, *, caps: Caps, at: datetime) -> int | None:
    """How many calls fit under the cap of calls now; None while too little was decided for it to mean anything."""
    tenancy.service(connection, tenant_id)
    given = {"since": at - WINDOW, "at": at}
    decided = _execute(connection, "decided", tenant_id, **given).scalar_one()
    if decided < LEAST_DECIDED:
        return None
    calls = _execute(connection, "calls", tenant_id, **given).scalar_one()
    return max(0, int(caps.calls_per_txn * decided) - calls)


def settle(
    connection: sa.Connection,
    reservation: Reservation,
    *,
    micros: int,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    answer: dict[str, Any] | None,
    at: datetime,
) -> bool:
    """Has a call cost what it cost; False, with nothing changed, when it was settled before."""
    tenancy.service(connection, reservation.tenant_id)
    return _settle(
        connection, reservation.tenant_id, reservation.id, "settled", micros, prompt_tokens, completion_tokens, answer, at
    )  # fmt: skip


def give_back(connection: sa.Connection, reservation: Reservation, *, at: datetime) -> bool:
    """Frees what was reserved for a call of which certainly nothing was sent."""
    tenancy.service(connection, reservation.tenant_id)
    return _settle(connection, reservation.tenant_id, reservation.id, "released", None, None, None, None, at)


def settle_forgotten(connection: sa.Connection, tenant_id: UUID, *, at: datetime) -> int:
    """Settles calls whose caller died, at their worst: nobody knows whether they were made. How many there were."""
    tenancy.service(connection, tenant_id)
    # Who holds months and audit both takes what is everybody's first, as `reserve` does.
    _execute(connection, "hold_all", tenant_id)
    rows = _execute(connection, "forgotten", tenant_id, before=at - LONGEST_CALL).all()
    for row in rows:
        _settle(connection, tenant_id, row.id, "settled", row.reserved_micros, None, None, None, at)
    if rows:
        chain.append(
            connection, books_audit, tenant_id, "llm_calls_forgotten", actor=PIPELINE, at=at, calls=len(rows),
            usd=usd(sum(row.reserved_micros for row in rows)),
        )  # fmt: skip
    return len(rows)


def release(connection: sa.Connection, tenant_id: UUID, *, caps: Caps, at: datetime) -> bool:
    """Takes a fallback back when its month is over, or the cap that was hit is higher now. Whether it did."""
    tenancy.service(connection, tenant_id)
    released = False
    for row in _execute(connection, "fallen_back", tenant_id).all():
        is_over = row.year_month < month_of(at)
        if not is_over and caps.of(row.fallback_reason) <= row.fallback_cap:
            continue
        _execute(connection, "fall_back", tenant_id, month=row.year_month, reason=None, at=None, cap=None)
        chain.append(
            connection, books_audit, tenant_id, "llm_fallback_released", actor=PIPELINE, at=at, reason=row.fallback_reason,
            since=row.fallback_since, because="a month began" if is_over else "the cap was raised",
        )  # fmt: skip
        released = True
    return released


def status(connection: sa.Connection, tenant_id: UUID, *, caps: Caps, at: datetime) -> Status:
    """What was spent, and whether the tenant has fallen back."""
    tenancy.service(connection, tenant_id)
    month = month_of(at)
    own = _execute(connection, "month", tenant_id, month=month).one_or_none()
    spent = usd(own.micros) if own else Decimal(0)
    everybody = usd(_spent_by_all(connection, tenant_id, month))
    reason = own.fallback_reason if own else None
    return Status(
        month, spent, everybody, caps.tenant_usd, caps.global_usd, _projected(spent, at), reason is not None, reason,
        own.fallback_since if own else None,
    )  # fmt: skip


def is_fallen_back(connection: sa.Connection, tenant_id: UUID, *, at: datetime) -> bool:
    """Whether a cap was hit in this month and nothing has ended it: then nothing of the tenant is posted by itself."""
    tenancy.service(connection, tenant_id)
    own = _execute(connection, "month", tenant_id, month=month_of(at)).one_or_none()
    return own is not None and own.fallback_reason is not None


def month_of(at: datetime) -> str:
    """Months are those of UTC, for all tenants."""
    return f"{at.astimezone(UTC):%Y-%m}"


def usd(micros: int) -> Decimal:
    return Decimal(micros) / MICROS


def _projected(spent: Decimal, at: datetime) -> Decimal:
    day = at.astimezone(UTC)
    start = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # Of less than a day, one day's spend says as little as one hour's.
    days = max(Decimal((day - start).total_seconds()) / 86_400, Decimal(1))
    return (spent / days * calendar.monthrange(day.year, day.month)[1]).quantize(Decimal("0.000001"))


def _fall_back(
    connection: sa.Connection, tenant_id: UUID, month: str, reason: Reason, cap: Decimal, at: datetime
) -> None:
    _execute(connection, "fall_back", tenant_id, month=month, reason=reason, at=at, cap=cap)
    chain.append(
        connection, books_audit, tenant_id, "llm_fallback_began", actor=PIPELINE, at=at, reason=reason, cap=cap
    )  # fmt: skip


def _settle(
    connection: sa.Connection,
    tenant_id: UUID,
    call_id: UUID,
    status: str,
    micros: int | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    answer: dict[str, Any] | None,
    at: datetime,
) -> bool:
    changed = _execute(
        connection, "settle", tenant_id, id=call_id, status=status, spent=micros, prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens, answer=None if answer is None else json.dumps(answer), at=at,
    )  # fmt: skip
    return changed.rowcount == 1


def _spent_by_all(connection: sa.Connection, tenant_id: UUID, month: str) -> int:
    """Of all tenants: the pin is taken off for one question."""
    tenancy.service(connection)
    spent = _execute(connection, "spent_by_all", tenant_id, month=month).scalar_one()
    tenancy.service(connection, tenant_id)
    return spent


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_llm")[name], {"tenant_id": tenant_id} | given)
