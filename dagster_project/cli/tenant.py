"""`revenue-os tenant`: creating tenants and setting their configuration."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

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
    ui.emit(tenancy.parsed_config(values).model_dump(), as_json, title=f"Configuration of {found.name}")


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
