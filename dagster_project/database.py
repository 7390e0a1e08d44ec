"""The configured database: where it is, how each library wants to be told, one engine per process."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from dagster_project.settings import settings


@cache
def url() -> str:
    """The application database with psycopg 3; the embedded server is started when no DATABASE_URL is set."""
    configured = settings().database_url
    if configured:
        return configured
    from models import server

    return server.start(settings().home / "postgres").url("revenue")


@cache
def engine() -> sa.Engine:
    return sa.create_engine(url(), pool_pre_ping=True)


def dbt_environment() -> dict[str, str]:
    """What dbt's profile reads."""
    parts = sa.make_url(url())
    query = dict(parts.query)
    return {
        "DBT_PG_HOST": str(parts.host or query.get("host", "localhost")),
        "DBT_PG_PORT": str(parts.port or query.get("port", 5432)),
        "DBT_PG_USER": parts.username or "postgres",
        "DBT_ENV_SECRET_PG_PASSWORD": parts.password or "",
        "DBT_PG_DATABASE": parts.database or "revenue",
        "DBT_PG_SSLMODE": str(query.get("sslmode", "prefer")),
    }
