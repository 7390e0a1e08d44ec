"""A world of its own per module: tenants, launched campaigns, and workers that are processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from uuid import UUID

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from dagster_project import database
from dagster_project.cli import app
from kernel import members
from quality.certification.delivery.world import World
from tests.fakes.campaigns import add_company
from tests.integration.delivery.commands import ANA, MAX, OLGA


@pytest.fixture(scope="module")
def world(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    engine = sa.create_engine(module_database_url)
    made = World(engine, tmp_path_factory.mktemp("provider"))
    yield made
    made.leave()
    engine.dispose()


@pytest.fixture
def company(engine: sa.Engine) -> UUID:
    """acme, with an approved campaign; olga is owner, ana approver, max member."""
    made = add_company(engine, "acme")
    for user_id, name, role in ((OLGA, "olga", "owner"), (ANA, "ana", "approver"), (MAX, "max", "member")):
        with engine.begin() as connection:
            members.add(connection, made, user_id, name, role)
    return made


@pytest.fixture
def command(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    """Runs `revenue-os campaign` for acme; gives exit code, what it printed, and its JSON when it was asked for."""
    monkeypatch.setattr(database, "engine", lambda: engine)
    monkeypatch.setattr(database, "url", lambda: str(engine.url))

    def _command(*words: object, tenant: str | None = "acme") -> SimpleNamespace:
        given = ["campaign", *map(str, words), *(["-t", tenant] if tenant else [])]
        result = CliRunner().invoke(app, given, env={"COLUMNS": "80"}, catch_exceptions=False)
        told = json.loads(result.stdout) if "--json" in words and result.stdout else None
        return SimpleNamespace(code=result.exit_code, text=result.output, json=told)

    return _command
