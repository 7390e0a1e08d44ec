"""`revenue-os db`: the database server and its schema. Loading and computing data belong to other groups."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from dagster_project.cli import ui
from dagster_project.settings import settings
from models.errors import RevenueOsError

app = typer.Typer(help="The database: start, stop, migrate, look inside.", no_args_is_help=True)


@app.command()
def start(as_json: ui.Json = False) -> None:
    """Start the embedded server, making its data directory the first time."""
    _start(as_json)


@app.command()
def stop(
    immediate: Annotated[
        bool, typer.Option(help="Do not wait for clients; the next start recovers from the log.")
    ] = False,
    as_json: ui.Json = False,
) -> None:
    """Stop the embedded server, for everybody who uses it."""
    from models import server

    was_running = server.stop(_embedded(), "immediate" if immediate else "fast")
    ui.emit({"state": "stopped", "was_running": was_running}, as_json)


@app.command()
def restart(as_json: ui.Json = False) -> None:
    """Stop and start the embedded server."""
    from models import server

    server.stop(_embedded())
    _start(as_json)


@app.command()
def status(as_json: ui.Json = False) -> None:
    """Show whether the database runs, its version and size, and how far its schema is migrated."""
    if settings().database_url is None:
        from models import server

        running = server.status(settings().data_dir)
        if running is None:
            ui.emit(
                {"state": "stopped", "server": "embedded", "data_directory": settings().data_dir}, as_json
            )
            return

    import sqlalchemy as sa

    from dagster_project import database
    from models import address, migrate

    name = sa.make_url(database.url()).database
    # The embedded server runs before its database is made; a configured server may keep us out of all but ours.
    asked = address.sibling(database.url(), "postgres") if settings().database_url is None else database.url()
    with address.connected(asked) as connection:
        version = connection.scalar(sa.text("show server_version"))
        size = connection.scalar(
            sa.text("select pg_size_pretty(pg_database_size(oid)) from pg_database where datname = :name"),
            {"name": name},
        )
    found = {
        "state": "running",
        "server": "embedded" if settings().database_url is None else "DATABASE_URL",
        "url": database.shown(),
        "postgresql": version,
        "size": size,
        "revision": migrate.current(database.url()) if size else None,
        "newest_revision": migrate.head(),
    }
    ui.emit(found, as_json)


@app.command()
def migrate(as_json: ui.Json = False) -> None:
    """Create what databases are absent and bring the schema to the newest revision."""
    from dagster_project import database

    created, before, after = database.prepare()
    ui.emit({"created": created, "from_revision": before, "to_revision": after}, as_json)


@app.command()
def url(
    dbt: Annotated[
        bool, typer.Option("--dbt", help="Print the variables of dbt's profile, for a shell to eval.")
    ] = False,
    dagster: Annotated[
        bool, typer.Option("--dagster", help="Print the variable of Dagster's storage, for a shell to eval.")
    ] = False,
    as_json: ui.Json = False,
) -> None:
    """Print where the database is, password included."""
    from dagster_project import database

    if dbt:
        variables = database.dbt_environment()
    elif dagster:
        variables = {"DAGSTER_PG_URL": database.dagster_url()}
    else:
        variables = {"DATABASE_URL": database.url()}
    if as_json:
        ui.emit(variables, as_json)
    elif not dbt and not dagster:
        typer.echo(database.url())
    else:
        for name, value in variables.items():
            typer.echo(f"export {name}={shlex.quote(value)}")


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def psql(context: typer.Context) -> None:
    """Open psql on the database; further arguments are psql's own, such as -c 'select 1'."""
    from dagster_project import database
    from models import address, server

    variables = address.libpq_environment(database.url())
    if variables.get("PGSSLMODE", "prefer") in ("require", "verify-ca", "verify-full"):
        raise RevenueOsError(
            "The bundled psql has no TLS, which DATABASE_URL asks for: use a psql of your own with that URL."
        )
    program = server.program("psql")
    os.execve(program, [str(program), *context.args], {**os.environ, **variables})  # noqa: S606 - no shell is meant


def _embedded() -> Path:
    if settings().database_url is not None:
        raise RevenueOsError(
            "DATABASE_URL is set, so its server is started and stopped where it runs: unset it for the embedded one."
        )
    return settings().data_dir


def _start(as_json: bool) -> None:
    from dagster_project import database
    from models import server

    started = server.start(_embedded())
    ui.emit({"state": "running", "data_directory": started.data_dir, "url": database.url()}, as_json)
