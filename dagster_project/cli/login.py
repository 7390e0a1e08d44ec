"""`revenue-os tenant login`: which PostgreSQL logins read a tenant, and as whom they answer."""

from __future__ import annotations

from typing import Annotated

import typer

from dagster_project.cli import ui


def login(
    tenant: Annotated[str, typer.Argument(help="Slug or id.")],
    add: Annotated[
        str | None, typer.Option(help="A login in role revenue_member that is to read the tenant.")
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            help="Name or id of the user it answers as; without one it only reads. Only with --add."
        ),
    ] = None,
    remove: Annotated[str | None, typer.Option(help="A login that is to see nothing any more.")] = None,
    as_json: ui.Json = False,
) -> None:
    """Which logins of the database read the tenant, and as whom they answer."""
    from kernel import logins, members, tenancy

    if person and not add:
        ui.fail("--person says whom a login answers as: name the login with --add")
    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        if remove:
            logins.remove(connection, found.id, remove)
        if add:
            who = members.find(connection, found.id, person).user_id if person else None
            logins.record(connection, found.id, add, who)
        known = logins.of(connection, found.id)
    ui.emit(known, as_json, title=f"Logins of {found.name}")
