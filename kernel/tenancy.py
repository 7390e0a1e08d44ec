"""Tenants: acting for one in a transaction, finding one, creating one, its configuration."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid4
from zoneinfo import available_timezones

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kernel.errors import RefusedError
from kernel.money import CURRENCIES
from models import rls
from models.spine import config_versions, tenants


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with what loading needs to know of its configuration."""

    id: UUID
    slug: str
    name: str
    default_currency: str
    reporting_currency: str
    time_zone: str


def service(connection: sa.Connection, tenant_id: UUID | None = None) -> None:
    """Acts as the pipeline until the transaction ends; pinned to a tenant when one is given."""
    _act_as(connection, rls.SERVICE, tenant_id)


def member(connection: sa.Connection, tenant_id: UUID) -> None:
    """Acts as a user of the tenant until the transaction ends: reads its rows, writes nothing."""
    _act_as(connection, rls.MEMBER, tenant_id)


def _act_as(connection: sa.Connection, role: str, tenant_id: UUID | None) -> None:
    act = sa.text("select set_config('role', :role, true), set_config('app.tenant_id', :tenant, true)")
    connection.execute(act, {"role": role, "tenant": str(tenant_id or "")})


class Config(BaseModel):
    """A tenant's effective configuration: targets, guardrails, calendar. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reporting_currency: str | None = None
    time_zone: str = "UTC"
    fiscal_year_start_month: int = Field(1, ge=1, le=12)
    bookings_basis: Literal["acv", "tcv"] = "acv"
    follow_up_sla_hours: Decimal = Field(Decimal(24), ge=1, le=168)
    target_pipeline: Decimal = Field(Decimal(500_000), ge=0)
    target_bookings: Decimal = Field(Decimal(150_000), ge=0)
    arr_target: Decimal | None = Field(None, ge=0)
    payback_target_months: Decimal = Field(Decimal(12), gt=0)
    payback_tolerance_months: Decimal = Field(Decimal(3), ge=0)
    margin_floor_pct: Decimal = Field(Decimal(50), ge=0, le=100)
    runway_threshold_months: Decimal = Field(Decimal(6), ge=0)
    max_cac: Decimal = Field(Decimal(2_500), ge=0)
    max_cac_by_segment: dict[str, Decimal] = Field(default_factory=dict)
    cash_risk_tolerance: Literal["low", "medium", "high"] = "medium"
    monthly_budget_cap: Decimal = Field(Decimal(50_000), ge=0)
    max_daily_spend: Decimal | None = Field(None, ge=0)
    experiment_exposure_pct: Decimal = Field(Decimal(20), ge=0, le=100)
    allowed_levers: list[Literal["campaigns", "channels", "sequences", "pricing"]] = Field(
        default_factory=lambda: ["campaigns", "channels", "sequences", "pricing"], min_length=1
    )
    blocked_actions: list[str] = Field(default_factory=list)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value} is no time zone: use an IANA name such as Europe/Berlin")
        return value

    @field_validator("reporting_currency")
    @classmethod
    def _known_currency(cls, value: str | None) -> str | None:
        if value is not None and value not in CURRENCIES:
            raise ValueError(f"{value} is no ISO 4217 currency")
        return value


def parsed_config(values: dict[str, Any]) -> Config:
    """Raises RefusedError naming the first field that cannot stand and, for an unknown one, the nearest."""
    try:
        return Config(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, Config.model_fields, n=1)
            told = f"is unknown{f': did you mean {near[0]}?' if near else ''}"
        else:
            told = first["msg"].removeprefix("Value error, ")
        raise RefusedError(f"configuration field {name}: {told}") from None


_FIND = sa.text(
    """
    select tenants.id, tenants.slug, tenants.name, tenants.default_currency,
        coalesce(latest.payload ->> 'reporting_currency', tenants.default_currency) as reporting_currency,
        coalesce(latest.payload ->> 'time_zone', 'UTC') as time_zone
    from spine.tenants
    left join lateral (
        select payload from spine.config_versions
        where config_versions.tenant_id = tenants.id order by valid_from desc limit 1
    ) as latest on true
    order by tenants.slug
    """
)


def all_tenants(connection: sa.Connection) -> list[Tenant]:
    return [Tenant(**row._mapping) for row in connection.execute(_FIND)]


def find(connection: sa.Connection, asked: str) -> Tenant:
    """The tenant of a slug or id. Raises RefusedError naming the nearest slug."""
    known = all_tenants(connection)
    for tenant in known:
        if asked in (tenant.slug, str(tenant.id)):
            return tenant
    near = difflib.get_close_matches(asked, [tenant.slug for tenant in known], n=1)
    hint = f"did you mean {near[0]}?" if near else "create it with revenue-os tenant create"
    raise RefusedError(f"tenant {asked!r} does not exist: {hint}")


def create(
    connection: sa.Connection,
    slug: str,
    name: str,
    currency: str,
    tenant_id: UUID | None = None,
    **flags: Any,
) -> UUID:
    """Adds a tenant. Raises RefusedError when the slug is taken or a value cannot stand."""
    if currency not in CURRENCIES:
        raise RefusedError(f"currency {currency!r} is no ISO 4217 code: use one such as USD")
    row = {"id": tenant_id or uuid4(), "slug": slug, "name": name, "default_currency": currency} | flags
    try:
        with connection.begin_nested():
            connection.execute(tenants.insert().values(row))
    except sa.exc.IntegrityError as error:
        if "tenants_slug_check" in str(error):
            told = "may hold lower-case letters, digits and hyphens, and begins with a letter or digit"
        else:
            told = "is taken: choose another"
        raise RefusedError(f"slug {slug!r} {told}") from None
    return row["id"]


def set_config(
    connection: sa.Connection,
    tenant_id: UUID,
    values: dict[str, Any],
    *,
    author: str,
    reason: str,
    valid_from: datetime,
) -> None:
    """Adds a version that replaces the whole configuration from `valid_from` on.

    Raises RefusedError for values that cannot stand, or when a version begins at that very instant.
    """
    payload = json.loads(parsed_config(values).model_dump_json(exclude_unset=True))
    try:
        with connection.begin_nested():
            connection.execute(
                config_versions.insert().values(
                    tenant_id=tenant_id, valid_from=valid_from, author=author, reason=reason, payload=payload
                )
            )
    except sa.exc.IntegrityError:
        raise RefusedError(
            f"a configuration version begins at {valid_from} already: choose another time"
        ) from None


def current_config(connection: sa.Connection, tenant_id: UUID) -> dict[str, Any]:
    """The newest version's payload as given, empty when there is none."""
    query = (
        sa.select(config_versions.c.payload)
        .where(config_versions.c.tenant_id == tenant_id)
        .order_by(config_versions.c.valid_from.desc())
        .limit(1)
    )
    return connection.execute(query).scalar() or {}
