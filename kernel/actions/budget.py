"""The ledger of spend that actions add: reserved before a change is made, given back when it does not stand.

Amounts are in the tenant's reporting currency, days and months in UTC, as the kernel counts them when it proposes.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.decisions import bundle
from kernel.decisions.contract import KernelError
from kernel.decisions.levers import days_left, days_of_next_month
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
    month_change = daily_change * days_left(today)
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
            # A clock that was set back since gives back no more than was reserved.
            left = min(row.daily_amount * (days_left(today) - 1), row.month_amount, key=abs)
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
    before = bundle.committed(connection, [tenant_id], at)[tenant_id]
    if before.month + month_change > cap:
        raise RefusedError(
            f"monthly_budget_cap: {month_change:f} more until the end of {at:%Y-%m} would exceed {cap:f}, of which "
            f"{before.month:f} is committed; raise the cap or take less"
        )
    # What earlier months added goes on: without this each month could add the whole cap anew.
    days = days_of_next_month(at.date())
    if (before.daily + daily_change) * days > cap:
        raise RefusedError(
            f"monthly_budget_cap: {daily_change:f} more a day beside the {before.daily:f} that actions add already "
            f"would exceed {cap:f} in the {days} days of next month; raise the cap or take less"
        )
    if most is None:
        return
    currency = tenant.reporting_currency
    daily = _run(
        connection, "daily_spend", tenant_id=tenant_id, currency=currency, on_date=at.date()
    ).scalar_one()
    if daily is None:
        raise RefusedError(
            f"max_daily_spend: what channels spend a day is not known in {currency}: load an exchange rate of the "
            "last ten days for each currency that running campaigns have, or stop those campaigns"
        )
    if daily + daily_change > most:
        raise RefusedError(
            f"max_daily_spend: {daily_change:f} more a day would exceed {most:f}, of which {daily:f} is taken; raise "
            "the limit or take less"
        )


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
