"""`revenue-os campaign preview`, `test`, `seeds`, `accounts`: what people see before anything goes out."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.delivery import send
from tests.fakes.campaigns import add_company, launched, worker
from tests.integration.delivery.commands import ANA, one, refused

WHY = ("--why", "our own mailbox")
SEED = "qa@acme.example"


@pytest.fixture
def outgoing(command, company: UUID, tmp_path: Path) -> Path:
    """Where the messages of account `mail` are written."""
    folder = tmp_path / "outgoing"
    assert command("account", "mail", "--provider", "file", "--set", f"folder={folder}", "--as", "olga", *WHY).code == 0  # fmt: skip
    return folder


def written(folder: Path) -> list[dict]:
    files = folder.glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def test_a_preview_says_what_is_not_known(command, company: UUID) -> None:
    said = " ".join(command("preview", "spring").text.split())
    for each in (
        "unknown: not measured, account mail has sent to",
        "unknown: account mail has no price",
        "4 units, no cap",
    ):
        assert each in said


def test_a_preview_tells_cost_quota_time_and_conflicts_to_people_and_to_programs(
    engine: sa.Engine, command, company: UUID
) -> None:
    assert command("account", "mail", "--price", "0.25 EUR", "--as", "olga", *WHY).code == 0
    for rule in ("hourly_cap=3", "daily_cap=100", "person_cap=1"):
        assert command("policy", "email", "--set", rule, "--as", "olga", *WHY).code == 0
    launched(engine, company)
    one(
        engine,
        "insert into spine.spine_campaigns (tenant_id, name) values (:id, 'autumn') returning 1",
        id=company,
    )
    assert command("write", "autumn", "--account", "mail", "--subject", "Hi", "--body", "{{unsubscribe_url}}",
                   "--as", "max").code == 0  # fmt: skip
    seen = command("preview", "autumn", "--json").json
    assert (seen["cost"]["expected"], seen["cost"]["currency"]) == ("1.00", "EUR")
    assert [(each["span"], each["limit"], each["takes"], each["remains"]) for each in seen["quota"]] == [
        ("hour", 3, 3, 0),
        ("day", 100, 3, 97),
    ]
    assert seen["forecast"]["ahead"] == 4
    hours = datetime.fromisoformat(seen["forecast"]["finishes_at"]) - datetime.now(UTC)
    assert 1 <= hours.total_seconds() / 3600 <= 2  # eight people, three an hour
    (conflict,) = seen["conflicts"]
    assert (conflict["campaign"], conflict["people"], conflict["to_come"]) == ("spring", 4, 4)
    assert seen["person_cap"] == {"limit": 1, "days": 7, "excluded": 0, "at_risk": 4}
    said = " ".join(command("preview", "autumn").text.split())
    for each in (
        "1.00 EUR, 4 at 0.25 EUR", "at the earliest: not measured", "cap of 3 per hour", "4 of other runs before",
        "Other campaigns to the same people", "Of 1 messages in 7 days to one person: 0 have had them and are left out, 4 will",
    ):  # fmt: skip
        assert each in said


def test_a_dry_run_takes_the_schedule_into_account(command, company: UUID) -> None:
    when = ("--at", "2030-07-01T09:00", "--time-zone", "Europe/Berlin")
    for asked in (("preview", "spring"), ("launch", "spring", "--dry-run")):
        assert command(*asked, *when, "--json").json["starts_at"] == "2030-07-01T07:00:00+00:00"


def test_the_command_that_a_dry_run_suggests_keeps_every_option(
    engine: sa.Engine, command, company: UUID
) -> None:
    at = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M}"
    until = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M}"
    options = ["--channel", "email", "--step", "1", "--at", at, "--until", until, "--time-zone", "UTC"]
    more = ["--occurrence", "2030 winter", "--request", "it's r-1", "--as", "max"]
    text = command("launch", "spring", "--dry-run", *options, *more).text
    (line,) = [line for line in text.splitlines() if line.startswith("Launch")]
    words = shlex.split(line)[1:]
    hash_ = one(engine, "select left(content_hash, 16) from delivery.contents")
    assert words[:3] == ["revenue-os", "campaign", "launch"]
    assert words[6:] == ["--hash", hash_, *options, *more]
    assert command(*words[2:]).code == 0
    assert (
        one(engine, "select request_id || ', ' || occurrence from delivery.campaign_runs")
        == "it's r-1, 2030 winter"
    )
    assert "--as NAME" in command("preview", "spring").text


def test_a_dry_run_under_the_hash_of_another_text_is_refused(command, company: UUID) -> None:
    asked = ("launch", "spring", "--dry-run", "--hash", "0" * 16, "--as", "max")
    assert refused(command(*asked), "is not what was shown")


@pytest.mark.parametrize("price", ["cheap", "-1", "1 euros"])
def test_a_price_that_is_none_is_refused(command, company: UUID, price: str) -> None:
    assert refused(command("account", "mail", "--price", price, "--as", "olga", *WHY), " is no ")


def test_a_price_stays_until_it_is_taken_away(engine: sa.Engine, command, company: UUID) -> None:
    price = "select unit_price || ' ' || price_currency from delivery.provider_accounts"
    assert command("account", "mail", "--price", "0.001", "--as", "olga", *WHY).code == 0
    assert (
        command("account", "mail", "--set", "unsubscribe_base=https://x.co/v", "--as", "olga", *WHY).code == 0
    )
    assert one(engine, price) == "0.001 USD"
    assert "0.001 USD" in command("account", "mail").text
    assert command("account", "mail", "--price", "none", "--as", "olga", *WHY).code == 0
    assert one(engine, price) is None


def test_a_test_is_sent_to_the_seed_list_and_to_nobody_else(
    engine: sa.Engine, command, company: UUID, outgoing: Path
) -> None:
    assert refused(command("test", "spring", "--to", SEED, "--as", "max"), "is not on the seed list of email")
    assert command("seeds", SEED, "--as", "ana", *WHY).code == 0
    told = command("test", "spring", "--to", SEED, "--as", "max")
    assert (told.code, "accepted" in told.text) == (0, True)
    (message,) = written(outgoing)
    assert (message["subject"], message["to"]) == ("[Test] Hi", SEED)
    assert refused(
        command("test", "spring", "--to", "taken@example.com", "--as", "max"), "is not on the seed list"
    )
    assert refused(
        command("test", "spring", "--to", "Not-An-Address", "--as", "max"),
        "Error: Not-An-Address is no address of email: write the address alone, as ann@x.co",
    )
    assert len(written(outgoing)) == 1
    assert one(engine, "select count(*) from delivery.channel_outbox") == 0


def test_a_run_is_tested_by_its_id(engine: sa.Engine, command, company: UUID, outgoing: Path) -> None:
    run_id = launched(engine, company)
    assert command("seeds", SEED, "--as", "ana", *WHY).code == 0
    (told,) = command("test", str(run_id)[:8], "--to", SEED, "--as", "max", "--json").json
    assert (told["address"], told["outcome"]["state"]) == (SEED, "accepted")
    assert len(written(outgoing)) == 1
    counts = command("show", run_id, "--json").json["run"]["counts"]
    assert (counts["open"], counts["accepted"]) == (4, 0)


def test_only_who_may_configure_adds_a_seed(engine: sa.Engine, command, company: UUID) -> None:
    assert refused(command("seeds", SEED, "--as", "max", *WHY), "max is no approver or owner")
    assert refused(command("seeds", SEED, "--as", "ana"), "needs its reason")
    assert one(engine, "select count(*) from delivery.seeds") == 0
    (row,) = command("seeds", SEED, "--as", "ana", "--json", *WHY).json
    assert (row["address"], row["channel"], row["added_by"]) == (SEED, "email", "ana")
    assert (
        one(engine, "select detail ->> 'seeds' from ops.incidents where actor = :who", who=str(ANA))
        == f'["{SEED}"]'
    )
    assert command("seeds", SEED, "--remove", "--as", "ana", "--json", *WHY).json == []


def test_what_there_is_not_cannot_be_tested(engine: sa.Engine, command, company: UUID) -> None:
    one(
        engine,
        "insert into spine.spine_campaigns (tenant_id, name) values (:id, 'autumn') returning 1",
        id=company,
    )
    assert refused(command("test", "autumn", "--to", SEED, "--as", "max"), "there is nothing to test")
    assert refused(command("test", "winter", "--to", SEED, "--as", "max"), "has no campaign 'winter'")
    assert refused(command("test", "spring", "--to", SEED, "--as", "eve"), "eve")


def test_who_stopped_an_account_is_still_told_after_it_was_started(
    engine: sa.Engine, command, company: UUID
) -> None:
    assert command("account", "mail", "--stop", "--as", "ana", "--why", "wrong prices").code == 0
    assert command("account", "mail", "--start", "--as", "olga", "--why", "prices are right").code == 0
    (row,) = command("accounts", "--json").json
    assert row["stopped_by"] is None
    assert [(each["is_stop"], each["by"], each["reason"]) for each in row["switches"]] == [
        (False, "olga", "prices are right"),
        (True, "ana", "wrong prices"),
    ]
    for asked in (("accounts",), ("account", "mail")):
        text = command(*asked).text
        assert max(map(len, text.splitlines())) <= 80
        for told in ("stopped", "ana", "wrong prices", "started", "olga", "prices are right"):
            assert told in text


def test_accounts_of_another_tenant_are_not_told_of(engine: sa.Engine, command, company: UUID) -> None:
    add_company(engine, "other")
    assert command("account", "mail", "--stop", "--as", "ana", "--why", "wrong prices").code == 0
    (row,) = command("accounts", "--json", tenant="other").json
    assert (row["stopped_at"], row["switches"]) == (None, [])


def test_html_is_sent_with_the_plain_text_that_was_approved(
    engine: sa.Engine, command, company: UUID, tmp_path: Path
) -> None:
    page, text = tmp_path / "page.html", tmp_path / "page.txt"
    page.write_text("<p>Hello</p><a href='{{unsubscribe_url}}'>off</a>", encoding="utf-8")
    text.write_text("Hello in text", encoding="utf-8")
    asked = (
        "write",
        "spring",
        "--account",
        "mail",
        "--subject",
        "Hi",
        "--body-file",
        page,
        "--step",
        2,
        "--as",
        "max",
    )
    assert command(*asked).code == 0
    seen = command("preview", "spring", "--json").json
    assert seen["samples"][0]["plain_body"] == "Hello\n\noff (https://x.co/u?r=preview)"
    assert command(*asked, "--plain-file", text).code == 0
    again = command("preview", "spring", "--json").json
    assert again["content_hash"] != seen["content_hash"]
    (missing,) = [
        each for each in again["requirements"] if not each["passed"] and each["id"] == "unsubscribe"
    ]
    assert "plain text lacks {{unsubscribe_url}}" in missing["message"]
    assert "As plain text" in command("preview", "spring").text


def test_a_retried_call_of_html_with_plain_text_is_the_same_request(
    engine: sa.Engine, command, company: UUID
) -> None:
    body = "<p>Hello {{first_name|you}}</p><a href='{{unsubscribe_url}}'>off</a>"
    made = command("write", "spring", "--account", "mail", "--subject", "Hi", "--body", body, "--step", 2,
                   "--as", "max", "--json").json  # fmt: skip
    assert command("approve", made["id"], "--hash", made["hash"], "--as", "ana").code == 0
    launched(engine, company)
    assert send.work(worker(engine))["sent"] == 2
    assert one(engine, "select count(*) from delivery.attempts where state = 'accepted'") == 2
