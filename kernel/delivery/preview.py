"""What a launch would do: to whom, at what cost, by when, beside whom. Nothing is sent, and nothing is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import contents, holding, launch, pace
from kernel.delivery.providers.base import Message
from models.statements import statements

SAMPLES = 3  # of rendered messages
LATELY = timedelta(days=7)  # how far back paces are measured, and other campaigns still matter
_MOST_ATTEMPTS = 20_000  # of the tenant that a pace is measured by
_FEWEST_PEOPLE = 50  # of whom a pace is one
_MOMENT = 30.0  # seconds between two attempts that still were work; a longer wait was something else


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that has to hold before a launch; `message` says what to do when it does not."""

    id: str
    name: str
    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Cost:
    """Of everybody who would be sent to, at the account's price for one message; None where no price is known."""

    expected: Decimal | None
    unit_price: Decimal | None
    currency: str | None
    told: str


@dataclass(frozen=True, slots=True)
class Window:
    """A cap in its hour or day (UTC) of now. `takes` of the run's units fit in, `remains` is what is left after them."""

    span: str
    limit: int
    used: int
    takes: int
    remains: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """When the last message would have gone, and what that is computed from; None when nothing is known of the pace.

    `per_hour` is the measured pace and `measured` of how many people; `ahead` is what other runs send before.
    `good_until` is when what is left expires, with the approval or the run.
    """

    finishes_at: datetime | None
    told: str
    per_hour: int | None
    measured: int
    ahead: int
    good_until: datetime | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another campaign that goes on or ended lately, and reaches the same people: how many, and of how many it still will."""

    campaign_id: UUID
    campaign: str
    channel: str
    people: int
    to_come: int
    last_reached_at: datetime | None


@dataclass(frozen=True, slots=True)
class PersonCap:
    """`excluded` have had as many messages as the cap allows; `at_risk` have when everything queued for them has gone."""

    limit: int
    days: int
    excluded: int
    at_risk: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a launch would do now, and nothing of it done.

    `excluded` counts people by reason; those without a usable address of their own are not intended, all others are
    listed as skipped. `quota` is empty without a cap, `person_cap` None. `starts_at` is when the first message may go.
    """

    requirements: tuple[Requirement, ...]
    channel: str | None
    content_id: UUID | None = None
    content_hash: str | None = None
    version: int | None = None
    audience: int = 0
    included: int = 0
    excluded: Mapping[str, int] | None = None
    starts_at: datetime | None = None
    cost: Cost | None = None
    quota: tuple[Window, ...] = ()
    forecast: Forecast | None = None
    conflicts: tuple[Conflict, ...] = ()
    person_cap: PersonCap | None = None
    samples: tuple[Message, ...] = ()

    @property
    def is_ready(self) -> bool:
        return all(requirement.passed for requirement in self.requirements) and self.included > 0


def preview(
    connection: sa.Connection,
    tenant_id: UUID,
    campaign_id: UUID,
    *,
    at: datetime,
    problems: launch.Problems,
    channel: str | None = None,
    step: int | None = None,
    scheduled_for: datetime | None = None,
    expires_at: datetime | None = None,
) -> Preview:
    """Of the newest content of the campaign's step; without content only what stands in the way."""
    tenancy.service(connection, tenant_id)
    checked = launch.prerequisites(connection, tenant_id, campaign_id, channel, step, at)
    requirements = [
        Requirement(each["id"], each["name"], each["pass"], each["message"])
        for each in checked["requirements"]
    ]
    if checked["content_id"] is None:
        return Preview(tuple(requirements), checked["channel"])
    row = launch.content(connection, tenant_id, UUID(checked["content_id"]))
    requirements += [
        Requirement("credentials" if "secret" in why else "account", "Account", False, why)
        for why in problems(row)
    ]
    untimely = launch.untimely(row, at, scheduled_for, expires_at)
    requirements.append(Requirement("time", "Time", not untimely, "; ".join(untimely)))
    reached = _audience(connection, tenant_id, row, at)
    counted: dict[str, int] = dict(reached.counts)
    included = counted.pop("", 0)
    starts_at = max(scheduled_for or at, at)
    starts_at = holding.quiet_until(row, starts_at) or starts_at
    used = _used(connection, tenant_id, row, at)
    content = contents.Content.of(row)
    return Preview(
        requirements=tuple(requirements), channel=row.channel, content_id=row.content_id,
        content_hash=row.content_hash, version=row.version, audience=included + sum(counted.values()),
        included=included, excluded=counted, starts_at=starts_at, cost=_cost(row, included),
        quota=_quota(row, used, included), forecast=_forecast(connection, tenant_id, row, at, starts_at, included, used, expires_at),
        conflicts=tuple(_conflict(each) for each in reached.conflicts),
        person_cap=None if row.person_cap is None else PersonCap(
            row.person_cap, row.person_cap_days, counted.get("person_cap", 0), reached.capped
        ),
        samples=tuple(
            contents.rendered(content, "preview", address, variables) for address, variables in reached.samples
        ),
    )  # fmt: skip


def _audience(connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], at: datetime) -> sa.Row[Any]:
    given = {
        "tenant_id": tenant_id, "content_id": row.content_id, "campaign_id": row.campaign_id, "at": at,
        "since": at - LATELY, "samples": SAMPLES, "person_cap": row.person_cap, "person_cap_days": row.person_cap_days or 0,
    }  # fmt: skip
    connection.execute(_sql("joins"), {"wanted": "off"})
    found = connection.execute(_sql("audience"), given).one()
    connection.execute(_sql("joins"), {"wanted": "on"})
    return found


def _used(connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], at: datetime) -> dict[str, int]:
    of = {"tenant_id": tenant_id, "workspace_id": row.workspace_id, "channel": row.channel, "at": at}
    return {each.span: each.used for each in connection.execute(_sql("used"), of)}


def _cost(row: sa.Row[Any], people: int) -> Cost:
    if row.unit_price is None:
        told = f"unknown: account {row.name} has no price, see revenue-os campaign account --price"
        return Cost(None, None, None, told)
    expected = row.unit_price * people
    told = f"{people} at {row.unit_price} {row.price_currency}"
    return Cost(expected, row.unit_price, row.price_currency, told)


def _quota(row: sa.Row[Any], used: Mapping[str, int], people: int) -> tuple[Window, ...]:
    caps = (("hour", row.hourly_cap), ("day", row.daily_cap))
    left = {span: max(cap - used.get(span, 0), 0) for span, cap in caps if cap is not None}
    takes = min([people, *left.values()])
    return tuple(
        Window(span, cap, used.get(span, 0), takes, left[span] - takes) for span, cap in caps if cap is not None
    )  # fmt: skip


def _forecast(
    connection: sa.Connection,
    tenant_id: UUID,
    row: sa.Row[Any],
    at: datetime,
    starts_at: datetime,
    people: int,
    used: dict[str, int],
    expires_at: datetime | None,
) -> Forecast:
    of = {"tenant_id": tenant_id, "workspace_id": row.workspace_id, "channel": row.channel}
    ahead = connection.execute(_sql("ahead"), of | {"at": starts_at}).scalar_one()
    known = _pace(connection, tenant_id, row, at)
    is_capped = row.hourly_cap is not None or row.daily_cap is not None
    rules = pace.Rules(row.hourly_cap, row.daily_cap, row.quiet_from, row.quiet_until, row.time_zone)
    good_until = min((each for each in (row.approved_until, expires_at) if each is not None), default=None)
    per_second, measured = known or (None, 0)
    per_hour = None if per_second is None else round(per_second * 3600)
    if known is None and not is_capped:
        return Forecast(None, f"unknown: {_unmeasured(row)}", None, 0, ahead, good_until)
    ends = pace.finish(people + ahead, starts_at, rules, per_second=per_second, used=used, asked_at=at)
    told = [
        f"{per_hour} an hour, measured of {measured} people through account {row.name} in the last {LATELY.days} days"
    ]
    if known is None:
        told = [f"the caps alone, at the earliest: {_unmeasured(row)}"]
    told += [
        f"a cap of {cap} per {span}" for span, cap in (("hour", row.hourly_cap), ("day", row.daily_cap)) if cap is not None
    ]  # fmt: skip
    if row.quiet_from is not None:
        told.append(f"quiet from {row.quiet_from:%H:%M} to {row.quiet_until:%H:%M} {row.time_zone}")
    if ahead:
        told.append(f"{ahead} of other runs before")
    if ends is None:
        told.insert(0, "more than a year away")
    return Forecast(ends, "; ".join(told), per_hour, measured, ahead, good_until)


def _unmeasured(row: sa.Row[Any]) -> str:
    return f"not measured, account {row.name} has sent to fewer than {_FEWEST_PEOPLE} people in {LATELY.days} days"


def _pace(
    connection: sa.Connection, tenant_id: UUID, row: sa.Row[Any], at: datetime
) -> tuple[float, int] | None:
    """People a second through the account, and of how many that is; None while too few have been sent to."""
    # Ids of attempts begin with their time, in milliseconds.
    since = UUID(int=int((at - LATELY).timestamp() * 1000) << 80)
    of = {"tenant_id": tenant_id, "account_id": row.id}
    given = {"since": since, "most": _MOST_ATTEMPTS, "moment": _MOMENT}
    found = connection.execute(_sql("pace"), of | given).one()
    if found.people < _FEWEST_PEOPLE or found.seconds <= 0:
        return None
    return float(found.people / found.seconds), found.people


def _conflict(told: Mapping[str, Any]) -> Conflict:
    reached = told["last_reached_at"]
    return Conflict(
        UUID(told["campaign_id"]), told["campaign"], told["channel"], told["people"], told["to_come"],
        None if reached is None else datetime.fromisoformat(reached),
    )  # fmt: skip


def _sql(name: str) -> sa.TextClause:
    return statements("delivery_preview")[name]
