"""What a tenant sets before it can launch: accounts, rules of channels, suppressions, consents, content, approval."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from dagster_project.cli import asked, ui
from dagster_project.cli import campaign_views as told

Addresses = Annotated[list[str] | None, typer.Argument(help="E-mail addresses or numbers.")]
File = Annotated[Path | None, typer.Option(help="More of them, one a line.", exists=True, dir_okay=False)]
Source = Annotated[str, typer.Option(help="Who said so, and where it can be read.")]


def list_campaigns(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Campaigns of a tenant, and for which channels they have content."""
    from kernel.delivery import views

    with asked.of(tenant) as (connection, found):
        rows = views.campaigns(connection, found.id)
    ui.emit(rows if as_json else [told.campaign(row) for row in rows], as_json, title="Campaigns (UTC)")


def accounts(tenant: asked.Tenant, as_json: ui.Json = False) -> None:
    """Accounts with providers, and which of them are stopped."""
    from kernel.delivery import views

    with asked.of(tenant) as (connection, found):
        rows = views.accounts(connection, found.id)
        switches = views.switches(connection, found.id)
    if as_json:
        ui.emit([_with(row, switches) for row in rows], as_json)
        return
    ui.emit([told.account(row) for row in rows], as_json, title="Provider accounts")
    _tell_switches(switches)


def account(
    name: Annotated[str, typer.Argument(help="Of the account.")],
    tenant: asked.Tenant,
    channel: Annotated[str | None, typer.Option(help="email, sms or voice.")] = None,
    provider: Annotated[str | None, typer.Option(help="smtp, resend, twilio, vapi, webhook, file…")] = None,
    sender: Annotated[str | None, typer.Option(help="The address or number that recipients see.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of its configuration, several times; key= takes one away."),
    ] = None,
    secret_env: Annotated[
        str | None, typer.Option(help="The environment variable with the secret; it is stored nowhere.")
    ] = None,
    price: Annotated[
        str | None, typer.Option(help="Of one message or call, as 0.0004 EUR; none takes it away.")
    ] = None,
    connect: Annotated[
        bool | None, typer.Option("--connect/--disconnect", help="Let campaigns use it, or not.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="The kill switch: nothing goes through it.")] = False,
    start: Annotated[bool, typer.Option("--start", help="Takes the stop back.")] = False,
    why: Annotated[str, typer.Option("--why", help="Why; with a change, a stop or a start.")] = "",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Show an account, add or change it, or stop everything that goes through it."""
    from kernel.delivery import control, views
    from kernel.errors import RefusedError

    if stop and start:
        ui.fail("--stop and --start contradict each other: give one")
    given = {"channel": channel, "provider": provider, "sender": sender, "secret_env": secret_env,
             "is_connected": connect}  # fmt: skip
    # What is given empty is taken away.
    changes = {key: None if value == "" else value for key, value in given.items() if value is not None}
    with asked.of(tenant) as (connection, found):
        known = {row.name: row for row in views.accounts(connection, found.id)}
        if changes or change or price or stop or start:
            who = asked.speaker(connection, found.id, user)
            if changes or change or price:
                config = _changed(known[name].config if name in known else {}, change or [])
                _store(
                    connection, found.id, name, known.get(name), changes | _price(price) | {"config": config}
                )
            if stop:
                control.stop_account(connection, found.id, name, actor=who, reason=why, at=asked.now())
            if start:
                control.start_account(connection, found.id, name, actor=who, reason=why, at=asked.now())
            _record(connection, found.id, who, why, {"account": name, "stop": stop, "start": start}
                    | changes | {"set": change or [], "price": price})  # fmt: skip
        elif name not in known:
            raise RefusedError(
                f"the tenant has no provider account {name!r}: see revenue-os campaign accounts -t TENANT"
            )
        (row,) = [row for row in views.accounts(connection, found.id) if row.name == name]
        wrong = asked.problems(row)
        switches = [each for each in views.switches(connection, found.id) if each.account == name]
    if as_json:
        ui.emit(_with(row, switches) | {"problems": wrong}, as_json)
        return
    shown = told.account(row) | {
        "price": told.price(row), "config": json.dumps(row.config) if row.config else None, "secret in": row.secret_env,
        "problems": wrong,
    }  # fmt: skip
    ui.emit(shown, as_json)
    _tell_switches(switches)


def policy(
    tenant: asked.Tenant,
    channel: Annotated[str, typer.Argument(help="email, sms or voice.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="rule=value, several times; none takes a cap away.")
    ] = None,
    why: Annotated[str, typer.Option("--why", help="Why it changes; with --set.")] = "",
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Show or change the rules of a channel: caps, quiet hours, consent, unsubscribing."""
    from kernel.delivery import setup, views

    with asked.of(tenant) as (connection, found):
        if change:
            who = asked.speaker(connection, found.id, user)
            rules = dict(_rule(each) for each in change)
            setup.policy(connection, found.id, channel, **rules)
            _record(connection, found.id, who, why, {"channel": channel, "set": change})
        setup.workspace(connection, found.id)
        rows = {row.channel: row for row in views.policies(connection, found.id)}
    if channel not in rows:
        ui.fail(f"channel {channel!r} cannot be sent on: use {', '.join(rows)}")
    ui.emit(rows[channel] if as_json else told.policy(rows[channel]), as_json, title=f"Rules of {channel}")


def suppress(
    tenant: asked.Tenant,
    source: Source,
    address: Addresses = None,
    file: File = None,
    reason: Annotated[
        str, typer.Option(help="opt_out, bounce, complaint, do_not_call or manual.")
    ] = "opt_out",
    channel: Annotated[str, typer.Option(help="email, sms, voice, or all.")] = "all",
    as_json: ui.Json = False,
) -> None:
    """Never contact these people again, also not with what is queued already."""
    from kernel.delivery import setup

    given = asked.addresses(address, file)
    with asked.of(tenant) as (connection, found):
        new = setup.suppress(connection, found.id, given, reason=reason, source=source, channel=channel)
    ui.emit({"given": len(given), "new": new}, as_json)


def consent(
    tenant: asked.Tenant,
    channel: Annotated[str, typer.Option(help="email, sms or voice.")],
    source: Source,
    address: Addresses = None,
    file: File = None,
    basis: Annotated[str, typer.Option(help="consent, contract or legitimate_interest.")] = "consent",
    as_json: ui.Json = False,
) -> None:
    """Keep on which basis these people are contacted."""
    from kernel.delivery import setup

    given = asked.addresses(address, file)
    with asked.of(tenant) as (connection, found):
        kept = setup.consent(
            connection, found.id, given, channel=channel, basis=basis, source=source, at=asked.now()
        )
    ui.emit({"given": len(given), "kept": kept}, as_json)


def write(
    campaign: asked.Campaign,
    tenant: asked.Tenant,
    account: Annotated[str, typer.Option(help="The provider account that sends it.")],
    body: Annotated[str, typer.Option(help="What recipients read.")] = "",
    body_file: Annotated[
        Path | None, typer.Option(help="A file with it, text or HTML.", exists=True, dir_okay=False)
    ] = None,
    plain_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the plain text beside HTML; made of the HTML when left out.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    subject: Annotated[str, typer.Option(help="Of an e-mail.")] = "",
    step: Annotated[int, typer.Option(help="Of a sequence of messages to the same people.", min=1)] = 1,
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Store a new version of what a campaign says; somebody else approves it."""
    from kernel.delivery import contents, views

    if bool(body) == bool(body_file):
        ui.fail("give the text with --body, or a file with --body-file: one of both")
    text = asked.text_of(body_file) if body_file else body
    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user, asked.ANYBODY)
        campaign_id = views.find(connection, found.id, "campaign", campaign)
        made = contents.write(
            connection,
            found.id,
            campaign_id,
            account=account,
            body=text,
            plain_body=asked.text_of(plain_file) if plain_file else None,
            subject=subject,
            step=step,
            author=who,
        )
        stored = views.content(connection, found.id, made)
    named = {"id": stored.id, "channel": stored.channel, "step": stored.step, "version": stored.version,
             "hash": stored.content_hash}  # fmt: skip
    ui.emit(named, as_json)
    ui.step("Next", f"revenue-os campaign preview {told.short(campaign_id)} -t {found.slug}")


def approve(
    content: Annotated[str, typer.Argument(help="Id of the content, or its first 8 characters.")],
    tenant: asked.Tenant,
    content_hash: Annotated[
        str, typer.Option("--hash", help=f"Of what preview showed, or its first {asked.HASH_DIGITS} digits.")
    ],
    user: asked.As = "",
    as_json: ui.Json = False,
) -> None:
    """Agree to exactly what was shown under the hash, for 72 hours. Not to one's own text."""
    from kernel.delivery import contents, views

    with asked.of(tenant) as (connection, found):
        who = asked.speaker(connection, found.id, user)
        stored = views.content(connection, found.id, views.find(connection, found.id, "content", content))
        seen = asked.whole_hash(stored.content_hash, content_hash)
        until = contents.approve(connection, found.id, stored.id, seen, approver=who, at=asked.now())
    shown = until if as_json else f"{told.at(until)} UTC"
    ui.emit({"id": stored.id, "version": stored.version, "approved_until": shown}, as_json)


def _store(connection: Any, tenant_id: Any, name: str, known: Any, changes: dict[str, Any]) -> None:
    from kernel.delivery import setup
    from kernel.delivery.providers import registry
    from models.delivery import PROVIDERS

    kept = {} if known is None else {
        key: getattr(known, key) for key in (
            "channel", "provider", "sender", "secret_env", "is_connected", "unit_price", "price_currency"
        )
    }  # fmt: skip
    values = kept | changes
    missing = [f"--{key}" for key in ("channel", "provider") if not values.get(key)]
    if missing:
        ui.fail(f"account {name!r} is new: say {' and '.join(missing)}")
    if values["provider"] not in PROVIDERS:
        ui.fail(f"provider {values['provider']!r} is unknown: use {', '.join(PROVIDERS)}")
    if values["channel"] not in registry.PROVIDERS[values["provider"]].channels:
        ui.fail(asked.no_channel(values["provider"], values["channel"]))
    known_keys = registry.PROVIDERS[values["provider"]].Config.model_fields
    if strange := sorted(values["config"].keys() - known_keys):
        ui.fail(asked.no_key(values["provider"], strange[0]))
    setup.account(connection, tenant_id, name, **values)
    if values.get("is_connected"):
        from kernel.delivery import views

        (row,) = [row for row in views.accounts(connection, tenant_id) if row.name == name]
        if wrong := asked.problems(row):
            ui.fail(f"not connected: {'; '.join(wrong)}")


def _changed(config: Mapping[str, Any], change: list[str]) -> dict[str, Any]:
    made = dict(config)
    for each in change:
        key, value = _pair(each)
        try:
            made[key] = json.loads(value)
        except ValueError:
            made[key] = value
        if not value:
            del made[key]
    return made


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        ui.fail(f"--set {text!r} is no key=value: write it as folder=/var/mail")
    return key.strip(), value.strip()


def _cap(value: str) -> int | None:
    return None if value == "none" else int(value)


def _days(value: str) -> int:
    if not 1 <= int(value) <= 3650:
        raise ValueError
    return int(value)


def _time(value: str) -> time | None:
    return None if value == "none" else time.fromisoformat(value)


def _switch(value: str) -> bool:
    return {"true": True, "yes": True, "false": False, "no": False}[value.lower()]


_RULES: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "hourly_cap": (_cap, "a number, or none"),
    "daily_cap": (_cap, "a number, or none"),
    "person_cap": (_cap, "a number, or none"),
    "person_cap_days": (_days, "a number of days from 1 to 3650"),
    "needs_consent": (_switch, "true or false"),
    "needs_unsubscribe": (_switch, "true or false"),
    "quiet_from": (_time, "a time as 21:00, or none"),
    "quiet_until": (_time, "a time as 08:00, or none"),
    "time_zone": (str, "a name such as Europe/Berlin"),
}


def _rule(text: str) -> tuple[str, Any]:
    name, value = _pair(text)
    if name not in _RULES:
        ui.fail(f"{name} is no rule of a channel: use {', '.join(_RULES)}")
    read, wanted = _RULES[name]
    try:
        return name, read(value)
    except (ValueError, KeyError):
        ui.fail(f"{name}={value} cannot stand: give {wanted}")


def _record(connection: Any, tenant_id: Any, who: str, why: str, detail: dict[str, Any]) -> None:
    from kernel.decisions import switches

    switches.record(connection, tenant_id, detail, actor=who, reason=why, at=asked.now())


def _with(row: Any, switches: list[Any]) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(row) | {"switches": [asdict(each) for each in switches if each.account == row.name]}


def _tell_switches(switches: list[Any]) -> None:
    if switches:
        ui.emit([told.switch(each) for each in switches], False, title="Stops and starts (UTC)")


def _price(text: str | None) -> dict[str, Any]:
    if text is None or text == "none":
        return {} if text is None else {"unit_price": None, "price_currency": None}
    number, _, currency = text.strip().partition(" ")
    try:
        return {"unit_price": Decimal(number), "price_currency": currency.strip() or None}
    except InvalidOperation:
        ui.fail(f"--price {text!r} is no price: write it as 0.0004 EUR, or none")
