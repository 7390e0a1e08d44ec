"""The commands of a month, typed one after another as somebody who closes it does."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from dagster_project import database
from dagster_project.cli import campaign_asked, ui, usage_month
from tests.integration.usage.closing import CLOSE_AT, MARCH, Closer


@pytest.fixture
def command(closer: Closer, monkeypatch: pytest.MonkeyPatch):
    """Runs a command for the tenant at an instant; gives exit code, what it printed, and its JSON."""
    monkeypatch.setattr(database, "engine", lambda: closer.engine)
    monkeypatch.setattr(database, "url", lambda: str(closer.engine.url))
    app = typer.Typer(cls=ui.SentenceErrors, pretty_exceptions_enable=False)
    app.add_typer(usage_month.app)

    def run(*words: object, at: datetime = CLOSE_AT, tenant: bool = True) -> SimpleNamespace:
        monkeypatch.setattr(campaign_asked, "now", lambda: at)
        given = [*map(str, words), *(["-t", str(closer.tenant_id)] if tenant else [])]
        result = CliRunner().invoke(app, given, env={"COLUMNS": "120"}, catch_exceptions=False)
        told = json.loads(result.stdout) if "--json" in words and result.stdout else None
        return SimpleNamespace(code=result.exit_code, text=" ".join(result.output.split()), json=told)

    return run


def test_a_month_is_closed_invoiced_corrected_and_proved(command, closer: Closer, tmp_path: Path) -> None:
    closer.soft(1, overage_price_per_1k=Decimal(1000), base_price=Decimal(5))
    closer.capture("a", "b")
    before = command("close", "--month", "2026-01", "--dry-run")
    assert before.code == 0, before.text
    assert closer.state() == "OPEN"
    closed = command("close", "--month", "2026-01", "--as", "Ann", "--json")
    assert (closed.code, closed.json["rows"], closed.json["is_new"]) == (0, 2, True)
    assert "It was closed before" in command("close", "--month", "2026-01", "--as", "Ann").text
    (invoice,) = command("invoice", "--month", "2026-01", "--json").json
    assert (invoice["total"], len(invoice["lines"])) == ("6.00", 3)
    assert "final" in command("invoice", "--final", invoice["id"], "--as", "Ann").text
    asked = command(
        "adjust", "--month", "2026-01", "--site", closer.site.public_id, "--events", -1, "--why",
        "counted by the customer", "--as", "Ann", "--json", at=MARCH,
    )  # fmt: skip
    (made,) = asked.json
    refused = command("approve", made["adjustment"], "--as", "Ann", at=MARCH)
    assert (refused.code, "asked for themselves" in refused.text) == (1, True)
    approved = command("approve", made["adjustment"], "--as", "Ben", "--json", at=MARCH)
    assert approved.json == [{"month": "2026-01", "paid_by": "2026-03", "events": -1}]
    pack = command(
        "export", "--month", "2026-01", "--site", closer.site.public_id, "--folder", tmp_path, "--as", "Ann", "--json",
        at=MARCH,
    ).json  # fmt: skip
    checked = command("verify", pack["file"], "--snapshot", closed.json["hash"], tenant=False)
    assert (checked.code, "2 rows of 2026-01" in checked.text) == (0, True)
    Path(pack["file"]).write_bytes(Path(pack["file"]).read_bytes() + b"x")
    assert command("verify", pack["file"], tenant=False).code == 1


def test_what_is_in_the_way_of_a_close_is_told(command, closer: Closer) -> None:
    closer.capture("a")
    closer.pinned("delete from usage.usage_outbox")
    dry = command("close", "--month", "2026-01", "--dry-run", "--json")
    assert dry.code == 1
    assert [each["check"] for each in dry.json if not each["holds"]] == ["counted"]
    refused = command("close", "--month", "2026-01", "--as", "Ann")
    assert (refused.code, "delivered.rows -1" in refused.text) == (1, True)
    assert (closer.state(), closer.snapshots()) == ("CLOSING", [])


def test_what_is_off_is_told_by_a_recount(command, closer: Closer) -> None:
    closer.capture("a")
    closer.pinned("update usage.usage_counters set accepted = accepted + 2")
    first = command("recount", "--json")
    assert (first.code, first.json["off"][0]["off"]) == (1, "counters.billable +2")
    again = command("recount", "--month", "2026-01", "--json")
    assert (again.code, again.json) == (0, {"jobs": {"COMPLETED": 1}, "off": []})


def test_months_that_should_be_closed_are_told(command, closer: Closer) -> None:
    closer.capture("a")
    assert command("periods", at=CLOSE_AT).code == 0
    late = command("periods", "--json", at=MARCH)
    assert (late.code, [each["year_month"] for each in late.json["missed"]]) == (1, ["2026-01"])


def test_all_late_events_of_a_month_are_approved_at_once(command, closer: Closer) -> None:
    closer.closed("a")
    for key in "xyz":
        closer.ask(1, kind="late", key=key)
    approved = command("approve", "--late", "2026-01", "--as", "Ben", "--json", at=MARCH)
    assert approved.json == [{"month": "2026-01", "paid_by": "2026-03", "events": 3}]
    nothing = command("approve", "--late", "2026-01", "--as", "Ben", at=MARCH)
    assert (nothing.code, "nothing waits" in nothing.text) == (1, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("close", "--month", "2026-1", "--as", "Ann"), "is no month"),
        (("close", "--month", "2026-01"), "name who speaks"),
        (("export", "--month", "2026-01", "--site", "none", "--as", "Ann"), "has no site"),
        (("invoice", "--final", "12", "--as", "Ann"), "copy the id from the list"),
        (("adjust", "--events", "2", "--as", "Ann", "--why", "because of it"), "--month and --site"),
        (("approve", "--as", "Ben"), "nothing waits"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(command, words: tuple, told: str) -> None:
    result = command(*words)
    assert (result.code, told in result.text, "Traceback" in result.text) == (1, True, False), result.text
