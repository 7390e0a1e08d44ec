"""Tenants: acting for one in a transaction, finding one, creating one, its configuration.

What of a configuration reaches the kernel takes its words from the contract of the kernel, and ranges that are not
wider. Switching a tenant on and off stands in `kernel.actions.emergency`, its other switches in
`kernel.decisions.switches`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from uuid import UUID, uuid4
from zoneinfo import available_timezones

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kernel.decisions.contract import ActionType, Lever
from kernel.errors import RefusedError
from kernel.money import CURRENCIES
from kernel.text import UNSEEN, is_worded
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


@dataclass(frozen=True, slots=True)
class Listed:
    """A tenant with its switches. `activated_at` is when it was last switched on, None when that is not known."""

    slug: str
    name: str
    currency: str
    enabled: bool
    gates: bool
    mode: Literal["enforce", "shadow"]
    activated_at: datetime | None
    id: UUID


def service(connection: sa.Connection, tenant_id: UUID | None = None) -> None:
    """Acts as the pipeline until the transaction ends; pinned to a tenant when one is given."""
    _act_as(connection, rls.SERVICE, tenant_id)


def member(connection: sa.Connection, tenant_id: UUID) -> None:
    """Acts as a user of the tenant until the transaction ends: reads its rows, writes nothing."""
    _act_as(connection, rls.MEMBER, tenant_id)


def _act_as(connection: sa.Connection, role: str, tenant_id: UUID | None) -> None:
    act = sa.text("select set_config('role', :role, true), set_config('app.tenant_id', :tenant, true)")
    connection.execute(act, {"role": role, "tenant": str(tenant_id or "")})


# Beyond these a number is a slip of the keyboard, and arithmetic to the cent is no longer exact.
_Amount = Annotated[Decimal, Field(ge=0, le=10**15, decimal_places=4)]
_Months = Annotated[Decimal, Field(ge=0, le=1_200, decimal_places=4)]
_Percent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2)]


class Config(BaseModel):
    """A tenant's effective configuration: targets, guardrails, calendar. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reporting_currency: str | None = None
    time_zone: str = "UTC"
    fiscal_year_start_month: int = Field(1, ge=1, le=12)
    bookings_basis: Literal["acv", "tcv"] = "acv"
    follow_up_sla_hours: Decimal = Field(Decimal(24), ge=1, le=168, decimal_places=4)
    target_pipeline: _Amount = Decimal(500_000)
    target_bookings: _Amount = Decimal(150_000)
    arr_target: _Amount | None = None
    payback_target_months: _Months = Field(Decimal(12), gt=0)
    payback_tolerance_months: _Months = Decimal(3)
    margin_floor_pct: _Percent = Decimal(50)
    runway_threshold_months: _Months = Decimal(6)
    max_cac: _Amount = Decimal(2_500)
    max_cac_by_segment: dict[str, _Amount] = Field(default_factory=dict)
    cash_risk_tolerance: Literal["low", "medium", "high"] = "medium"
    monthly_budget_cap: _Amount = Decimal(50_000)
    max_daily_spend: _Amount | None = None
    experiment_exposure_pct: _Percent = Decimal(20)
    allowed_levers: list[Lever] = Field(default_factory=lambda: list(get_args(Lever)), min_length=1)
    blocked_actions: list[ActionType] = Field(default_factory=list)

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
        # The place within a list or an object is told by the value.
        raise RefusedError(f"configuration field {first['loc'][0]}: {_told(first)}") from None


def _told(error: Any) -> str:
    """What is wrong with the field, and the word that was probably meant."""
    if error["type"] == "extra_forbidden":
        return f"is unknown{_meant(error['loc'][0], Config.model_fields)}"
    if error["type"] == "literal_error":
        words = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        asked = str(error["input"])
        return f"{asked!r} is unknown{_meant(asked, words) or ': choose among ' + ', '.join(words)}"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    told = re.sub(r"^(Decimal i|I)nput should ", "must ", error["msg"])
    return f"{told}, not {error['input']!r}" if told.startswith("must ") else told


def _meant(asked: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(asked, list(words), n=1)
    return f": did you mean {near[0]}?" if near else ""


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


_LIST = sa.text(
    """
    select slug, name, default_currency as currency, revenue_os_enabled as enabled, cfo_expansion_enabled as gates,
        -- A mode nobody knows carries nothing out.
        case when coalesce(config ->> 'kernel_mode', 'enforce') = 'enforce' then 'enforce' else 'shadow' end as mode,
        revenue_os_activated_at as activated_at, id
    from spine.tenants
    order by slug
    """
)


def listed(connection: sa.Connection) -> list[Listed]:
    """Every tenant by slug, for people to see how it is switched."""
    return [Listed(**row._mapping) for row in connection.execute(_LIST)]


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
    if UNSEEN.search(name) or not is_worded(name):
        raise RefusedError(f"name {name!r} has characters that cannot be seen: write it in plain text")
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
