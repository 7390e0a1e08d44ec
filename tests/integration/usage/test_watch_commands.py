"""`revenue-os usage watch --tell` at the terminal: who is told, and what it says when they cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
import typer
from typer.testing import CliRunner

from dagster_project import database, settings
from dagster_project.cli import asked, ui, usage_care
from tests.integration.usage.closing import Closer, closer
from tests.integration.usage.test_recovery import degraded
from tests.integration.usage.test_tellers import SECRET, Hook, hook  # noqa: F401 - a fixture
from tests.integration.usage.test_telling import SOON

Command = Callable[..., SimpleNamespace]


@pytest.fixture
def shop(engine: sa.Engine) -> Closer:
    return closer(engine)


@pytest.fixture
def watch(shop: Closer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command; gives its exit code, what it printed, and its JSON."""
    monkeypatch.setattr(database, "engine", lambda: shop.engine)
    monkeypatch.setattr(database, "url", lambda: str(shop.engine.url))
    monkeypatch.setattr(asked, "now", lambda: SOON)
    app = typer.Typer(cls=ui.SentenceErrors, pretty_exceptions_enable=False)
    app.command()(usage_care.watch)
    app.command()(usage_care.buffer)

    def run(*words: str, **environment: str) -> SimpleNamespace:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings.settings.cache_clear()
        result = CliRunner().invoke(app, ["watch", *words], env={"COLUMNS": "200"}, catch_exceptions=False)
        told = json.loads(result.stdout) if "--json" in words and result.stdout else None
        return SimpleNamespace(code=result.exit_code, text=" ".join(result.output.split()), json=told)

    yield run
    settings.settings.cache_clear()


def test_nobody_is_told_unless_somebody_is_named(watch: Command) -> None:
    assert watch().code == 0
    told = watch("--tell")
    assert (told.code, "nobody is told: set REVENUE_OS_TELL_WEBHOOK" in told.text) == (1, True)


def test_who_is_named_is_told_once_and_the_command_says_how_much(
    watch: Command,
    shop: Closer,
    hook: Hook,  # noqa: F811
) -> None:
    degraded(shop, "a")
    named = {"REVENUE_OS_TELL_WEBHOOK": hook.url, "REVENUE_OS_TELL_WEBHOOK_SECRET": SECRET}
    first, second = watch("--tell", **named), watch("--tell", "--json")
    assert (first.code, "1 alarms and 0 thresholds" in first.text) == (0, True)
    assert second.json["told"] == {"notices": 0, "alarms": 0, "failures": []}
    assert [each["status"] for each in second.json["checks"]].count("degraded") == 1
    assert len(hook.got) == 1


def test_a_webhook_that_fails_is_named_and_what_it_did_not_take_is_told_the_next_time(
    watch: Command,
    shop: Closer,
    hook: Hook,  # noqa: F811
) -> None:
    degraded(shop, "a")
    hook.status = 500
    failed = watch("--tell", REVENUE_OS_TELL_WEBHOOK=hook.url, REVENUE_OS_TELL_WEBHOOK_SECRET=SECRET)
    assert failed.code == 1
    assert "Usage is degraded" in failed.text
    assert "the webhook at 127.0.0.1 answered 500" in failed.text
    hook.status = 200
    again = watch("--tell")
    assert (again.code, "1 alarms" in again.text, len(hook.got)) == (0, True, 2)
