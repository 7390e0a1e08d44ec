"""One computation of the warehouse at a time: the working sets of a run belong to it alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

KEY = 7_283_105_002  # any constant that nothing else locks
# What sessions of dbt call themselves in dbt/profiles.yml.
_WORKERS = "revenue-os dbt"


@contextmanager
def serialized(engine: sa.Engine) -> Iterator[int]:
    """Waits for a running computation to end; gives the session that holds the lock, for dbt to look after.

    The lock dies with its session, so a killed run frees it. What is left of such a run is ended first: dbt outlives
    whoever started it.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("select pg_advisory_lock(:key)"), {"key": KEY})
        try:
            connection.execute(
                sa.text(
                    "select pg_terminate_backend(pid, 30000) from pg_stat_activity"
                    " where datname = current_database() and application_name = :workers"
                ),
                {"workers": _WORKERS},
            )
            yield connection.execute(sa.text("select pg_backend_pid()")).scalar_one()
        finally:
            connection.execute(sa.text("select pg_advisory_unlock(:key)"), {"key": KEY})
