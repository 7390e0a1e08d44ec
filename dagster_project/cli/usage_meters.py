"""`revenue-os usage meters`: what is read from the payloads of events beside their number."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from dagster_project.cli import asked, ui, usage_doors

app = typer.Typer(
    help="Further meters: sums, largest and different values of events, and how many of a kind.",
    no_args_is_help=True,
)

_Name = Annotated[str, typer.Argument(help="Small letters, digits and _.")]
_As = Annotated[str, typer.Option("--as", help="Who does it, as for usage site add.")]


@app.command("list")
def list_meters(
    tenant: asked.Tenant,
    month: Annotated[
        str | None, typer.Option(help="2026-12, in UTC; tells what each site came to in it.")
    ] = None,
    as_json: ui.Json = False,
) -> None:
    """The meters of a tenant, ended ones too; of a month, what they came to."""
    from kernel.usage import meters

    with asked.of(tenant) as (connection, found):
        rows = meters.values(connection, found.id, month) if month else meters.listed(connection, found.id)
    ui.emit(rows, as_json, title=f"Meters of {found.name}{f' in {month}' if month else ''}")


@app.command("add")
def add_meter(
    name: _Name,
    kind: Annotated[
        Literal["count", "sum", "max", "unique"], typer.Option(help="What is made of the values.")
    ],
    tenant: asked.Tenant,
    value: Annotated[
        str | None, typer.Option(help="Where the value stands: body.size is size in body. None for a count.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Of events with this ec only.")] = None,
    action: Annotated[str | None, typer.Option(help="Of events with this ea only.")] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="A field that values are kept with, as --value. Several times.")
    ] = None,
    user: _As = "",
    as_json: ui.Json = False,
) -> None:
    """Read a further value from the events that come from now on; what is invoiced is not changed by it."""
    from kernel.usage import meters

    made = meters.Meter(name, kind, category, action, value, tuple(by or ()))
    with asked.of(tenant) as (connection, found):
        actor = usage_doors.actor(connection, found.id, user)
        meters.add(connection, found.id, made, actor=actor, at=asked.now())
    ui.emit(made, as_json)


@app.command("end")
def end_meter(name: _Name, tenant: asked.Tenant, user: _As = "", as_json: ui.Json = False) -> None:
    """Read nothing more for a meter, for good; what it read stays."""
    from kernel.usage import meters

    with asked.of(tenant) as (connection, found):
        actor = usage_doors.actor(connection, found.id, user)
        meters.end(connection, found.id, name, actor=actor, at=asked.now())
    ui.emit({"meter": name, "status": "ended"}, as_json)
