"""How far a month of a tenant's sites is, and what it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import evidence, periods, plans, rating
from models.statements import statements


@dataclass(frozen=True, slots=True)
class Used:
    """A month of a site, by its counter. `used` are billable events, `refused` those the month had no room for.

    The projection holds the pace of the part of the month that is over; of a month that is over it is what came.
    `projected_invoice` is what that comes to, in `currency` and without corrections, by the plan that rates the month;
    None for a site without one. Of a site that was closed by then nothing more is expected, and `plan` held last.
    """

    site: str
    status: str
    plan: str
    limit: int
    used: int
    remaining: int
    overage: int
    refused: int
    projected: int
    projected_overage: int
    projected_invoice: Decimal | None
    currency: str | None


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
    closed = {row.id: row.closed_at for row in rows if row.closed_at is not None and row.closed_at <= then}
    for site_id, closed_at in closed.items():
        known |= plans.plans_at(connection, tenant_id, [site_id], closed_at - timedelta(microseconds=1))
    gone = (min(at, ends) - begins) / (ends - begins)
    rating_terms = evidence.terms_of(connection, tenant_id, [row.id for row in rows], year_month)
    return [
        _used(
            row,
            known.get(row.id, plans.DEFAULT).terms,
            gone,
            rating_terms[row.id],
            year_month,
            row.id in closed,
        )
        for row in rows
    ]


def _used(
    row: sa.Row, terms: plans.Terms, gone: float, rated_by: Mapping[str, Any], month: str, is_closed: bool
) -> Used:
    projected = min(terms.cap, round(row.used / gone)) if gone and not is_closed else row.used
    projected = max(projected, row.used)
    invoice = None if rated_by["id"] is None else rating.rate(rated_by, projected, month)
    return Used(
        row.public_id, "closed" if is_closed else "active", terms.plan_tier, terms.monthly_limit, row.used,
        0 if is_closed else terms.remaining(row.used), row.overage, row.refused, projected,
        max(0, projected - terms.monthly_limit), invoice and invoice.total, invoice and invoice.currency,
    )  # fmt: skip
