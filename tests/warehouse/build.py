"""Running dbt from a test, on the test's own database."""

from __future__ import annotations

import os
import subprocess
import tempfile
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

import sqlalchemy as sa

from kernel.warehouse import statistics
from models import address
from tests.warehouse import forked

PROJECT = Path(__file__).resolve().parents[2] / "dbt"
_APART = "path:models/*/delivery path:models/*/usage"  # which no night computes


@cache
def _target() -> str:
    # One for the session, so that the project is parsed once.
    return tempfile.mkdtemp(prefix="dbt-target-")


def environment(url: str) -> dict[str, str]:
    """What dbt's profile reads, for a database of a test."""
    libpq = address.libpq_environment(url)
    return libpq | {
        "DBT_PG_HOST": libpq.get("PGHOST", "localhost"),
        "DBT_PG_PORT": libpq.get("PGPORT", "5432"),
        "DBT_PG_USER": libpq.get("PGUSER", "postgres"),
        "DBT_ENV_SECRET_PG_PASSWORD": libpq.get("PGPASSWORD", ""),
        "DBT_PG_DATABASE": libpq["PGDATABASE"],
    }


def dbt(url: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    arguments += ("--target-path", _target(), "--no-use-colors")
    arguments += ("--no-write-json", "--log-level-file", "none")  # nobody reads them, and they take seconds
    return forked.run(arguments, PROJECT, {**os.environ, **environment(url), **variables})


def window(
    first: date, last: date, *, as_of: datetime, run_id: str = "test", tenant_ids: list[str] | None = None
) -> dict[str, str]:
    """What dbt reads of a run that computes the days `first` to `last`, both included."""
    return {
        "DBT_WINDOW_START": first.isoformat(),
        "DBT_WINDOW_END": (last + timedelta(days=1)).isoformat(),
        "DBT_AS_OF": as_of.isoformat(),
        "DBT_RUN_ID": run_id,
        "DBT_TENANT_IDS": ",".join(tenant_ids or ()),
    }


def build(
    url: str,
    first: date,
    last: date,
    *,
    as_of: datetime,
    tenant_ids: list[str] | None = None,
    run_id: str = "test",
) -> None:
    """Builds the metrics of the days `first` to `last` from fresh statistics as the program does."""
    engine = sa.create_engine(url)
    statistics.refresh(engine)
    engine.dispose()
    done = dbt(
        url,
        "build",
        *("--exclude", f"{_APART} resource_type:test resource_type:unit_test"),
        **window(first, last, as_of=as_of, run_id=run_id, tenant_ids=tenant_ids),
    )
    assert done.returncode == 0, done.stdout[-6000:]
