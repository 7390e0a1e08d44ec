"""`revenue-os usage`: sites that send events, their write keys and plans, and how far their month is.

Taking events in stands in `usage_doors`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import typer

from dagster_project.cli import campaign_asked as asked
from dagster_project.cli import ui, usage_care, usage_doors, usage_meters, usage_month

if TYPE_CHECKING:
    from kernel.usage.plans import Plan, Tier

app = typer.Typer(help="Usage: sites, what they send, what it counts for.", no_args_is_help=True)
site_app = typer.Typer(help="Sites: what sends events.", no_args_is_help=True)
key_app = typer.Typer(help="Write keys: what a site proves itself by.", no_args_is_help=True)
plan_app = typer.Typer(
    help="Plans: how much of a month is accepted, and what it costs.", no_args_is_help=True
)
app.add_typer(site_app, name="site")
app.add_typer(key_app, name="key")
app.add_typer(plan_app, name="plan")
app.add_typer(usage_meters.app, name="meters")
app.command()(usage_doors.ingest)
app.command()(usage_doors.serve)
# Without a name its commands are of this group.
app.add_typer(usage_month.app)
app.command()(usage_care.marts)
app.command()(usage_care.watch)
app.command()(usage_care.buffer)
app.command()(usage_care.again)
app.command()(usage_care.recover)
app.command()(usage_care.archive)

_SiteArgument = Annotated[str, typer.Argument(help="Public id, id or name.")]
_As = Annotated[
    str,
    typer.Option(
        "--as",
        help="Who does it: name or id of an approver or owner, operator for the platform's; else REVENUE_OS_USER.",
    ),
]
_UNLIMITED = "unlimited"
_Price = Annotated[str | None, typer.Option(help="In units of the currency, such as 2.50.")]


@site_app.command("add")
def add_site(
    name: Annotated[str, typer.Argument(help="Name people read.")],
    tenant: asked.Tenant,
    public_id: Annotated[
        str | None, typer.Option(help="What payloads carry in s; one is made when left out.")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="https://shop.example: browsers may send from it. Several times.")
    ] = None,
    user: _As = "",
    as_json: ui.Json = False,
) -> None:
    """Add a site, and its first write key, which is shown this once."""
    from kernel.usage import sites

    origins = [_origin(each) for each in origin or ()]
    with asked.of(tenant) as (connection, found):
        actor = usage_doors.actor(connection, found.id, user)
        made = sites.make(connection, found.id, name, public_id=public_id, origins=origins)
        key = sites.make_key(connection, made, actor=actor, at=asked.now())
    ui.emit({"site": made.public_id, "id": made.id, "origins": origins, "write_key": key.token}, as_json)
    ui.step("Keep it", "the write key is not shown again")


@site_app.command("list")
def list_sites(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Every site of the tenant, closed ones too."""
    from kernel.usage import sites

    with asked.of(tenant) as (connection, found):
        rows = [
            {"site": site.public_id, "name": site.name, "status": site.status, "origins": list(site.origins), "id": site.id}
            for site in sites.of(connection, found.id)
        ]  # fmt: skip
    ui.emit(rows, as_json, title=f"Sites of {found.name}")


@site_app.command("close")
def close_site(site: _SiteArgument, tenant: asked.Tenant, user: _As = "", as_json: ui.Json = False) -> None:
    """Take nothing from a site any more, for good; what it sent stands and is invoiced."""
    from kernel.usage import sites

    with asked.of(tenant) as (connection, found):
        actor = usage_doors.actor(connection, found.id, user)
        closed = sites.find(connection, found.id, site)
        sites.close(connection, closed, actor=actor, at=asked.now())
    ui.emit({"site": closed.public_id, "status": "closed"}, as_json)


@key_app.command("add")
def add_key(site: _SiteArgument, tenant: asked.Tenant, user: _As = "", as_json: ui.Json = False) -> None:
    """A further write key, shown this once; those there are go on."""
    from kernel.usage import sites

    with asked.of(tenant) as (connection, found):
        actor = usage_doors.actor(connection, found.id, user)
        of = sites.find(connection, found.id, site)
        key = sites.make_key(connection, of, actor=actor, at=asked.now())
    ui.emit({"site": of.public_id, "id": key.id, "write_key": key.token}, as_json)
    ui.step("Keep it", "the write key is not shown again")


@key_app.command("list")
def list_keys(site: _SiteArgument, tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """The write keys of a site, revoked ones too; of a key no more is known than its end."""
    from kernel.usage import sites

    with asked.of(tenant) as (connection, found):
        known = sites.keys(connection, sites.find(connection, found.id, site))
    rows = [
        {"key": key.hint, "made": f"{key.created_at:%Y-%m-%d}", "revoked": key.revoked_at and f"{key.revoked_at:%Y-%m-%d}",
         "id": str(key.id)}
        for key in known
    ]  # fmt: skip
    ui.emit(known if as_json else rows, as_json, title=f"Write keys of {site}")


@key_app.command("revoke")
def revoke_key(
    key: Annotated[UUID, typer.Argument(help="Its id.")], tenant: asked.Tenant, user: _As = "", as_json: ui.Json = False
) -> None:  # fmt: skip
    """Take nothing with a key any more; doors that know it forget it within seconds."""
    from kernel.usage import sites

    with asked.of(tenant) as (connection, found):
        usage_doors.actor(connection, found.id, user)
        sites.revoke_key(connection, found.id, key, at=asked.now())
    ui.emit({"id": key, "status": "revoked"}, as_json)


@plan_app.command("set")
def set_plan(
    site: _SiteArgument,
    tenant: asked.Tenant,
    limit: Annotated[
        str | None, typer.Option(help="Events of a month; unlimited, or -1, for any number.")
    ] = None,
    soft: Annotated[
        bool | None, typer.Option("--soft/--hard", help="Whether more than the limit is taken, as overage.")
    ] = None,
    cap: Annotated[str | None, typer.Option(help="Of a soft limit: at most so many times the limit.")] = None,
    counts: Annotated[
        Literal["every_event", "event_kinds"] | None, typer.Option(help="What is billable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the plan is called.")] = None,
    base_price: _Price = None,
    overage_price: Annotated[str | None, typer.Option(help="For a thousand events beyond the limit.")] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            help="UP_TO:PRICE for a thousand, such as 10000:2.50; rest:2.00 the last. Several times."
        ),
    ] = None,
    minimum: _Price = None,
    currency: Annotated[str | None, typer.Option(help="ISO 4217 code; the tenant's when left out.")] = None,
    begins: Annotated[
        str | None, typer.Option("--from", help="2026-12-01T00:00Z; from now on when left out.")
    ] = None,
    user: _As = "",
    as_json: ui.Json = False,
) -> None:
    """Set a site's plan from an instant on. What is left out stays as it is then; the past stays in any case."""
    from kernel.money import CURRENCIES
    from kernel.usage import periods, plans, sites

    given = {
        "monthly_limit": _limit(limit), "soft_limit_enabled": soft, "billing_rule": counts, "plan_tier": name,
        "hard_cap_multiplier": _decimal(cap, "--cap", 1), "base_price": _decimal(base_price, "--base-price"),
        "overage_price_per_1k": _decimal(overage_price, "--overage-price"), "currency": currency,
        "tiers": _tiers(tier) if tier else None, "minimum": _decimal(minimum, "--minimum"),
    }  # fmt: skip
    changed: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if not changed:
        ui.fail("nothing of the plan is given: see revenue-os usage plan set --help")
    if currency is not None and currency not in CURRENCIES:
        ui.fail(f"--currency {currency!r} is no ISO 4217 code: use one such as USD")
    with asked.of(tenant) as (connection, found):
        actor, now = usage_doors.actor(connection, found.id, user), asked.now()
        of = sites.find(connection, found.id, site)
        valid_from = asked.instant(begins, found.time_zone) if begins else now
        before = plans.plan_at(connection, found.id, of.id, valid_from)
        if before.id is None:
            changed = {"currency": found.default_currency} | changed
        terms = replace(before.terms, **changed)
        plans.set_plan(connection, found.id, of.id, terms, valid_from=valid_from, actor=actor, at=now)
    ui.emit(_told(plans.Plan(terms, None, valid_from)), as_json, title=f"Plan of {of.public_id}")
    begins_at, ends_at = periods.bounds(periods.month_of(valid_from))
    if before.id is not None and valid_from > begins_at:
        ui.step(
            "Rates",
            f"from {ends_at:%Y-%m} on: {begins_at:%Y-%m} is limited by it from then, and invoiced by the plan before",
        )


@plan_app.command("show")
def show_plan(
    site: _SiteArgument,
    tenant: asked.Tenant,
    at: Annotated[str | None, typer.Option(help="As of this instant; now when left out.")] = None,
    as_json: ui.Json = False,
) -> None:
    """The plan that limits a site, and what it costs."""
    from kernel.usage import plans, sites

    with asked.of(tenant) as (connection, found):
        of = sites.find(connection, found.id, site)
        when = asked.instant(at, found.time_zone) if at else asked.now()
        plan = plans.plan_at(connection, found.id, of.id, when)
    ui.emit(_told(plan), as_json, title=f"Plan of {of.public_id}")


@app.command()
def used(
    tenant: asked.Tenant,
    month: Annotated[str | None, typer.Option(help="2026-12, in UTC; the present one when left out.")] = None,
    as_json: ui.Json = False,
) -> None:
    """How much of a month each site has used, what is left, and the overage that its pace leads to."""
    from kernel.usage import overview

    now = asked.now()
    asked_month = month or f"{now:%Y-%m}"
    with asked.of(tenant) as (connection, found):
        known = overview.month(connection, found.id, asked_month, now)
    rows = [_without_limit(ui.plain(row), "limit", "remaining") for row in known]
    ui.emit(rows, as_json, title=f"{asked_month}, by counters at {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


def _told(plan: Plan) -> dict[str, Any]:
    tiers = [
        f"{tier.up_to if tier.up_to is not None else 'rest'}:{tier.per_1k:f}" for tier in plan.terms.tiers
    ]
    since: datetime | None = plan.valid_from
    told = asdict(plan.terms) | {"tiers": tiers, "valid_from": since, "valid_to": plan.valid_to}
    return _without_limit(told, "monthly_limit")


def _without_limit(told: dict[str, Any], limit: str, *more: str) -> dict[str, Any]:
    """With the word in place of a number that stands for no limit, and of what is left of it."""
    from kernel.usage.plans import UNLIMITED

    if told[limit] != UNLIMITED:
        return told
    return told | dict.fromkeys((limit, *more), _UNLIMITED)


def _limit(text: str | None) -> int | None:
    from kernel.usage.plans import UNLIMITED

    if text is None:
        return None
    if text in (_UNLIMITED, "-1"):
        return UNLIMITED
    if not (text.isascii() and text.isdecimal() and len(text) < len(str(UNLIMITED))):
        ui.fail(f"--limit {text!r} is no number of events: write one such as 1000, or {_UNLIMITED}")
    return int(text)


def _origin(text: str) -> str:
    """As a browser names it."""
    try:
        found = urlsplit(text)
        port = f":{found.port}" if found.port else ""
        same = f"{found.scheme}://{found.hostname}{port}"
    except ValueError:
        same = ""
    if same != text or not text.isascii() or not text.startswith(("https://", "http://")):
        ui.fail(
            f"--origin {text!r} is no origin: write it as https://shop.example, in small letters, without a path"
        )
    return same


def _decimal(text: str | None, option: str, least: int = 0) -> Decimal | None:
    if text is None:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or not least <= number <= 10**12:
        ui.fail(f"{option} {text!r} is no number from {least} on: write it as 2.50")
    return number


def _tiers(texts: list[str]) -> tuple[Tier, ...]:
    from kernel.usage.plans import Tier

    made, above = [], 0
    for place, text in enumerate(texts):
        up_to, colon, price = text.partition(":")
        is_last = up_to == "rest"
        if not colon or not (is_last or (up_to.isdecimal() and up_to.isascii() and int(up_to) > above)):
            ui.fail(
                f"--tier {text!r} is no tier behind the one before it: write 10000:2.50, then 50000:2.20, then rest:2.00"
            )
        if is_last != (place == len(texts) - 1):
            ui.fail("--tier rest:PRICE prices what is behind all others: give it last, and give it")
        above = above if is_last else int(up_to)
        per_1k = _decimal(price, f"--tier {up_to}:")
        assert per_1k is not None
        made.append(Tier(None if is_last else above, per_1k))
    return tuple(made)
