"""Under which circumstances a certification ran: the code, the database, the machine and the person."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from models import migrate


def of(engine: sa.Engine, root: Path, *, actor: str, environment: str) -> dict[str, Any]:
    """JSON without paths and names of the machine. `commit` is None where the code is no repository."""
    url = engine.url.render_as_string(hide_password=False)
    with engine.connect() as connection:
        system = connection.exec_driver_sql("select system_identifier::text from pg_control_system()")
        database = f"{system.scalar_one()}/{engine.url.database}"
        version = connection.exec_driver_sql("show server_version").scalar_one()
    return {
        "commit": _commit(root),
        "migration": {"current": migrate.current(url), "head": migrate.head()},
        "database": database,
        "postgresql": version,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "environment": environment,
        "actor": actor,
    }


def _commit(root: Path) -> dict[str, Any] | None:
    """The commit, and whether the files are those of it."""
    told = _git(root, "rev-parse", "HEAD")
    return told and {"id": told.strip(), "is_clean": _git(root, "status", "--porcelain") == ""}


def _git(root: Path, *asked: str) -> str | None:
    command = ["git", "-C", str(root), "--no-optional-locks", *asked]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - our own words
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
