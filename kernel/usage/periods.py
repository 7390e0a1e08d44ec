"""Months of tenants: when one begins and ends, which states it goes through, and which should be closed by now.

A month is open until it is closed, and it is closing from its end on. What a close freezes stands in `close`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from models.statements import statements

# What was received before midnight is captured a moment later.
GRACE = timedelta(hours=1)
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Period:
    year_month: str
    state: str
    closing_at: datetime | None
    closed_at: datetime | None
    closed_by: str | None


@dataclass(frozen=True, slots=True)
class Missed:
    """A month that ended `days` ago and is not closed. Its state is None when nothing was ever metered in it."""

    tenant_id: UUID
    tenant: str
    year_month: str
    state: str | None
    days: int


def bounds(month: str) -> tuple[datetime, datetime]:
    """The first instants of a month, written YYYY-MM, and of the one after it, in UTC. Raises RefusedError."""
    if not _MONTH.fullmatch(month) or month[:4] in ("0000", "9999"):
        raise RefusedError(f"{month!r} is no month: write it as 2026-01")
    begins = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    return begins, (begins + timedelta(days=31)).replace(day=1)


def month_of(at: datetime) -> str:
    utc = at.astimezone(UTC)
    return f"{utc.year:04}-{utc.month:02}"


def before(month: str) -> str:
    return month_of(bounds(month)[0] - timedelta(days=1))


def listed(connection: sa.Connection, tenant_id: UUID) -> list[Period]:
    """Every month of the tenant in which something was metered or closed, the newest first."""
    tenancy.service(connection, tenant_id)
    rows = connection.execute(statements("usage_close")["periods"], {"tenant_id": tenant_id})
    return [Period(**row._mapping) for row in rows]


def first(connection: sa.Connection, tenant_id: UUID) -> str | None:
    """The month in which the tenant's first event was metered or its first plan began."""
    return connection.execute(statements("usage_close")["first_month"], {"tenant_id": tenant_id}).scalar()


def begin_closing(connection: sa.Connection, tenant_id: UUID, *, at: datetime) -> list[str]:
    """Marks the tenant's months that ended as closing, which changes nothing for usage that still comes; which."""
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "now": month_of(at), "at": at}
    return sorted(connection.scalars(statements("usage_close")["begin_closing"], given))


def missed(
    connection: sa.Connection, *, at: datetime, days: int, tenant_id: UUID | None = None
) -> list[Missed]:
    """The months of all tenants, or of one, that ended `days` days ago or earlier and are not closed."""
    tenancy.service(connection, tenant_id)
    rows = connection.execute(statements("usage_close")["missed"], {"at": at, "days": days})
    return [Missed(**row._mapping) for row in rows]
