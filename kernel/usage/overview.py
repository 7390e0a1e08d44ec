"""How far a month of a tenant's sites is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import periods, plans
from models.statements import statements


@dataclass(frozen=True, slots=True)
class Used:
    """A month of a site, by its counter. `used` are billable events, `refused` those the month had no room for.

    The projection holds the pace of the part of the month that is over; of a month that is over it is what came.
    """

    site: str
    plan: str
    limit: int
    used: int
    remaining: int
    overage: int
    refused: int
    projected: int
    projected_overage: int


def month(connection: sa.Connection, tenant_id: UUID, year_month: str, at: datetime) -> list[Used]:
    """How far a month of each site is at an instant, by the plan that limits it then, or limited it last."""
    tenancy.service(connection, tenant_id)
    begins, ends = periods.bounds(year_month)
    if at < begins:
        raise RefusedError(f"{year_month} has not begun: ask for a month that has")
    given = {"tenant_id": tenant_id, "month": year_month}
    rows = connection.execute(statements("usage_doors")["counted"], given).all()
    then = min(at, ends - timedelta(microseconds=1))
    known = plans.plans_at(connection, tenant_id, [row.id for row in rows], then)
    gone = (min(at, ends) - begins) / (ends - begins)
    return [_used(row, known.get(row.id, plans.DEFAULT).terms, gone) for row in rows]


def _used(row: sa.Row, terms: plans.Terms, gone: float) -> Used:
    projected = min(terms.cap, round(row.used / gone)) if gone else row.used
    projected = max(projected, row.used)
    return Used(
        row.public_id, terms.plan_tier, terms.monthly_limit, row.used, terms.remaining(row.used), row.overage,
        row.refused, projected, max(0, projected - terms.monthly_limit),
    )  # fmt: skip
