"""`revenue-os tenant`: creating tenants and setting their configuration."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import typer

from dagster_project.cli import ui

app = typer.Typer(help="Tenants: create, list, configure.", no_args_is_help=True)


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


@app.command("list")
def list_tenants(as_json: ui.Json = False) -> None:
    """Every tenant."""
    from kernel import tenancy

    with ui.connection() as connection:
        found = [asdict(tenant) for tenant in tenancy.all_tenants(connection)]
    # The id last: it is the widest, and the slug is what commands take.
    ui.emit([row | {"id": row.pop("id")} for row in found], as_json, title="Tenants")


@app.command()
def config(
    tenant: Annotated[str, typer.Argument(help="Slug or id.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="field=value, several times; lists and objects as JSON. The rest stays."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why it changes; required with --set.")] = "",
    author: Annotated[str, typer.Option(help="Who changes it; required with --set.")] = "",
    as_json: ui.Json = False,
) -> None:
    """Show the configuration, or add a version that changes some of its fields from now on."""
    from kernel import tenancy

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        values = tenancy.current_config(connection, found.id)
        if change:
            if not (reason and author):
                ui.fail("a change of configuration needs --reason and --author: it is kept for good")
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


Who = Annotated[str, typer.Option("--as", help="Who does it; kept for good.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept for good.")]


@app.command()
def disable(
    tenant: Annotated[str, typer.Argument(help="Slug or id.")], who: Who, why: Why, as_json: ui.Json = False
) -> None:
    """Emergency stop: nothing is decided or applied any more, what waits is aborted, an incident is recorded."""
    from kernel import tenancy
    from kernel.actions import emergency

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        stop = emergency.disable(connection, found.id, actor=who, reason=why, at=datetime.now(UTC))
    ui.emit(
        {"tenant": found.slug, "incident": stop.incident_id, "aborted": len(stop.aborted),
         "being_settled": len(stop.in_flight), "can_be_reverted": [str(each) for each in stop.revertible]},
        as_json,
    )  # fmt: skip
    if stop.revertible and not as_json:
        typer.echo(f"Take one back:  revenue-os actions revert ID --tenant {found.slug} --as {who}")


@app.command()
def enable(
    tenant: Annotated[str, typer.Argument(help="Slug or id.")], who: Who, why: Why, as_json: ui.Json = False
) -> None:
    """Switch decisions on; for thirty days every change needs a person's acknowledgment."""
    from kernel import tenancy
    from kernel.actions import emergency

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        emergency.enable(connection, found.id, actor=who, reason=why, at=datetime.now(UTC))
    ui.emit({"tenant": found.slug, "enabled": True}, as_json)


@app.command()
def member(
    tenant: Annotated[str, typer.Argument(help="Slug or id.")],
    add: Annotated[str | None, typer.Option(help="Name of a person to add, or whose role to change.")] = None,
    role: Annotated[str, typer.Option(help="owner, approver or member.")] = "member",
    as_json: ui.Json = False,
) -> None:
    """Who belongs to the tenant; approvers and owners may acknowledge actions."""
    from kernel import tenancy
    from kernel.actions import acknowledge

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        if add:
            known = {person.name: person.user_id for person in acknowledge.members(connection, found.id)}
            acknowledge.add_member(connection, found.id, known.get(add) or uuid4(), add, role)
        people = [
            {"name": person.name, "role": person.role, "user_id": person.user_id}
            for person in acknowledge.members(connection, found.id)
        ]
    ui.emit(people, as_json, title=f"People of {found.name}")


@app.command()
def setting(
    tenant: Annotated[str, typer.Argument(help="Slug or id.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="subsystem.field=value, several times; values as JSON or text."),
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """How the tenant's subsystems are set: what actions may change, and people too."""
    from kernel import tenancy
    from kernel.decisions import settings

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        for item in change or ():
            name, _, text = item.partition("=")
            subsystem, dot, field = name.strip().partition(".")
            if not (dot and text):
                ui.fail(f"--set {item} is no subsystem.field=value")
            settings.set_setting(
                connection, found.id, subsystem, field, _json_or_text(text), at=datetime.now(UTC)
            )
        rows = settings.all_settings(connection, found.id)
    ui.emit(rows, as_json, title=f"Settings of {found.name}")


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
