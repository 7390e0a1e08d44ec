"""The configured database: where it is, how each library wants to be told, one engine per process."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from dagster_project.settings import settings
from models import address, engines, migrate

_DAGSTER = "dagster"  # Dagster's own storage, on the same server


@cache
def url() -> str:
    """The application database with psycopg 3; the embedded server is started when no DATABASE_URL is set."""
    configured = settings().database_url
    if configured:
        return configured
    from models import server

    return server.start(settings().data_dir).url("revenue")


def shown() -> str:
    """Where the database is, for people: without its password."""
    return address.shown(url())


@cache
def engine() -> sa.Engine:
    return engines.create(url(), pool_pre_ping=True)


def dagster_url() -> str:
    """Dagster's storage, for its psycopg2."""
    return address.sibling(url(), _DAGSTER, driver="psycopg2")


def dbt_environment() -> dict[str, str]:
    """What dbt's profile reads, and the libpq variables for everything the profile has no name for."""
    libpq = address.libpq_environment(url())
    return libpq | {
        "DBT_PG_HOST": libpq.get("PGHOST", "localhost"),
        "DBT_PG_PORT": libpq.get("PGPORT", "5432"),
        "DBT_PG_USER": libpq.get("PGUSER", "postgres"),
        "DBT_ENV_SECRET_PG_PASSWORD": libpq.get("PGPASSWORD", ""),
        "DBT_PG_DATABASE": libpq.get("PGDATABASE", "revenue"),
        "DBT_PG_SSLMODE": libpq.get("PGSSLMODE", "prefer"),
    }


def prepare() -> tuple[list[str], str | None, str | None]:
    """Creates what databases are absent and migrates; gives their names and the revision before and after."""
    created = []
    for wanted in (url(), address.sibling(url(), _DAGSTER)):
        if address.ensure_database(wanted):
            created.append(str(sa.make_url(wanted).database))
            if wanted != url():
                _relax(wanted)
    before = migrate.current(url())
    migrate.upgrade(url())
    return created, before, migrate.current(url())


def _relax(dagster: str) -> None:
    # A backfill writes an event per asset and day. Should the machine die, the last instants of the event log
    # may be missing; facts and metrics are in the other database, where every commit is on disk.
    with address.connected(dagster) as connection:
        connection.execute(sa.text(f"alter database {_DAGSTER} set synchronous_commit = off"))
