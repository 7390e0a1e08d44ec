"""Addresses of databases: one URL, spelled the way each library wants it, and the database behind it made.

Starting the embedded server belongs in `server`; what is inside a database in the other modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError

from models.errors import RevenueOsError


class DatabaseError(RevenueOsError):
    """A database whose address cannot be read, or that cannot be reached or made."""


def normalise(url: str) -> str:
    """The URL with its driver spelled psycopg. Takes postgres://, postgresql:// and any driver's form."""
    try:
        parsed = sa.make_url(re.sub(r"^postgres(?=://)", "postgresql", url.strip()))
    except (ArgumentError, ValueError) as error:  # neither message shows the URL, which may hold a password
        raise DatabaseError(
            "The database URL cannot be read: write it as postgresql://user:password@host:5432/database."
        ) from error
    if parsed.get_backend_name() != "postgresql" or not parsed.database:
        raise DatabaseError(
            f"The database URL {shown(parsed)} names no PostgreSQL database: "
            "write it as postgresql://user:password@host:5432/database."
        )
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


# What a URL may carry that is nobody's business, and what says nothing about the place.
_NOT_SHOWN = ("password", "sslpassword", "passfile", "connect_timeout")


def shown(url: str | sa.URL) -> str:
    """The URL for people: without a password, wherever it stands."""
    return sa.make_url(url).difference_update_query(_NOT_SHOWN).render_as_string(hide_password=True)


def sibling(url: str, database: str, driver: str = "psycopg") -> str:
    """The URL of another database on the same server; Dagster wants driver psycopg2."""
    other = sa.make_url(normalise(url)).set(database=database, drivername=f"postgresql+{driver}")
    return other.render_as_string(hide_password=False)


def libpq_environment(url: str) -> dict[str, str]:
    """PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and what else the URL says, for psql and dbt."""
    from psycopg.pq import Conninfo

    parsed = sa.make_url(normalise(url))
    _, parameters = parsed.get_dialect()().create_connect_args(parsed)
    names = {option.keyword.decode(): option.envvar for option in Conninfo.get_defaults()}
    return {names[key].decode(): str(value) for key, value in parameters.items() if names.get(key)}


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A connection of its own, each statement committed. Raises DatabaseError when it cannot be made."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise DatabaseError(
            f"The database at {shown(url)} cannot be reached ({_reason(error)}): check that its server runs and that "
            "the URL is right, or make the database with revenue-os db migrate."
        ) from error
    with connection:
        yield connection


def ensure_database(url: str) -> bool:
    """Creates the database a URL names when it is absent; whether it did. Raises DatabaseError."""
    try:
        with connected(url):
            return False
    except DatabaseError as error:
        # libpq gives no code for a failed connection: whether the database is absent, its neighbour knows.
        refused = error
    name = sa.make_url(url).database
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(connected(sibling(url, "postgres")))
        except DatabaseError:
            raise refused from None
        if _is_there(connection, name):
            # Made by another process since, or refused for something else: a second try tells which.
            with connected(url):
                return False
        quoted = connection.dialect.identifier_preparer.quote_identifier(name)
        try:
            connection.execute(sa.text(f"create database {quoted}"))
        except DBAPIError as error:
            if _is_there(connection, name):  # another process was quicker
                return False
            raise DatabaseError(f"The database {name} could not be created: {_reason(error)}.") from error
    return True


def _is_there(connection: sa.Connection, database: str) -> bool:
    found = connection.execute(sa.text("select from pg_database where datname = :name"), {"name": database})
    return found.first() is not None


def _reason(error: DBAPIError) -> str:
    """The driver's first sentence, which stands before its hints."""
    said = str(error.orig).strip()
    return said.splitlines()[0].rstrip(".") if said else "no reason given"
