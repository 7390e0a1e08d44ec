"""The ledger of spend that actions add: reserved before a change is made, given back when it does not stand.

Amounts are in the tenant's reporting currency, days and months in UTC, as the kernel counts them when it proposes.
"""

from __future__ import annotations

import calendar
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.decisions import bundle
from kernel.decisions.contract import KernelError
from kernel.errors import RefusedError
from models.statements import statements


def reserve(
    connection: sa.Connection, tenant_id: UUID, action_id: UUID, daily_change: Decimal, at: datetime
) -> None:
    """Commits the change of daily spend for the rest of the month. Holds the ledger until the transaction ends.

    Reserving the same again changes nothing. A decrease is always taken and makes room. Raises RefusedError when an
    increase would exceed the month's cap or the most that may be spent a day, KernelError for a tenant that has no
    valid configuration.
    """
    if daily_change == 0:
        return
    key = {"tenant_id": tenant_id, "action_id": action_id}
    _run(connection, "lock_budget", tenant_id=tenant_id)
    if sum(row.daily_amount for row in _run(connection, "reserved", **key)) == daily_change:
        return
    today = at.date()
    month_change = daily_change * (_days_after(today) + 1)
    if daily_change > 0:
        _expect_room(connection, tenant_id, daily_change, month_change, at)
    _add(connection, key, today.replace(day=1), daily_change, month_change, at, "reserved")


def release(connection: sa.Connection, tenant_id: UUID, action_id: UUID, at: datetime) -> None:
    """Gives back what the action still commits: all of it when it was never applied, else the days after today.

    Releasing what is not committed changes nothing.
    """
    key = {"tenant_id": tenant_id, "action_id": action_id}
    _run(connection, "lock_budget", tenant_id=tenant_id)
    was_applied = _run(connection, "was_applied", **key).scalar()
    today = at.date()
    for row in _run(connection, "reserved", **key).all():
        if not was_applied:
            left = row.month_amount
        elif row.month == today.replace(day=1):
            left = row.daily_amount * _days_after(today)
        else:
            left = Decimal(0)
        _add(connection, key, row.month, -row.daily_amount, -left, at, "released")


def committed(connection: sa.Connection, tenant_id: UUID, month: date) -> Decimal:
    """What actions add to the spend of the month that the day lies in; negative when they save more than they add."""
    return _run(connection, "committed", tenant_id=tenant_id, month=month.replace(day=1)).scalar_one()


def _expect_room(
    connection: sa.Connection, tenant_id: UUID, daily_change: Decimal, month_change: Decimal, at: datetime
) -> None:
    tenant = bundle.settled(connection, [tenant_id], at)[tenant_id]
    if isinstance(tenant, KernelError):
        raise tenant
    cap, most = tenant.config.monthly_budget_cap, tenant.config.max_daily_spend
    before = committed(connection, tenant_id, at.date())
    if before + month_change > cap:
        raise RefusedError(
            f"monthly_budget_cap: {month_change:f} more until the end of {at:%Y-%m} would exceed {cap:f}, of which "
            f"{before:f} is committed; raise the cap or take less"
        )
    if most is None:
        return
    daily = _run(
        connection, "daily_spend", tenant_id=tenant_id, currency=tenant.reporting_currency
    ).scalar_one()
    if daily + daily_change > most:
        raise RefusedError(
            f"max_daily_spend: {daily_change:f} more a day would exceed {most:f}, of which {daily:f} is taken; raise "
            "the limit or take less"
        )


def _days_after(day: date) -> int:
    """Days of the month after the given one."""
    return calendar.monthrange(day.year, day.month)[1] - day.day


def _add(
    connection: sa.Connection,
    key: dict[str, UUID],
    month: date,
    daily_amount: Decimal,
    month_amount: Decimal,
    at: datetime,
    reason: str,
) -> None:
    values = {"month": month, "daily_amount": daily_amount, "month_amount": month_amount, "at": at}
    _run(connection, "add_budget_entry", **key, **values, reason=reason)


def _run(connection: sa.Connection, name: str, **values: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("actions")[name], values)
