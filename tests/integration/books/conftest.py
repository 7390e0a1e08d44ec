"""A tenant with a chart of accounts, in a database that the tests of one module share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from dagster_project import database, settings
from dagster_project.cli import asked, ui
from dagster_project.cli import books as commands
from tests.integration.books import bookkeeping, deciding


@pytest.fixture(scope="module")
def books_engine(module_database_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(module_database_url)
    yield made
    made.dispose()


@pytest.fixture
def books(books_engine: sa.Engine) -> bookkeeping.Books:
    return bookkeeping.books(books_engine)


@pytest.fixture
def command(books: bookkeeping.Books, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Runs a command for the tenant at an instant; gives exit code, its text, the lines it printed, and its JSON."""
    monkeypatch.setattr(database, "engine", lambda: books.engine)
    monkeypatch.setattr(database, "url", lambda: str(books.engine.url))
    read = settings.settings.__wrapped__
    app = typer.Typer(cls=ui.SentenceErrors, pretty_exceptions_enable=False)
    app.add_typer(commands.app, name="books")

    def run(*words: object, at: datetime = deciding.AT, user: str = "ann") -> SimpleNamespace:
        monkeypatch.setattr(asked, "now", lambda: at)
        monkeypatch.setattr(settings, "settings", lambda: read().model_copy(update={"user": user}))
        typed = ["books", *map(str, words), "-t", str(books.tenant_id)]
        result = CliRunner().invoke(app, typed, env={"COLUMNS": "100"}, catch_exceptions=False)
        told = json.loads(result.stdout) if "--json" in words and result.stdout else None
        lines = result.output.splitlines()
        return SimpleNamespace(
            code=result.exit_code, text=" ".join(result.output.split()), lines=lines, json=told
        )

    return run
