"""`revenue-os tenant`: creating tenants, their configuration and settings, their people, their switches."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

import typer

from dagster_project.cli import ui

app = typer.Typer(help="Tenants: create, list, configure, switch.", no_args_is_help=True)

Slug = Annotated[str, typer.Argument(help="Slug or id.")]
Who = Annotated[
    str,
    typer.Option(
        "--as", help="Who does it: name or id of an approver or owner; operator for the platform's."
    ),
]
Owner = Annotated[
    str, typer.Option("--as", help="Who does it: an approver or owner; what lets more through, an owner.")
]
Why = Annotated[str, typer.Option("--why", "--reason", help="Why; kept for good.")]


@app.command()
def create(
    slug: Annotated[str, typer.Argument(help="Short name for commands and folders.")],
    name: Annotated[str, typer.Option(help="Name people read.")],
    currency: Annotated[str, typer.Option(help="ISO 4217 code of its money.")] = "USD",
    time_zone: Annotated[str, typer.Option(help="IANA time zone of its business day.")] = "UTC",
    as_json: ui.Json = False,
) -> None:
    """Add a tenant."""
    from kernel import tenancy

    with ui.connection() as connection:
        made = tenancy.create(connection, slug, name, currency)
        tenancy.set_config(
            connection, made, {"time_zone": time_zone, "reporting_currency": currency},
            author="revenue-os tenant create", reason="created", valid_from=datetime(1970, 1, 1, tzinfo=UTC),
        )  # fmt: skip
    ui.emit({"id": made, "slug": slug, "currency": currency, "time_zone": time_zone}, as_json)


@app.command()
def onboard(
    name: Annotated[str, typer.Option("--tenant", "-t", help="The name of the company.")],
    template: Annotated[
        str, typer.Option(help="starter, pro or firm: chart of accounts and settings.")
    ] = "starter",
    key: Annotated[str, typer.Option(help="What you know it by, where two have one name.")] = "",
    currency: Annotated[str, typer.Option(help="ISO 4217.")] = "USD",
    as_json: ui.Json = False,
) -> None:
    """A tenant whose books are ready: chart of accounts, bank accounts, an owner, and a token that is shown this once.

    Asked again for the same name and key it is found, and nothing is changed. Nothing is ever posted by itself at first.
    """
    from kernel.books import onboard as books
    from kernel.text import is_worded

    if not is_worded(name):
        ui.fail(f"{name!r} is no name of a company: give one with --tenant")
    with ui.connection() as connection:
        made = books.onboard(
            connection, template, name, external_key=key, at=datetime.now(UTC), currency=currency
        )
    ui.emit(made, as_json)


@app.command("list")
def list_tenants(as_json: ui.Json = False) -> None:
    """Every tenant, and whether it is switched on, asks the gates and carries out what it decides."""
    from kernel import tenancy

    with ui.connection() as connection:
        found = tenancy.listed(connection)
    if as_json:
        ui.emit(found, as_json)
        return
    rows = [
        {
            "slug": row.slug,
            "on": row.enabled,
            "gates": row.gates,
            "mode": row.mode,
            "since": f"{row.activated_at:%Y-%m-%d}" if row.activated_at else None,
        }
        for row in found
    ]
    # Commands take the slug: an id fits no terminal beside it.
    ui.emit(rows, as_json, title="Tenants (ids: --json)")


@app.command()
def config(
    tenant: Slug,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="field=value, several times; lists and objects as JSON. The rest stays."),
    ] = None,
    reason: Annotated[
        str, typer.Option("--why", "--reason", help="Why it changes; required with --set.")
    ] = "",
    author: Annotated[
        str, typer.Option("--as", "--author", help="Who changes it; required with --set.")
    ] = "",
    as_json: ui.Json = False,
) -> None:
    """Show the configuration, or add a version that changes some of its fields from now on."""
    from kernel import tenancy

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        values = tenancy.current_config(connection, found.id)
        if change:
            if not (reason and author):
                ui.fail("a change of configuration needs --as and --why: it is kept for good")
            values = values | dict(_pair(item) for item in change)
            tenancy.set_config(
                connection, found.id, values, author=author, reason=reason, valid_from=datetime.now(UTC)
            )
            _warn_of_restatement({_pair(item)[0] for item in change}, found.slug)
    told = tenancy.parsed_config(values)
    if as_json:
        ui.emit(told.model_dump(), as_json)
        return
    rows = [
        {"field": name, "value": value, "from": "set" if name in told.model_fields_set else "default"}
        for name, value in told.model_dump().items()
    ]
    ui.emit(rows, as_json, title=f"Configuration of {found.name}")


def _warn_of_restatement(changed: set[str], slug: str) -> None:
    """These fields are read from the newest version, so that the past is computed by them too."""
    restating = {"reporting_currency", "time_zone", "fiscal_year_start_month", "bookings_basis"} & changed
    if restating:
        also = ", and amounts of every day are converted anew" if "reporting_currency" in restating else ""
        ui.step(
            "Warning",
            f"{', '.join(sorted(restating))} counts for the past too{also}: compute the whole history again with"
            f" revenue-os metrics backfill --tenant {slug} --from FIRST --to LAST",
        )


@app.command()
def disable(tenant: Slug, who: Who, why: Why, as_json: ui.Json = False) -> None:
    """Emergency stop: nothing is decided or applied any more, what waits is aborted, an incident is recorded."""
    from kernel import members, tenancy
    from kernel.actions import emergency
    from kernel.decisions import switches

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        actor = switches.entitled(connection, found.id, who)
        stop = emergency.disable(connection, found.id, actor=actor, reason=why, at=datetime.now(UTC))
    left = [{"id": action_id, "what": sentence} for action_id, sentence in stop.revertible]
    told = {"tenant": found.slug, "incident": stop.incident_id, "aborted": len(stop.aborted),
            "being_settled": len(stop.in_flight)}  # fmt: skip
    if as_json:
        ui.emit(told | {"can_be_reverted": left}, as_json)
        return
    ui.emit(told | {"can_be_reverted": len(left)}, as_json)
    if left:
        ui.emit([row | {"id": str(row["id"])[:8]} for row in left], as_json, title="Still in force")
        person = "NAME" if who == members.OPERATOR else who
        command = ["revenue-os", "actions", "revert", str(left[0]["id"])[:8], "--tenant", found.slug]
        typer.echo(f"Take one back:  {shlex.join([*command, '--as', person, '--why', why])}")


@app.command()
def enable(tenant: Slug, who: Who, why: Why, as_json: ui.Json = False) -> None:
    """Switch decisions on; for thirty days every change needs a person's acknowledgment."""
    from kernel import tenancy
    from kernel.actions import emergency
    from kernel.decisions import switches

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        actor = switches.entitled(connection, found.id, who)
        emergency.enable(connection, found.id, actor=actor, reason=why, at=datetime.now(UTC))
    ui.emit({"tenant": found.slug, "enabled": True}, as_json)


@app.command()
def mode(
    tenant: Slug,
    to: Annotated[
        Literal["shadow", "enforce"],
        typer.Argument(help="shadow: decides and records only; enforce: what is agreed to is carried out."),
    ],
    who: Owner,
    why: Why,
    as_json: ui.Json = False,
) -> None:
    """Whether what is decided may be carried out; only an owner ends the shadow."""
    from kernel import tenancy
    from kernel.decisions import switches

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        speaks = switches.owner if to == "enforce" else switches.entitled
        actor = speaks(connection, found.id, who)
        switches.set_mode(connection, found.id, to, actor=actor, reason=why, at=datetime.now(UTC))
    ui.emit({"tenant": found.slug, "mode": to}, as_json)


@app.command()
def gates(
    tenant: Slug,
    to: Annotated[Literal["on", "off"], typer.Argument(help="Off: no gate holds anything back.")],
    who: Owner,
    why: Why,
    as_json: ui.Json = False,
) -> None:
    """Whether the CFO gates are asked; only an owner switches them off."""
    from kernel import tenancy
    from kernel.decisions import switches

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        speaks = switches.owner if to == "off" else switches.entitled
        actor = speaks(connection, found.id, who)
        switches.set_gates(connection, found.id, to == "on", actor=actor, reason=why, at=datetime.now(UTC))
    ui.emit({"tenant": found.slug, "gates": to == "on"}, as_json)


@app.command()
def member(
    tenant: Slug,
    add: Annotated[str | None, typer.Option(help="Name of a person to add, or whose role to change.")] = None,
    role: Annotated[str, typer.Option(help="owner, approver or member.")] = "member",
    as_json: ui.Json = False,
) -> None:
    """Who belongs to the tenant; approvers and owners may acknowledge actions."""
    from kernel import members, tenancy

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        if add:
            known = {person.name: person.user_id for person in members.of(connection, found.id)}
            members.add(connection, found.id, known.get(add) or uuid4(), add, role)
        people = [
            {"name": person.name, "role": person.role, "user_id": person.user_id}
            for person in members.of(connection, found.id)
        ]
    ui.emit(people, as_json, title=f"People of {found.name}")


@app.command()
def setting(
    tenant: Slug,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="subsystem.field=value, several times; values as JSON or text."),
    ] = None,
    who: Annotated[str, typer.Option("--as", help="Who sets it, as for disable; required with --set.")] = "",
    why: Annotated[str, typer.Option("--why", "--reason", help="Why; required with --set.")] = "",
    as_json: ui.Json = False,
) -> None:
    """How the tenant's subsystems are set: what actions may change, and people too, by the same rules."""
    from kernel import tenancy
    from kernel.decisions import settings, switches

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        if change:
            if not (who and why):
                ui.fail("a change of settings needs --as and --why: it is kept for good")
            actor = switches.entitled(connection, found.id, who)
        for item in change or ():
            subsystem, field, value = _assigned(item)
            settings.set_setting(
                connection, found.id, subsystem, field, value, actor=actor, reason=why, at=datetime.now(UTC)
            )
        rows = settings.all_settings(connection, found.id)
    ui.emit(rows, as_json, title=f"Settings of {found.name}")


def _assigned(item: str) -> tuple[str, str, Any]:
    name, _, text = item.partition("=")
    subsystem, dot, field = name.strip().partition(".")
    if not (dot and text):
        ui.fail(f"--set {item} is no subsystem.field=value")
    return subsystem, field, _json_or_text(text)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _pair(item: str) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    if not equals:
        ui.fail(f"--set {item} is no field=value")
    text = value.strip()
    if text.startswith(("[", "{")):
        try:
            return name.strip(), json.loads(text)
        except ValueError:
            ui.fail(f"--set {name.strip()} is neither plain text nor JSON: {text}")
    return name.strip(), None if text == "null" else text
