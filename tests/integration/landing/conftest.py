"""A tenant and commands on a database of their own."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from dagster_project import database, settings
from dagster_project.cli import load as commands
from dagster_project.cli import tenant as tenants
from dagster_project.cli import ui
from kernel import tenancy
from kernel.landing import load
from kernel.landing.mapping import Mapping
from tests.integration.landing.files import NOW


@pytest.fixture
def tenant(engine: sa.Engine) -> uuid.UUID:
    with engine.begin() as connection:
        tenancy.service(connection)
        return tenancy.create(connection, "acme", "Acme", "USD")


@pytest.fixture
def land(engine: sa.Engine, tenant: uuid.UUID, tmp_path: Path):
    """Loads text as the landing file of a fact and gives the report."""

    def _land(fact: str, text: str | bytes, *, mapping: Mapping | None = None, name: str = "", **options):
        path = tmp_path / (name or f"{fact}.csv")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load.load_path(engine, path, "acme", mapping, load.Options(now=NOW, **options))

    return _land


@pytest.fixture
def rows(engine: sa.Engine):
    def _rows(query: str) -> list:
        with engine.connect() as connection:
            return list(connection.execute(sa.text(query)))

    return _rows


@pytest.fixture
def command(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command on the test's database; gives exit code, what it printed, and its JSON when it was asked for."""
    monkeypatch.setattr(database, "engine", lambda: engine)
    monkeypatch.setattr(database, "url", lambda: str(engine.url))
    given = SimpleNamespace(landing_dir=tmp_path / "landing", user=None)
    monkeypatch.setattr(settings, "settings", lambda: given)
    app = typer.Typer(cls=ui.SentenceErrors)
    for one in (commands.load, commands.loads, commands.rejected, tenants.config):
        app.command()(one)

    def _command(*arguments: Any) -> SimpleNamespace:
        result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
        told = json.loads(result.stdout) if "--json" in arguments and result.stdout else None
        return SimpleNamespace(code=result.exit_code, text=result.output, json=told)

    return _command
