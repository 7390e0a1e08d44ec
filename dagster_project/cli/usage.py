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

from dagster_project.cli import asked, ui, usage_care, usage_doors, usage_meters, usage_month, usage_pack
from dagster_project.cli import usage_views as views

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
# Without a name their commands are of this group.
app.add_typer(usage_month.app)
app.add_typer(usage_pack.app)
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


@site_app.command("change")
def change_site(
    site: _SiteArgument,
    tenant: asked.Tenant,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="https://shop.example: browsers may send from it, and from no other. Several times."
        ),
    ] = None,
    no_origin: Annotated[bool, typer.Option("--no-origin", help="Browsers may send from nowhere.")] = False,
    user: _As = "",
    as_json: ui.Json = False,
) -> None:
    """Replace the origins that browsers may send from; doors know it within seconds."""
    from kernel.usage import sites

    if bool(origin) == no_origin:
        ui.fail("name every origin that browsers may send from with --origin, or none with --no-origin")
    origins = [_origin(each) for each in origin or ()]
    with asked.of(tenant) as (connection, found):
        actor = usage_doors.actor(connection, found.id, user)
        changed = sites.find(connection, found.id, site)
        sites.change_origins(connection, changed, origins, actor=actor, at=asked.now())
    ui.emit({"site": changed.public_id, "origins": origins}, as_json)


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
        str | None,
        typer.Option(
            "--from", help="2026-12-01 or 2026-12-01T09:00, in UTC as months are; now when left out."
        ),
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
        valid_from = asked.instant(begins, "UTC") if begins else now
        before = plans.plan_at(connection, found.id, of.id, valid_from)
        if before.id is None:
            changed = {"currency": found.default_currency} | changed
        terms = replace(before.terms, **changed)
        made = plans.set_plan(connection, found.id, of.id, terms, valid_from=valid_from, actor=actor, at=now)
    _emit_plan(plans.Plan(terms, made, valid_from), of.public_id, as_json)
    begins_at, ends_at = periods.bounds(periods.month_of(valid_from))
    if before.id is not None and valid_from > begins_at:
        ui.step(
            "Rates",
            f"from {ends_at:%Y-%m} on: {begins_at:%Y-%m} is limited by it from then, and invoiced by the plan before",
        )
    elif before.id is None:
        ui.step("Rates", f"{begins_at:%Y-%m} already, all of it: the site had no plan then")


@plan_app.command("show")
def show_plan(
    site: _SiteArgument,
    tenant: asked.Tenant,
    at: Annotated[
        str | None, typer.Option(help="As of this instant, such as 2026-12-01, in UTC; now when left out.")
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """The plan that limits a site, and what it costs."""
    from kernel.usage import plans, sites

    with asked.of(tenant) as (connection, found):
        of = sites.find(connection, found.id, site)
        when = asked.instant(at, "UTC") if at else asked.now()
        plan = plans.plan_at(connection, found.id, of.id, when)
    _emit_plan(plan, of.public_id, as_json)


@plan_app.command("list")
def list_plans(site: _SiteArgument, tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Every plan of a site, those that have not begun too, the newest first."""
    from kernel.usage import plans, sites

    with asked.of(tenant) as (connection, found):
        of = sites.find(connection, found.id, site)
        known = [_told(plan) for plan in plans.listed(connection, found.id, of.id)]
    rows = [
        {"id": str(told["id"])[: views.SHORTEST], "from": _minute(told["valid_from"]), "to": _minute(told["valid_to"]),
         "plan": told["plan_tier"], "limit": told["monthly_limit"], "base price": views.row(told)["base_price"]}
        for told in known
    ]  # fmt: skip
    ui.emit(known if as_json else rows, as_json, title=f"Plans of {of.public_id}, in UTC")


@plan_app.command("drop")
def drop_plan(
    site: _SiteArgument,
    plan: Annotated[str, typer.Argument(help="Its id as usage plan list shows it, or the beginning of it.")],
    tenant: asked.Tenant,
    user: _As = "",
    as_json: ui.Json = False,
) -> None:
    """Take a plan away that has not begun; the one before it goes on."""
    from kernel.usage import plans, sites

    with asked.of(tenant) as (connection, found):
        actor = usage_doors.actor(connection, found.id, user)
        of = sites.find(connection, found.id, site)
        known = [{"id": each.id} for each in plans.listed(connection, found.id, of.id)]
        plan_id = views.id_of(plan, known, "plan")
        plans.drop(connection, found.id, plan_id, actor=actor, at=asked.now())
    ui.emit({"site": of.public_id, "id": plan_id, "status": "dropped"}, as_json)


@app.command()
def used(
    tenant: asked.Tenant,
    month: Annotated[str | None, typer.Option(help="2026-12, in UTC; the present one when left out.")] = None,
    as_json: ui.Json = False,
) -> None:
    """How much of a month each site has used, what is left, and the overage and invoice that its pace leads to."""
    from kernel.usage import overview

    now = asked.now()
    asked_month = month or f"{now:%Y-%m}"
    with asked.of(tenant) as (connection, found):
        known = overview.month(connection, found.id, asked_month, now)
    rows = [views.without_limit(ui.plain(row), "limit", "remaining") for row in known]
    rows = rows if as_json else [views.used(row) for row in rows]
    ui.emit(rows, as_json, title=f"{asked_month}, by counters at {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC")


def _emit_plan(plan: Plan, site: str, as_json: bool) -> None:
    told = _told(plan)
    if not as_json:
        prices = [f"{last}: {views.money(price, plan.terms.currency)}" for last, price in _prices(plan)]
        told = views.row(told) | {"tiers": prices}
    ui.emit(told, as_json, title=f"Plan of {site}")


def _prices(plan: Plan) -> list[tuple[str, Decimal]]:
    return [(f"{tier.up_to}" if tier.up_to is not None else "rest", tier.per_1k) for tier in plan.terms.tiers]


def _minute(instant: datetime | None) -> str | None:
    return instant and f"{instant.astimezone(UTC):%Y-%m-%d %H:%M}"


def _told(plan: Plan) -> dict[str, Any]:
    tiers = [f"{last}:{price:f}" for last, price in _prices(plan)]
    since: datetime | None = plan.valid_from
    told = {"id": plan.id} | asdict(plan.terms)
    told |= {"tiers": tiers, "valid_from": since, "valid_to": plan.valid_to}
    return views.without_limit(told, "monthly_limit")


def _limit(text: str | None) -> int | None:
    from kernel.usage.plans import UNLIMITED

    if text is None:
        return None
    if text in (views.UNLIMITED, "-1"):
        return UNLIMITED
    if not (text.isascii() and text.isdecimal() and len(text) < len(str(UNLIMITED))):
        ui.fail(f"--limit {text!r} is no number of events: write one such as 1000, or {views.UNLIMITED}")
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
