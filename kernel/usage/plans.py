"""Plans of sites: how much of a month is accepted, what counts, and what it costs.

A plan is a version, valid from an instant until the next one begins. What it makes of a month's counts on an invoice
stands in `kernel.usage.rating`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from kernel import money, tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, periods, verify
from models.statements import array, statements
from models.usage import site_plans

# A limit that no month reaches: everything is included. A whole number like the others, small enough to be the same one
# to every reader of JSON.
UNLIMITED = 10**15


class Tier(NamedTuple):
    """Units up to `up_to`, None for all further ones, at a price for a thousand."""

    up_to: int | None
    per_1k: Decimal


class Ruling(NamedTuple):
    """What becomes of one more billable event, and why it is not simply accepted."""

    state: Literal["ACCEPTED", "OVERAGE", "REJECTED_QUOTA"]
    reason: str | None


_ACCEPTED = Ruling("ACCEPTED", None)
_OVERAGE = Ruling("OVERAGE", "monthly_limit_exceeded")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan says. As they stand here they are those of a site that was given none."""

    monthly_limit: int = 1_000
    soft_limit_enabled: bool = False
    hard_cap_multiplier: Decimal = Decimal(2)
    billing_rule: Literal["every_event", "event_kinds"] = "every_event"
    plan_tier: str = "free"
    overage_price_per_1k: Decimal | None = None
    base_price: Decimal = Decimal(0)
    tiers: tuple[Tier, ...] = ()
    minimum: Decimal = Decimal(0)
    currency: str = "USD"

    @property
    def cap(self) -> int:
        """How many events of a month are accepted at most."""
        return (
            int(self.monthly_limit * self.hard_cap_multiplier)
            if self.soft_limit_enabled
            else self.monthly_limit
        )

    def ruling(self, used: int) -> Ruling:
        """Of one more billable event in a month that has `used` accepted ones."""
        if used < self.monthly_limit:
            return _ACCEPTED
        if used < self.cap:
            return _OVERAGE
        why = "hard_cap_exceeded" if self.soft_limit_enabled else "monthly_limit_exceeded"
        return Ruling("REJECTED_QUOTA", why)

    def remaining(self, used: int) -> int:
        return max(0, self.monthly_limit - used)


@dataclass(frozen=True, slots=True)
class Plan:
    """Terms and when they hold, half-open. The default plan has no id and holds wherever no other does."""

    terms: Terms
    id: UUID | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


DEFAULT = Plan(Terms())


def set_plan(
    connection: sa.Connection,
    tenant_id: UUID,
    site_id: UUID,
    terms: Terms,
    *,
    valid_from: datetime,
    actor: str,
    at: datetime,
) -> UUID:
    """Sets a site's plan from an instant on, which ends the one before; gives its id.

    Raises RefusedError for an instant that has passed or lies before the newest plan's, for a site that is unknown or
    closed, and for amounts that nobody can pay.
    """
    tenancy.service(connection, tenant_id)
    for name in ("base_price", "minimum"):
        amount: Decimal = getattr(terms, name)
        if amount != verify.rounded(amount, terms.currency):
            raise RefusedError(
                f"the {name.replace('_', ' ')} {amount:f} cannot be paid in {terms.currency}, which has"
                f" {money.digits(terms.currency)} decimals: round it (prices of a thousand events may have more)"
            )
    held = connection.execute(_sql("hold_sites"), {"tenant_id": tenant_id, "sites": array([site_id])}).first()
    if held is None:
        raise RefusedError(f"the tenant has no site {site_id}: make it first")
    if held.status == "closed":
        raise RefusedError(f"site {held.public_id} is closed and takes no plan: nothing was changed")
    if valid_from < at:
        raise RefusedError(
            f"a plan cannot begin in the past ({valid_from:%Y-%m-%d %H:%M}): let it begin now or later"
        )
    given = {"tenant_id": tenant_id, "site_id": site_id}
    newest = connection.execute(_sql("hold_newest_plan"), given).first()
    if newest is not None:
        if newest.valid_from >= valid_from:
            raise RefusedError(
                f"a plan that begins at {newest.valid_from:%Y-%m-%d %H:%M} is set already: let this one begin later, or drop"
                " that one before it begins"
            )
        if newest.valid_to is None:
            connection.execute(_sql("end_plan"), {"tenant_id": tenant_id, "id": newest.id, "at": valid_from})
    values = {name: getattr(terms, name) for name in Terms.__slots__} | {
        "tiers": [{"up_to": tier.up_to, "per_1k": f"{tier.per_1k:f}"} for tier in terms.tiers],
        "tenant_id": tenant_id, "site_id": site_id, "valid_from": valid_from, "made_by": actor,
    }  # fmt: skip
    return connection.execute(site_plans.insert().values(values).returning(site_plans.c.id)).scalar_one()


def drop(connection: sa.Connection, tenant_id: UUID, plan_id: UUID, *, actor: str, at: datetime) -> Plan:
    """Takes a plan away that has not begun: the one before it holds as long as it would have. Gives what it was.

    Raises RefusedError for one that has begun, and for one that is unknown.
    """
    tenancy.service(connection, tenant_id)
    given = {"tenant_id": tenant_id, "id": plan_id}
    # As who sets plans holds it, and whoever captures.
    connection.execute(_sql("hold_site_of_plan"), given)
    row = connection.execute(_sql("plan"), given).first()
    if row is None:
        raise RefusedError(f"the tenant has no plan {plan_id}: list them first")
    if row.valid_from <= at:
        raise RefusedError(
            f"the plan began at {row.valid_from:%Y-%m-%d %H:%M} and what came since is ruled by it: set another one"
        )
    connection.execute(_sql("drop_plan"), given)
    between = {"site_id": row.site_id, "begins": row.valid_from, "ends": row.valid_to}
    connection.execute(_sql("lengthen_plan"), given | between)
    dropped = _plan(row)
    audit.append(
        connection, tenant_id, "plan_dropped", actor=actor, at=at, site_id=row.site_id, plan_id=plan_id,
        valid_from=row.valid_from, plan_tier=row.plan_tier, monthly_limit=row.monthly_limit, made_by=row.made_by,
    )  # fmt: skip
    return dropped


def listed(connection: sa.Connection, tenant_id: UUID, site_id: UUID) -> list[Plan]:
    """Every plan of a site, the newest first."""
    tenancy.service(connection, tenant_id)
    rows = connection.execute(_sql("plans"), {"tenant_id": tenant_id, "site_id": site_id})
    return [_plan(row) for row in rows]


def plan_at(connection: sa.Connection, tenant_id: UUID, site_id: UUID, at: datetime) -> Plan:
    """The plan of a site at an instant; the default one when it has none then."""
    tenancy.service(connection, tenant_id)
    return plans_at(connection, tenant_id, [site_id], at).get(site_id, DEFAULT)


def of_month(
    connection: sa.Connection, tenant_id: UUID, site_ids: Iterable[UUID], month: str, at: datetime
) -> dict[UUID, Plan]:
    """The plans by which the events of a month are ruled, without sites that have none: those that hold now, and of a
    month that is over those that held last in it.
    """
    last = periods.bounds(month)[1] - timedelta(microseconds=1)
    return plans_at(connection, tenant_id, site_ids, min(at, last))


def plans_at(
    connection: sa.Connection, tenant_id: UUID, site_ids: Iterable[UUID], at: datetime
) -> dict[UUID, Plan]:
    """The plans of sites at an instant, without those that have none then."""
    given = {"tenant_id": tenant_id, "sites": array(site_ids), "at": at}
    return {row.site_id: _plan(row) for row in connection.execute(_sql("plans_at"), given)}


def _plan(row: sa.Row[Any]) -> Plan:
    named = {name: getattr(row, name) for name in Terms.__slots__ if name != "tiers"}
    listed = json.loads(row.tiers) if isinstance(row.tiers, str) else row.tiers
    tiers = tuple(Tier(tier["up_to"], Decimal(tier["per_1k"])) for tier in listed)
    return Plan(Terms(**named, tiers=tiers), row.id, row.valid_from, row.valid_to)


def _sql(name: str) -> sa.TextClause:
    return statements("usage_gate")[name]
