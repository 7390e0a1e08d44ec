"""`revenue-os usage` at the terminal: sites, keys, plans, files and how far a month is."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from dagster_project.cli import usage_views as views
from kernel import members, tenancy
from kernel.errors import RefusedError
from kernel.usage import inbox, overview, sites
from tests.integration.usage.capturing import AT, Shop

Cli = Callable[..., Any]


@pytest.fixture
def cli(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Runs a command for the shop's tenant: its result as JSON, or the sentence it fails with."""
    from dagster_project import database, settings
    from dagster_project.cli.usage import app

    monkeypatch.setenv("DATABASE_URL", shop.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("REVENUE_OS_USER", "ann")
    for cached in (settings.settings, database.url, database.engine):
        cached.cache_clear()
    with shop.engine.begin() as connection:
        members.add(connection, shop.tenant_id, uuid4(), "ann", "owner")
        members.add(connection, shop.tenant_id, uuid4(), "bob", "member")

    def run(*words: str | Path, fails: bool = False, as_table: bool = False) -> Any:
        given = [*map(str, words), "-t", str(shop.tenant_id), *([] if as_table else ["--json"])]
        result = CliRunner().invoke(app, given, env={"COLUMNS": "160"})
        assert (result.exception is not None) == fails, result.output
        if as_table:
            return " ".join(result.stdout.split())
        return str(result.exception) if fails else json.loads(result.stdout)

    yield run
    for cached in (settings.settings, database.url, database.engine):
        cached.cache_clear()


def by_key(shop: Shop, token: str) -> str | None:
    with shop.engine.begin() as connection:
        found = sites.by_key(connection, token)
        return found and found.public_id


def test_a_site_is_made_with_a_key_that_works_until_it_is_revoked(shop: Shop, cli: Cli) -> None:
    made = cli(
        "site", "add", "Store", "--public-id", f"store-{shop.site.public_id}", "--origin", "https://x.co:8443"
    )
    assert by_key(shop, made["write_key"]) == made["site"]
    second = cli("key", "add", made["site"])
    listed = cli("key", "list", made["site"])
    assert [key["id"] for key in listed] == [
        second["id"],
        next(key["id"] for key in listed if key["id"] != second["id"]),
    ]
    assert made["write_key"] not in json.dumps(listed)
    cli("key", "revoke", second["id"])
    assert (by_key(shop, second["write_key"]), by_key(shop, made["write_key"])) == (None, made["site"])
    assert "no write key" in cli("key", "revoke", second["id"], fails=True)


@pytest.mark.parametrize(
    "origin",
    [
        "x.co",
        "https://x.co/",
        "https://X.co",
        "ftp://x.co",
        "https://x.co/a",
        "https://",
        "null",
        "https://x.co:0",
    ],
)
def test_what_is_no_origin_is_refused(cli: Cli, origin: str) -> None:
    assert "is no origin" in cli("site", "add", "Store", "--origin", origin, fails=True)


def test_a_closed_site_takes_nothing_and_stays_listed(shop: Shop, cli: Cli) -> None:
    public_id = shop.site.public_id
    cli("site", "close", public_id)
    assert [(site["site"], site["status"]) for site in cli("site", "list")] == [(public_id, "closed")]
    with pytest.raises(RefusedError, match="is closed or unknown"):
        shop.capture("a")
    assert "closed already" in cli("site", "close", public_id, fails=True)


@pytest.mark.parametrize(
    "words",
    [
        ("site", "add", "Store"),
        ("site", "close", "SITE"),
        ("site", "change", "SITE", "--no-origin"),
        ("plan", "drop", "SITE", "12345678"),
        ("key", "add", "SITE"),
        ("plan", "set", "SITE", "--limit", "5"),
    ],
)
def test_only_approvers_and_owners_change_what_is_taken(shop: Shop, cli: Cli, words: tuple[str, ...]) -> None:
    given = [shop.site.public_id if word == "SITE" else word for word in words]
    assert "is no approver or owner" in cli(*given, "--as", "bob", fails=True)
    assert "does not belong" in cli(*given, "--as", "eve", fails=True)


def test_a_plan_changes_what_is_said_and_keeps_the_rest(shop: Shop, cli: Cli) -> None:
    public_id = shop.site.public_id
    first = cli(
        "plan",
        "set",
        public_id,
        "--limit",
        "500",
        "--soft",
        "--cap",
        "1.5",
        "--tier",
        "1000:2.50",
        "--tier",
        "rest:2",
    )
    assert (first["monthly_limit"], first["tiers"], first["currency"]) == (
        500,
        ["1000:2.50", "rest:2"],
        "USD",
    )
    second = cli("plan", "set", public_id, "--overage-price", "3", "--from", "2100-01-01T00:00")
    changed = {"overage_price_per_1k": "3", "valid_from": "2100-01-01T00:00:00+00:00", "id": second["id"]}
    assert second == first | changed
    now, then = cli("plan", "show", public_id), cli("plan", "show", public_id, "--at", "2100-01-02T00:00")
    assert (now["overage_price_per_1k"], then["overage_price_per_1k"]) == (None, "3")
    assert now["valid_to"] == then["valid_from"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing of the plan is given"),
        (("--currency", "XXX"), "--currency 'XXX' is no ISO 4217 code"),
        (("--minimum", "-1"), "--minimum '-1' is no number from 0 on"),
        (("--cap", "0.5"), "--cap '0.5' is no number from 1 on"),
        (("--base-price", "nan"), "--base-price 'nan' is no number"),
        (("--tier", "1000:2"), "--tier rest:PRICE"),
        (("--tier", "rest:2", "--tier", "10:1"), "--tier rest:PRICE"),
        (("--tier", "10:1", "--tier", "10:1", "--tier", "rest:1"), "no tier behind the one before it"),
        (("--tier", "rest:x"), "--tier rest: 'x' is no number"),
        (("--limit", "5", "--from", "2001-01-01T00:00"), "cannot begin in the past"),
        (("--limit", "-2"), "--limit '-2' is no number of events"),
        (("--limit", "1000000000000000"), "is no number of events: write one such as 1000, or unlimited"),
        (("--limit", "5", "--from", "soon"), "'soon' is no instant"),
    ],
)
def test_a_plan_that_cannot_stand_is_refused(shop: Shop, cli: Cli, words: tuple[str, ...], told: str) -> None:
    assert told in cli("plan", "set", shop.site.public_id, *words, fails=True)


@pytest.mark.parametrize("word", ["unlimited", "-1"])
def test_a_plan_without_a_limit_says_so(shop: Shop, cli: Cli, word: str) -> None:
    public_id = shop.site.public_id
    assert cli("plan", "set", public_id, "--limit", word)["monthly_limit"] == "unlimited"
    assert cli("plan", "show", public_id)["monthly_limit"] == "unlimited"
    ((row,)) = cli("used")
    assert (row["limit"], row["remaining"], row["projected_overage"]) == ("unlimited", "unlimited", 0)
    assert cli("plan", "set", public_id, "--limit", "0", "--from", "2100-01-01T00:00")["monthly_limit"] == 0


def test_a_plan_that_has_not_begun_is_listed_and_dropped(shop: Shop, cli: Cli) -> None:
    public_id = shop.site.public_id
    cli("plan", "set", public_id, "--limit", "5")
    cli("plan", "set", public_id, "--limit", "6", "--from", "2100-01-01T00:00Z")
    later, present = cli("plan", "list", public_id)
    assert [plan["monthly_limit"] for plan in (later, present)] == [6, 5]
    assert "names 0 plans" in cli("plan", "drop", public_id, "00000000", fails=True)
    assert "ruled by it" in cli("plan", "drop", public_id, present["id"], fails=True)
    cli("plan", "drop", public_id, later["id"][:8])
    ((plan,)) = cli("plan", "list", public_id)
    assert (plan["id"], plan["valid_to"]) == (present["id"], None)


def test_origins_of_a_site_are_replaced(shop: Shop, cli: Cli) -> None:
    public_id = shop.site.public_id
    given = ("--origin", "https://a.co", "--origin", "https://b.co:8443")
    cli("site", "change", public_id, *given)
    assert cli("site", "list")[0]["origins"] == ["https://a.co", "https://b.co:8443"]
    assert "is no origin" in cli("site", "change", public_id, "--origin", "b.co", fails=True)
    for words in ((), ("--no-origin", *given)):
        assert "name every origin" in cli("site", "change", public_id, *words, fails=True)
    cli("site", "change", public_id, "--no-origin")
    assert cli("site", "list")[0]["origins"] == []
    cli("site", "close", public_id)
    assert "is closed" in cli("site", "change", public_id, *given, fails=True)


def test_money_in_tables_has_its_currency(shop: Shop, cli: Cli) -> None:
    public_id = shop.site.public_id
    cli("plan", "set", public_id, "--base-price", "49", "--tier", "rest:0.125", "--currency", "EUR")
    shown = cli("plan", "show", public_id, as_table=True)
    assert ("base price 49.00 EUR" in shown, "tiers rest: 0.125 EUR" in shown, "currency" in shown) == (
        True,
        True,
        False,
    )
    assert "49.00 EUR" in cli("plan", "list", public_id, as_table=True)
    used = cli("used", as_table=True)
    assert ("invoice" in used, "49.00 EUR" in used) == (True, True)


def test_money_is_shown_in_one_form() -> None:
    shown = [
        views.money(Decimal(amount), currency)
        for amount, currency in (
            ("5", "USD"),
            ("1234567.5000", "EUR"),
            ("0.125", "USD"),
            ("900", "JPY"),
            ("-2.5", "KWD"),
        )
    ]
    assert shown == ["5.00 USD", "1,234,567.50 EUR", "0.125 USD", "900 JPY", "-2.500 KWD"]
    assert views.money(None, "USD") is None


def test_meters_are_added_listed_and_ended(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    made = cli(
        "meters", "add", "bytes", "--kind", "sum", "--value", "size", "--category", "api", "--by", "region"
    )
    assert (made["value_path"], made["dimensions"]) == ("size", ["region"])
    file = tmp_path / "a.jsonl"
    file.write_text('{"url":"a","ec":"api","size":2.5}\n{"url":"b","ec":"api","size":4}\n')
    cli("ingest", file, "--site", shop.site.public_id)
    month = f"{datetime.now(UTC):%Y-%m}"
    assert [(row["meter"], row["value"]) for row in cli("meters", "list", "--month", month)] == [
        ("bytes", "6.5")
    ]
    cli("meters", "end", "bytes")
    ((row,)) = cli("meters", "list")
    assert (row["name"], row["ended_at"] is None) == ("bytes", False)
    assert "is no approver or owner" in cli(
        "meters", "add", "x", "--kind", "count", "--as", "bob", fails=True
    )


def test_files_are_metered_and_every_line_reported(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    file, report = tmp_path / "a.jsonl", tmp_path / "report.csv"
    file.write_text('{"url":"a"}\nnothing\n{"url":"b"}\n')
    given = ("ingest", file, "--site", shop.site.public_id, "--report", report)
    foreseen = cli(*given, "--dry-run")
    assert [(row["status"], row["events"]) for row in foreseen] == [("new", 2), ("invalid", 1)]
    assert shop.ledger() == {}
    assert [(row["status"], row["events"]) for row in cli(*given)] == [("queued", 2), ("invalid", 1)]
    with report.open(newline="") as rows:
        told = list(csv.DictReader(rows))
    assert tuple(told[0]) == inbox.COLUMNS
    assert [(row["line"], row["status"]) for row in told] == [
        ("1", "queued"),
        ("2", "invalid"),
        ("3", "queued"),
    ]
    assert {row["key"] for row in told} == {"", *shop.ledger()} == {"", told[0]["key"], told[2]["key"]}
    assert [bool(row["month"]) for row in told] == [True, False, True]
    assert [(row["status"], row["events"]) for row in cli(*given)] == [("duplicate", 2), ("invalid", 1)]
    assert len(shop.ledger()) == 2


def test_a_file_or_site_that_is_not_there_is_named(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    missing = tmp_path / "none.csv"
    assert (
        cli("ingest", missing, "--site", "x", fails=True) == f"{missing} is no file: name one that is there"
    )
    near = shop.site.public_id[:-1]
    assert f"did you mean {shop.site.public_id}?" in cli("plan", "show", near, fails=True)


def test_a_month_is_told_with_the_overage_its_pace_leads_to(shop: Shop) -> None:
    prices = {"base_price": Decimal(10), "overage_price_per_1k": Decimal(1500), "currency": "EUR"}
    shop.soft(10, at=datetime(2026, 1, 1, tzinfo=UTC), **prices)
    shop.capture(*map(str, range(14)), at=AT)
    middle = datetime(2026, 1, 16, 12, tzinfo=UTC)
    with shop.engine.begin() as connection:
        (now,) = overview.month(connection, shop.tenant_id, "2026-01", middle)
        (then,) = overview.month(connection, shop.tenant_id, "2026-01", middle + timedelta(days=60))
        (first,) = overview.month(connection, shop.tenant_id, "2026-01", datetime(2026, 1, 1, tzinfo=UTC))
    assert (now.limit, now.used, now.remaining, now.overage, now.refused) == (10, 14, 0, 4, 0)
    # Twice as many at this pace, and no more than the cap; 10 of them beyond the limit at 1.50 each.
    assert (now.projected, now.projected_overage) == (20, 10)
    assert (now.projected_invoice, now.currency) == (Decimal("25.00"), "EUR")
    assert (then.projected, then.projected_overage, first.projected) == (14, 4, 14)


def test_a_month_of_nothing_is_told_and_one_to_come_is_refused(shop: Shop, cli: Cli) -> None:
    assert [(row["used"], row["remaining"], row["projected"]) for row in cli("used")] == [(0, 1000, 0)]
    assert "has not begun" in cli("used", "--month", "2999-01", fails=True)
    assert "is no month" in cli("used", "--month", "2026-13", fails=True)


def test_an_unknown_version_of_keys_stops_the_program(
    cli: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project import settings

    monkeypatch.setenv("OPSMANTIK_IDEMPOTENCY_VERSION", "4")
    settings.settings.cache_clear()
    assert "OPSMANTIK_IDEMPOTENCY_VERSION" in cli("site", "list", fails=True)


def test_the_version_of_keys_is_that_of_the_setting(
    cli: Cli, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster_project import settings

    monkeypatch.setenv("OPSMANTIK_IDEMPOTENCY_VERSION", "3")
    settings.settings.cache_clear()
    (tmp_path / "a.jsonl").write_text('{"url":"a","sid":"v"}\n')
    cli("ingest", tmp_path / "a.jsonl", "--site", shop.site.public_id)
    (key,) = shop.ledger()
    assert key.startswith("v3:")


def test_sites_of_one_name_are_told_apart(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        made: list[sites.Site] = [sites.make(connection, shop.tenant_id, "twin") for _ in range(2)]
        with pytest.raises(RefusedError, match="2 sites named 'twin'"):
            sites.find(connection, shop.tenant_id, "twin")
        assert sites.find(connection, shop.tenant_id, str(made[1].id)) == made[1]


@pytest.mark.parametrize("begins", ["2100-12-01", "2100-12-01T00:00", "2100-12-01T09:00+09:00"])
def test_a_day_is_meant_in_utc_as_months_are(shop: Shop, cli: Cli, begins: str) -> None:
    with shop.engine.begin() as connection:
        tenancy.set_config(
            connection,
            shop.tenant_id,
            {"time_zone": "Asia/Tokyo"},
            valid_from=AT,
            author="ann",
            reason="a test",
        )
    public_id = shop.site.public_id
    cli("plan", "set", public_id, "--limit", "5", "--from", begins)
    shown = cli("plan", "show", public_id, "--at", "2100-12-01")
    assert datetime.fromisoformat(shown["valid_from"]) == datetime(2100, 12, 1, tzinfo=UTC)
    assert [shown["id"]] == [plan["id"] for plan in cli("plan", "list", public_id)]


def test_an_amount_that_nobody_can_pay_is_refused(shop: Shop, cli: Cli) -> None:
    given = ("plan", "set", shop.site.public_id)
    for option in ("--base-price", "--minimum"):
        assert "cannot be paid in USD" in cli(*given, option, "4.999", fails=True)
    assert cli(*given, "--base-price", "4.99", "--tier", "rest:0.0375")["tiers"] == ["rest:0.0375"]
    assert "cannot be paid in JPY" in cli(*given, "--base-price", "4.5", "--currency", "JPY", fails=True)


def test_a_closed_site_is_marked_and_not_projected(shop: Shop, cli: Cli) -> None:
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    shop.plan(100, at=begins, base_price=Decimal(7), plan_tier="pro")
    shop.capture("a", "b")
    with shop.engine.begin() as connection:
        sites.close(connection, shop.site, actor="ann", at=AT)
    with shop.engine.begin() as connection:
        (told,) = overview.month(connection, shop.tenant_id, "2026-01", AT + timedelta(days=1))
        (before,) = overview.month(connection, shop.tenant_id, "2026-01", AT - timedelta(days=7))
    assert (told.status, told.plan, told.limit, told.remaining) == ("closed", "pro", 100, 0)
    assert (told.projected, told.projected_invoice) == (2, Decimal("7.00"))
    assert (before.status, before.projected) == ("active", 8)
    assert f"{shop.site.public_id} (closed)" in cli("used", "--month", "2026-01", as_table=True)
    assert "is closed" in cli("key", "add", shop.site.public_id, fails=True)


def test_events_of_a_month_that_was_not_metered_are_counted_apart(
    shop: Shop, cli: Cli, tmp_path: Path
) -> None:
    lines = ['{"url":"a","sid":"v","received_at":"2020-03-01T00:00:00Z"}', '{"url":"b","sid":"v"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    given = ("ingest", tmp_path / "a.jsonl", "--site", shop.site.public_id)
    now = f"{datetime.now(UTC):%Y-%m}"
    rows = cli(*given, "--dry-run")
    assert [(row["month"], row["came_in"], row["events"]) for row in rows] == [
        (now, "2020-03", 1),
        (now, now, 1),
    ]
    assert f"{now} 2020-03 queued 1" in cli(*given, as_table=True)
    assert "came in" not in cli(*given, as_table=True)
