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
from dagster_project.cli import asked, ui, usage_month, usage_pack
from kernel.usage import sites
from tests.integration.usage.closing import CLOSE_AT, MARCH, Closer
from tests.integration.usage.test_recovery import degraded


@pytest.fixture
def command(closer: Closer, monkeypatch: pytest.MonkeyPatch):
    """Runs a command for the tenant at an instant; gives exit code, what it printed, and its JSON."""
    monkeypatch.setattr(database, "engine", lambda: closer.engine)
    monkeypatch.setattr(database, "url", lambda: str(closer.engine.url))
    app = typer.Typer(cls=ui.SentenceErrors, pretty_exceptions_enable=False)
    app.add_typer(usage_month.app)
    app.add_typer(usage_pack.app)

    def run(*words: object, at: datetime = CLOSE_AT, tenant: bool = True) -> SimpleNamespace:
        monkeypatch.setattr(asked, "now", lambda: at)
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
    ann = str(closer.people["Ann"])
    assert closed.json["closed_by"] == command("periods", "--json").json["periods"][0]["closed_by"] == ann
    again = command("close", "--month", "2026-01", "--as", "Ann").text
    assert ("It was closed before" in again, "closed by Ann" in again) == (True, True)
    assert (ann in again, " Ann" in command("periods").text) == (False, True)
    (invoice,) = command("invoice", "--month", "2026-01", "--json").json
    assert (invoice["total"], len(invoice["lines"])) == ("6.00", 3)
    final = command("invoice", "--final", invoice["id"], "--as", "Ann").text
    assert ("final by Ann" in final, "total 6.00 USD" in final) == (True, True)
    table = command("invoice").text
    assert all(told in table for told in ("final by Ann", "5.00 USD", "1,000.00 USD", "1.00 USD"))
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


def test_what_was_asked_for_is_refused(command, closer: Closer) -> None:
    closer.closed("a")
    made = closer.ask(3)
    closer.ask(1, kind="late", key="x")
    refused = command(
        "refuse", str(made)[:8], "--late", "2026-01", "--why", "nobody knows of it", "--as", "Ben", at=MARCH
    )
    assert refused.code == 0, refused.text
    assert command("adjust").text.count("refused by Ben") == 2
    nothing = command("approve", "--late", "2026-01", "--as", "Ben", at=MARCH)
    assert (nothing.code, "nothing waits" in nothing.text) == (1, True)


def test_a_message_that_was_given_up_is_credited(command, closer: Closer) -> None:
    degraded(closer, "a")
    closer.pinned("update usage.ingest_fallback_buffer set status = 'QUARANTINE'")
    ((message,),) = closer.pinned("select id from usage.ingest_fallback_buffer")
    asked = command("adjust", "--message", message, "--why", "lost with its queue", "--as", "Ann", "--json")
    assert (asked.code, len(asked.json)) == (0, 1), asked.text


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


def test_each_site_of_a_closed_month_has_a_hash_that_verifies_its_pack(
    command, closer: Closer, tmp_path: Path
) -> None:
    closer.capture("a")
    with closer.engine.begin() as connection:
        second = sites.make(connection, closer.tenant_id, "second", public_id=f"{closer.site.public_id}-2")
    closer.pinned("update usage.sites set created_at = :at", at=MARCH.replace(month=1))
    closed = command("close", "--month", "2026-01", "--as", "Ann", "--json").json
    hashes = {each["site"]: each["snapshot"] for each in closed["snapshots"]}
    assert hashes.keys() == {closer.site.public_id, second.public_id}
    assert closed["hash"] in hashes.values()
    table = command("close", "--month", "2026-01", "--as", "Ann").text
    for site, kept in hashes.items():
        assert f"{site} {kept}" in table
        pack = command(
            "export", "--month", "2026-01", "--site", site, "--folder", tmp_path, "--as", "Ann", "--json"
        ).json
        assert command("verify", pack["file"], "--snapshot", kept, tenant=False).code == 0


def test_an_invoice_lists_the_reasons_of_corrections_that_are_one_line(command, closer: Closer) -> None:
    closer.soft(2, overage_price_per_1k=Decimal(1000))
    closer.capture("a", "b", "c", "d")
    asked = ("adjust", "--month", "2026-01", "--site", closer.site.public_id, "--as", "Ann", "--json")
    for events, why in ((-1, "robots of the shop"), (-2, "a test that ran twice"), (1, "was forgotten here")):
        (made,) = command(*asked, "--events", events, "--why", why).json
        command("approve", made["adjustment"], "--as", "Ben")
    command("close", "--month", "2026-01", "--as", "Ann")
    (invoice,) = command("invoice", "--json").json
    told = [[(each["events"], each["reason"]) for each in line["reasons"]] for line in invoice["lines"]]
    assert told[-2:] == [
        [(1, "was forgotten here")],
        [(-2, "a test that ran twice"), (-1, "robots of the shop")],
    ]
    assert not any(told[:-2])
    assert "a test that ran twice" in command("invoice").text


def test_a_correction_in_the_wrong_direction_is_told_how_to_write_it(command, closer: Closer) -> None:
    given = ("--month", "2026-01", "--site", closer.site.public_id, "--why", "counted twice", "--as", "Ann")
    told = command("adjust", *given, "--kind", "void", "--events", 3)
    assert (told.code, "write -3" in told.text) == (1, True)
    assert command("adjust", *given, "--kind", "gift", "--events", 3).code == 2


def test_why_a_correction_was_refused_stands_in_the_list(command, closer: Closer) -> None:
    closer.capture("a", "b")
    given = ("--month", "2026-01", "--site", closer.site.public_id, "--why", "counted twice", "--as", "Ann")
    (made,) = command("adjust", *given, "--events", -1, "--json").json
    command("refuse", made["adjustment"], "--why", "it was counted once", "--as", "Ben")
    assert "refused by Ben: it was counted once" in command("adjust").text
