"""What people ask of a tenant's sites: which there are, how far their month is, and that one takes nothing any more."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, periods, plans
from kernel.usage.sites import Site
from models import usage as tables
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


def sites(connection: sa.Connection, tenant_id: UUID) -> list[Site]:
    """Those that are closed too, the oldest first."""
    tenancy.service(connection, tenant_id)
    table = tables.sites
    found = connection.execute(
        sa.select(*(table.c[name] for name in Site.__slots__))
        .where(table.c.tenant_id == tenant_id)
        .order_by(table.c.created_at, table.c.public_id)
    )
    return [Site(**{**row._mapping, "origins": tuple(row.origins)}) for row in found]


def find(connection: sa.Connection, tenant_id: UUID, asked: str) -> Site:
    """The site of a public id, id or name. Raises RefusedError naming the nearest one."""
    known = sites(connection, tenant_id)
    found = [site for site in known if asked in (site.public_id, str(site.id))] or [
        site for site in known if asked == site.name
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise RefusedError(f"the tenant has {len(found)} sites named {asked!r}: give the public id")
    near = difflib.get_close_matches(
        asked, [each for site in known for each in (site.public_id, site.name)], n=1
    )
    hint = f"did you mean {near[0]}?" if near else "make it with revenue-os usage site add"
    raise RefusedError(f"the tenant has no site {asked!r}: {hint}")


def close(connection: sa.Connection, site: Site, *, actor: str, at: datetime) -> None:
    """Nothing is taken from the site any more, for good; what it sent stands. Raises RefusedError for a closed one."""
    tenancy.service(connection, site.tenant_id)
    given = {"tenant_id": site.tenant_id, "site_id": site.id}
    if connection.execute(statements("usage_doors")["close_site"], given).rowcount == 0:
        raise RefusedError(f"site {site.public_id} is closed already: nothing was changed")
    audit.append(connection, site.tenant_id, "site_closed", actor=actor, at=at, site_id=site.id)


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
