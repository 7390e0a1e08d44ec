"""`revenue-os campaign`: what people type, what is kept of it, and that what is shown equals the database."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.delivery import send
from kernel.delivery.providers import registry
from kernel.delivery.providers.base import BadCallback, Capabilities, Event, rejected, unknown
from models.delivery import channel_policies
from tests.fakes.campaigns import ATTEMPTS, Scripted, later, launched, worker
from tests.integration.delivery.commands import ANA, MAX, one, refused

WHY = ("--why", "the list was checked by hand")


def test_a_campaign_goes_from_account_to_files_by_commands_alone(
    engine: sa.Engine, command, company: UUID, tmp_path: Path
) -> None:
    folder = tmp_path / "outgoing"
    assert command(
        "account", "out", "--channel", "email", "--provider", "file", "--sender", "news@acme.example", "--connect",
        "--set", f"folder={folder}", "--set", "unsubscribe_base=https://acme.example/u", "--as", "olga", *WHY,
    ).code == 0  # fmt: skip
    one(
        engine,
        "insert into spine.spine_campaigns (tenant_id, name) values (:id, 'autumn') returning 1",
        id=company,
    )
    body = tmp_path / "page.html"
    body.write_text(
        "<p>Hello {{first_name|there}}</p><a href='{{unsubscribe_url}}'>off</a>", encoding="utf-8"
    )
    written = command("write", "autumn", "--account", "out", "--subject", "Hi", "--body-file", body,
                      "--as", "max", "--json").json  # fmt: skip
    assert refused(command("launch", "autumn", "--as", "max"), "version 1 of the content is not approved")
    seen = command("preview", "autumn", "--json").json
    assert (seen["content_id"], seen["content_hash"], seen["included"], seen["excluded"]) == (
        written["id"], written["hash"], 4, {"opt_out": 1},
    )  # fmt: skip
    assert len(seen["samples"]) == 3
    approved = command("approve", written["id"][:8], "--hash", written["hash"][:16], "--as", "ana")
    assert approved.code == 0, approved.text
    made = command("launch", "autumn", "--hash", written["hash"][:16], "--as", "max", "--json").json
    assert (made["intended"], made["suppressed"]) == (5, 1)
    assert command("work", "--json", tenant=None).json["people"] == {"sent": 4}
    lines = [json.loads(line) for file in folder.iterdir() for line in file.read_text("utf-8").splitlines()]
    assert (
        len(lines) == one(engine, "select count(*) from delivery.channel_outbox where status = 'sent'") == 4
    )
    assert one(engine, "select created_by from delivery.campaign_runs") == str(MAX)


def test_what_show_tells_equals_the_database(engine: sa.Engine, command, company: UUID) -> None:
    run_id = launched(engine, company)
    send.work(worker(engine))
    shown = command("show", str(run_id)[:8], "--json").json
    kept = {row["address"]: (row["status"], row["provider_message_id"]) for row in shown["people"]}
    query = "select json_object_agg(address, json_build_array(status, provider_message_id)) from delivery.channel_outbox"
    assert kept == {address: tuple(pair) for address, pair in one(engine, query).items()}
    assert sum(shown["run"]["counts"].values()) == shown["run"]["intended"] == len(kept)
    assert [job["status"] for job in shown["jobs"]] == [one(engine, "select status from delivery.job_queue")]
    text = command("show", run_id).text
    assert max(map(len, text.splitlines())) <= 80
    for told in ("intended    5", "opt_out", "doubtful@example.com", "Cases, 1 open"):
        assert told in text


def test_the_attempts_for_one_person_are_shown(engine: sa.Engine, command, company: UUID) -> None:
    run_id = launched(engine, company)
    send.work(worker(engine))
    shown = command("show", run_id, "--item", "taken@example.com", "--json").json
    (attempt,) = shown["attempts"]
    assert attempt["provider_message_id"] == one(
        engine, "select provider_message_id from delivery.channel_outbox where address = 'taken@example.com'"
    )
    assert refused(command("show", run_id, "--item", "nobody@example.com"), "the run holds nobody with")
    assert refused(command("show", run_id, "--item", "example"), "several people of the run have 'example'")


def test_runs_are_listed_with_their_counts(engine: sa.Engine, command, company: UUID) -> None:
    run_id = launched(engine, company)
    (row,) = command("runs", "spring", "--json").json
    assert (row["id"], row["status"], row["counts"]["open"], row["counts"]["suppressed"]) == (
        str(run_id),
        "queued",
        4,
        1,
    )
    assert str(run_id)[:8] in command("runs").text
    assert refused(command("runs", "spring", tenant="acne"), "did you mean acme?")
    assert refused(command("show", "ffffffff"), "the tenant has no run 'ffffffff'")


def test_a_dry_run_launches_nothing(engine: sa.Engine, command, company: UUID) -> None:
    told = command("launch", "spring", "--dry-run", "--as", "max", "--json").json
    assert told["included"] == 4
    assert one(engine, "select count(*) from delivery.campaign_runs") == 0


def test_a_request_that_is_repeated_launches_once(engine: sa.Engine, command, company: UUID) -> None:
    asked = ("launch", "spring", "--request", "r-1", "--as", "max", "--json")
    first, second = command(*asked).json, command(*asked).json
    assert (first["run_id"], first["replayed"], second["replayed"]) == (second["run_id"], False, True)
    assert one(engine, "select count(*) from delivery.campaign_runs") == 1


@pytest.mark.parametrize(("at", "zone", "expected"), [
    ("2030-07-01T09:00", "Europe/Berlin", datetime(2030, 7, 1, 7, tzinfo=UTC)),
    ("2030-07-01T09:00-04:00", "Europe/Berlin", datetime(2030, 7, 1, 13, tzinfo=UTC)),
])  # fmt: skip
def test_a_launch_may_be_put_off_to_an_hour_of_a_time_zone(
    engine: sa.Engine, command, company: UUID, at: str, zone: str, expected: datetime
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("alter table delivery.approvals disable trigger user")
        connection.exec_driver_sql("update delivery.approvals set expires_at = '2031-01-01'")
    assert command("launch", "spring", "--at", at, "--time-zone", zone, "--as", "max").code == 0
    assert one(engine, "select scheduled_for from delivery.job_queue") == expected


@pytest.mark.parametrize(("at", "zone", "told"), [
    ("tomorrow", "UTC", "'tomorrow' is no instant"),
    ("2030-03-31T02:30", "Europe/Berlin", "does not exist in Europe/Berlin"),
    ("2030-07-01T09:00", "Europe/Belin", "time zone 'Europe/Belin' is unknown"),
])  # fmt: skip
def test_an_hour_that_does_not_exist_is_refused(
    engine: sa.Engine, command, company: UUID, at: str, zone: str, told: str
) -> None:
    assert refused(command("launch", "spring", "--at", at, "--time-zone", zone, "--as", "max"), told)
    assert one(engine, "select count(*) from delivery.campaign_runs") == 0


def test_a_run_is_paused_resumed_and_cancelled_by_name(engine: sa.Engine, command, company: UUID) -> None:
    run_id = launched(engine, company)
    status = "select status from delivery.campaign_runs"
    assert command("pause", run_id, "--as", "ana").code == 0
    assert (one(engine, status), one(engine, "select paused_by from delivery.campaign_runs")) == (
        "paused",
        str(ANA),
    )
    assert "by ana" in command("show", run_id).text
    assert "until a resume" in command("work", tenant=None).text
    assert command("resume", run_id, "--as", "ana").code == 0
    assert one(engine, status) == "queued"
    assert command("cancel", run_id, "--as", "ana", "--json").json["counts"]["cancelled"] == 4
    assert one(engine, status) == "cancelled"
    assert refused(command("resume", run_id, "--as", "ana"), "the run is cancelled, not paused")


@pytest.mark.parametrize("words", [
    ("pause", "RUN"), ("resume", "RUN"), ("cancel", "RUN"), ("retry", "RUN"),
    ("resolve", "accepted", "--run", "RUN", *WHY),
    ("account", "mail", "--stop", *WHY), ("policy", "email", "--set", "daily_cap=none", *WHY),
])  # fmt: skip
def test_a_member_may_not_let_through_or_stop(
    engine: sa.Engine, command, company: UUID, words: tuple[str, ...]
) -> None:
    run_id = launched(engine, company)
    given = [str(run_id) if word == "RUN" else word for word in words]
    assert refused(command(*given, "--as", "max"), "max is no approver or owner of the tenant")
    assert refused(command(*given, "--as", "nobody"), "user 'nobody' does not belong to the tenant")
    assert one(engine, "select status from delivery.campaign_runs") == "queued"


def test_nobody_approves_what_they_wrote_or_have_not_seen(engine: sa.Engine, command, company: UUID) -> None:
    said = (
        "write",
        "spring",
        "--account",
        "mail",
        "--subject",
        "New",
        "--body",
        "x {{unsubscribe_url}}",
        "--json",
    )
    written = command(*said, "--as", "ana").json
    assert refused(
        command("approve", written["id"], "--hash", written["hash"], "--as", "ana"), "may not approve it"
    )
    assert refused(
        command("approve", written["id"], "--hash", "0" * 16, "--as", "olga"), "is not what was shown"
    )
    assert refused(
        command("approve", written["id"], "--hash", written["hash"][:8], "--as", "olga"), "is too short"
    )
    assert (
        one(engine, "select count(*) from delivery.approvals where content_id = :id", id=written["id"]) == 0
    )


def test_only_those_who_failed_are_retried(engine: sa.Engine, command, company: UUID) -> None:
    run_id = launched(engine, company)
    hand = worker(engine)
    for _ in range(ATTEMPTS):
        send.work(hand)
        later(engine)
    made = command("retry", run_id, "--as", "ana", "--json").json
    assert made["items"] == 1
    assert f"retry of {str(run_id)[:8]}" in command("show", made["run_id"]).text
    assert refused(command("retry", made["run_id"], "--as", "ana"), "wait until it has ended")


def test_a_case_is_resolved_with_its_evidence(engine: sa.Engine, command, company: UUID) -> None:
    run_id = launched(engine, company)
    send.work(worker(engine))
    (case,) = command("cases", "--json").json
    assert (case["address"], case["reason"]) == ("doubtful@example.com", "timeout")
    asked = ("resolve", "accepted", case["id"][:8], "--as", "ana")
    assert refused(command(*asked, "--why", "seen"), "needs its evidence")
    assert refused(command("resolve", "gone", case["id"], "--as", "ana", *WHY), "'gone' is no resolution")
    assert refused(command("resolve", "accepted", "--as", "ana", *WHY), "name the cases, or a run")
    assert command(*asked, *WHY).code == 0
    assert command("cases", "--json").json == []
    (closed,) = command("cases", "--all", "--run", run_id, "--json").json
    assert (closed["resolution"], closed["resolved_by"]) == ("accepted", "ana")
    query = "select status from delivery.channel_outbox where address = 'doubtful@example.com'"
    assert one(engine, query) == "sent"
    assert refused(command(*asked, *WHY), "the case was resolved as accepted")


def test_cases_that_are_open_are_shown_first_and_no_more_than_asked_for(
    engine: sa.Engine, command, company: UUID
) -> None:
    run_id = launched(engine, company)
    doubt = {name: unknown("timeout", "no answer") for name in ("taken", "also", "busy", "doubtful")}
    send.work(worker(engine, Scripted(said=doubt)))
    settled = [case["id"] for case in command("cases", "--json").json][:2]
    assert command("resolve", "accepted", *settled, "--as", "ana", *WHY).code == 0
    shown = command("show", run_id, "--json").json
    assert (shown["open_cases"], shown["settled_cases"]) == (2, 2)
    assert [case["resolution"] for case in shown["cases"]] == [None, None, "accepted", "accepted"]
    few = command("show", run_id, "--most", "1", "--json").json
    assert (few["open_cases"], few["cases"]) == (2, shown["cases"][:1])
    text = command("show", run_id, "--most", "1").text
    assert "Cases, 2 open, 2 settled" in text
    assert f"campaign cases -t TENANT --run {str(run_id)[:8]} --all" in text


def test_every_case_of_a_run_is_resolved_at_once(engine: sa.Engine, command, company: UUID) -> None:
    run_id = launched(engine, company)
    doubt = {name: unknown("timeout", "no answer") for name in ("taken", "also", "busy", "doubtful")}
    send.work(worker(engine, Scripted(said=doubt)))
    assert command("resolve", "abandoned", "--run", run_id, "--as", "ana", *WHY, "--json").json["cases"] == 4
    assert one(engine, "select count(*) from delivery.channel_outbox where status = 'abandoned'") == 4
    assert one(engine, "select status from delivery.campaign_runs") == "failed"


def test_the_kill_switch_is_kept_with_its_reason(engine: sa.Engine, command, company: UUID) -> None:
    launched(engine, company)
    assert refused(command("account", "mail", "--stop", "--as", "ana"), "a stop needs its reason")
    assert command("account", "mail", "--stop", "--as", "ana", "--why", "wrong prices").code == 0
    assert "stopped: wrong prices" in command("accounts").text
    assert command("work", "--json", tenant=None).json["people"] == {}
    assert refused(
        command("launch", "spring", "--occurrence", "2", "--as", "max"),
        "account mail was stopped: wrong prices",
    )
    assert command("account", "mail", "--start", "--as", "ana", "--why", "prices are right").code == 0
    query = "select string_agg(reason, ', ' order by at) from ops.incidents where actor = :who"
    assert one(engine, query, who=str(ANA)) == "wrong prices, prices are right"
    one(engine, "update delivery.job_queue set scheduled_for = now() returning 1")
    assert command("work", "--json", tenant=None).json["people"] == {"sent": 4}


def test_an_account_that_cannot_be_used_is_not_connected(engine: sa.Engine, command, company: UUID) -> None:
    given = ("account", "new", "--channel", "email", "--connect", "--as", "olga", *WHY)
    assert refused(command(*given), "account 'new' is new: say --provider")
    assert refused(command(*given, "--provider", "pigeon"), "provider 'pigeon' is unknown: use smtp")
    assert refused(command(*given, "--provider", "file"), "folder of account new is missing or wrong")
    keys = ("--provider", "file", "--set", "foldr=/srv/out", "--set", "folder=/srv/out")
    assert refused(
        command(*given, *keys),
        "'foldr' is no key of provider file: use callback_secret_env, folder, timeout_seconds, unsubscribe_base;",
    )
    without = (*given, "--provider", "resend", "--sender", "news@acme.example")
    assert refused(command(*without), "account new names no secret: give --secret-env")
    told = command(*without, "--secret-env", "ACME_MAIL_KEY")
    assert refused(told, "set ACME_MAIL_KEY in the environment")
    assert one(engine, "select count(*) from delivery.provider_accounts where name = 'new'") == 0


@pytest.mark.parametrize(("provider", "channel", "channels"), [
    ("smtp", "sms", "email"), ("twilio", "voice", "sms"), ("webhook", "fax", "email, sms, voice"),
])  # fmt: skip
def test_an_account_for_a_channel_that_its_provider_lacks_is_refused_when_it_is_made(
    engine: sa.Engine, command, company: UUID, provider: str, channel: str, channels: str
) -> None:
    told = command("account", "new", "--channel", channel, "--provider", provider, "--as", "olga", *WHY)
    assert refused(told, f"provider {provider} has no channel {channel!r}: use {channels}")
    assert one(engine, "select count(*) from delivery.provider_accounts where name = 'new'") == 0


def test_a_key_that_a_new_provider_does_not_know_is_named_until_it_is_taken_away(
    engine: sa.Engine, command, company: UUID, tmp_path: Path
) -> None:
    assert command("account", "mail", "--set", "delay_seconds=0.5", "--as", "olga", *WHY).code == 0
    change = ("account", "mail", "--provider", "file", "--set", f"folder={tmp_path}", "--as", "olga", *WHY)
    assert refused(command(*change), "'delay_seconds' is no key of provider file: use")
    assert command(*change, "--set", "delay_seconds=").code == 0


def test_a_launch_that_reaches_nobody_says_so_and_why(engine: sa.Engine, command, company: UUID) -> None:
    told = command("launch", "spring", "--request", "r-1", "--as", "max", "--json").json
    assert (told["intended"], told["suppressed"], told["excluded"]) == (5, 1, {"opt_out": 1})
    everybody = ("taken@example.com", "also@example.com", "busy@example.com", "doubtful@example.com")
    assert command("suppress", *everybody, "--reason", "complaint", "--source", "a letter").code == 0
    why = "nothing will be sent, everybody is left out: complaint 4, opt_out 1"
    assert why in command("preview", "spring").text
    text = command("launch", "spring", "--occurrence", "2", "--as", "max").text
    assert why in text
    assert "Left out" in text
    assert "revenue-os campaign work" not in text


def test_an_audience_of_nobody_is_refused_with_where_to_look(
    engine: sa.Engine, command, company: UUID
) -> None:
    one(engine, "update spine.spine_contacts set email = null returning 1")
    told = "nobody of the segment has an address for email; campaign preview tells who is left out"
    assert refused(command("launch", "spring", "--as", "max"), told)
    assert "everybody is left out: no_address 5" in command("preview", "spring").text


def test_what_is_not_named_of_an_account_stays(engine: sa.Engine, command, company: UUID) -> None:
    change = ("account", "mail", "--set", "delay_seconds=0.5", "--as", "olga", *WHY, "--json")
    assert (command(*change).json["config"], command(*change).json["sender"]) == (
        {"delay_seconds": 0.5, "unsubscribe_base": "https://x.co/u"}, "news@acme.example",
    )  # fmt: skip
    taken = command("account", "mail", "--set", "delay_seconds=", "--as", "olga", *WHY, "--json").json
    assert (taken["config"], taken["is_connected"]) == ({"unsubscribe_base": "https://x.co/u"}, True)
    assert refused(command("account", "post"), "the tenant has no provider account 'post'")


def test_rules_of_a_channel_are_set_with_a_reason(engine: sa.Engine, command, company: UUID) -> None:
    change = ("policy", "sms", "--set", "hourly_cap=7", "--set", "daily_cap=none", "--set", "quiet_from=21:00",
              "--set", "quiet_until=08:00", "--set", "needs_consent=false", "--as", "olga")  # fmt: skip
    assert refused(command(*change), "needs its reason")
    assert command(*change, *WHY).code == 0
    told = command("policy", "sms", "--json").json
    assert (told["hourly_cap"], told["daily_cap"], told["quiet_from"], told["needs_consent"]) == (
        7,
        None,
        "21:00:00",
        False,
    )
    assert set(told) - {"channel"} <= {column.name for column in channel_policies.c}


@pytest.mark.parametrize(("rule", "told"), [
    ("hourly_cap=many", "hourly_cap=many cannot stand: give a number, or none"),
    ("person_cap_days=-1", "person_cap_days=-1 cannot stand"),
    ("needs_consent=perhaps", "give true or false"),
    ("quiet_from=21:00", "quiet hours need both ends"),
    ("time_zone=Mars", "time zone 'Mars' is unknown"),
    ("hourly=3", "hourly is no rule of a channel: use hourly_cap"),
    ("hourly_cap", "is no key=value"),
])  # fmt: skip
def test_a_rule_that_cannot_stand_is_refused(command, company: UUID, rule: str, told: str) -> None:
    assert refused(command("policy", "email", "--set", rule, "--as", "olga", *WHY), told)


def test_people_are_suppressed_and_consent_is_kept_from_files(
    engine: sa.Engine, command, company: UUID, tmp_path: Path
) -> None:
    file = tmp_path / "addresses.txt"
    file.write_text("One@Example.com\n\none@example.com\ntwo@example.com\n", encoding="utf-8")
    told = command(
        "suppress", "--file", file, "--reason", "complaint", "--source", "letter of 3 May", "--json"
    ).json
    assert (
        told["new"]
        == one(engine, "select count(*) from delivery.suppressions where reason = 'complaint'")
        == 2
    )
    told = command("consent", "+49 151 2345678", "--channel", "sms", "--source", "form 12", "--json").json
    assert (told["kept"], one(engine, "select address from delivery.consents")) == (1, "+491512345678")
    assert refused(command("suppress", "--source", "nobody"), "no address was given")
    assert refused(
        command("suppress", "x@y.example", "--source", "s", "--reason", "mood"), "'mood' is no reason"
    )


def test_a_worker_that_is_asked_to_end_hands_back_what_it_has_not_begun(
    engine: sa.Engine, command, company: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(Scripted):
        def send(self, messages, key):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().send(messages, key)

    few = Ended(said={})
    few.capabilities = Capabilities(wave=2, concurrency=1)
    launched(engine, company)
    with monkeypatch.context() as patched:
        patched.setattr(registry, "make", lambda account: few)
        told = command("work", "--forever", "--json", tenant=None)
    assert (told.code, told.json["people"]) == (0, {"sent": 2})
    query = "select status || ' ' || attempts from delivery.job_queue"
    assert one(engine, query) == "queued 0"
    assert one(engine, "select count(*) from delivery.attempts where state = 'dispatching'") == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_somebody_the_provider_was_too_busy_for_is_waited_for_and_counted_once(
    command, engine: sa.Engine, company: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Scripted):
        def send(self, messages, key):
            told = super().send(messages, key)
            for message in messages:
                self.said.pop(message.address.split("@")[0], None)
            return told

    busy = Busy(said={name: rejected("busy", "later", retryable=True) for name in ("busy", "doubtful")})
    launched(engine, company)
    monkeypatch.setattr(registry, "make", lambda account: busy)
    assert command("work", "--json", tenant=None).json["people"] == {"sent": 4}
    assert one(engine, "select count(*) from delivery.attempts") == 6


def test_a_fence_tells_first_what_it_would_do(engine: sa.Engine, command, company: UUID) -> None:
    launched(engine, company)
    assert command("fence", "--json", tenant=None).json == [{"tenant": "acme", "items": 4}]
    assert one(engine, "select count(*) from delivery.reconciliation_cases") == 0
    assert command("fence", "--yes", "--json").json == [{"tenant": "acme", "items": 4}]
    assert one(engine, "select count(*) from delivery.reconciliation_cases where reason = 'restored'") == 4
    assert command("work", "--json", tenant=None).json["people"] == {}


def test_a_saved_callback_settles_what_was_uncertain(
    engine: sa.Engine, command, company: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(engine, company)
    send.work(worker(engine))
    secret, body = b"s3cret", tmp_path / "body"
    reference = one(engine, "select id from delivery.attempts where state = 'unknown'")
    body.write_text(json.dumps({"reference": str(reference)}), encoding="utf-8")
    signature = hmac.new(secret, body.read_bytes(), hashlib.sha256).hexdigest()

    class Signed(Scripted):
        def events(self, headers, content, now):
            if headers.get("X-Signature") != hmac.new(secret, content, hashlib.sha256).hexdigest():
                raise BadCallback("it is not signed by the provider")
            return [Event("e-1", "delivered", now, reference=json.loads(content)["reference"])]

    monkeypatch.setattr(registry, "make", lambda account: Signed())
    headers = tmp_path / "headers"
    given = ("receive", "mail", "--headers", headers, "--body", body)
    headers.write_text("X-Signature: forged\n", encoding="utf-8")
    assert refused(command(*given), "the callback is refused: it is not signed by the provider")
    headers.write_text("X-Signature\n", encoding="utf-8")
    assert refused(command(*given), "line 1 is no header")
    headers.write_text(f"Host: acme.example\nX-Signature: {signature}\n", encoding="utf-8")
    assert command(*given, "--json").json["new_events"] == 1
    assert command(*given, "--json").json["new_events"] == 0
    query = "select status || ' ' || delivery_status from delivery.channel_outbox where address = 'doubtful@example.com'"
    assert one(engine, query) == "sent delivered"
    assert command("cases", "--json").json == []
