"""The month of usage of `make demo`: what came in, what was billed, what a stranger can check, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dagster_project import runs
from dagster_project.cli import day_usage, day_usage_account
from kernel import members, tenancy
from kernel.usage import audit, close
from models.errors import RevenueOsError
from samples import team

LAST = date(2026, 11, 19)
SITES = {"acme-healthy": 300, "borealis-underperforming": 200}


@dataclass(frozen=True)
class Lived:
    engine: sa.Engine
    home: Path
    accounts: list[day_usage_account.Account]

    def again(self) -> list[day_usage_account.Account]:
        return day_usage.live(self.engine, self.home, self.home / "events", LAST)

    def rows(self, query: str) -> list[Any]:
        with self.engine.begin() as connection:
            tenancy.service(connection)
            return list(connection.execute(sa.text(query)).all())

    def packs(self) -> list[Path]:
        return sorted((self.home / "demo-usage").glob("*/dispute-*.csv"))


def company(engine: sa.Engine, slug: str) -> None:
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, slug, "USD")
        for person in team.members(slug):
            members.add(connection, tenant_id, person["user_id"], person["name"], person["role"])


@pytest.fixture(scope="module")
def small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(day_usage, "SITES", SITES)
        yield


@pytest.fixture(scope="module")
def lived(small: None, module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    engine = sa.create_engine(module_database_url)
    home = tmp_path_factory.mktemp("home")
    for slug in SITES:
        company(engine, slug)
    yield Lived(engine, home, day_usage.live(engine, home, home / "events", LAST))
    engine.dispose()


def verified(file: Path) -> subprocess.CompletedProcess[str]:
    program = file.parent.parent / "verify.py" if file.parent.name == "forged" else file.parent / "verify.py"
    return subprocess.run([sys.executable, "-I", program, file], capture_output=True, text=True, check=False)


def test_every_line_that_was_sent_is_accounted_for_and_every_event_billed_once(lived: Lived):
    for each in lived.accounts:
        assert day_usage_account.mismatches(each) == []
        assert each.metered + each.refused == SITES[each.tenant]
        assert each.metered == each.invoiced == each.delivered
        assert min(each.bad, each.conflicts, each.buffered) > 0
        assert each.duplicates > SITES[each.tenant]


def test_one_site_goes_beyond_its_limit_and_the_other_is_refused_there(lived: Lived):
    soft, hard = lived.accounts
    assert (soft.metered, soft.refused) == (300, 0)
    assert (hard.metered, hard.refused) == (180, 20)
    assert [line.kind for line in soft.lines] == ["base", "included", "tier", "tier"]
    assert [line.kind for line in hard.lines] == ["base", "included", "minimum"]
    assert [soft.total, hard.total] == ["101.25 USD", "49.00 USD"]


def test_what_came_in_the_outage_was_recovered_and_is_billed_once(lived: Lived):
    rows = lived.rows("select status, sum(cardinality(keys)) from usage.ingest_fallback_buffer group by 1")
    assert rows == [("RECOVERED", sum(each.buffered for each in lived.accounts))]
    states = dict(lived.rows("select billing_state, count(*) from usage.ingest_idempotency group by 1"))
    assert states["RECOVERED"] > 0
    assert "DEGRADED_CAPTURE" not in states


def test_the_months_are_closed_and_their_chains_hold(lived: Lived):
    assert lived.rows("select year_month, state from usage.usage_periods") == [("2026-10", "CLOSED")] * 2
    with lived.engine.begin() as connection:
        for (tenant_id,) in lived.rows("select id from spine.tenants"):
            tenancy.service(connection, tenant_id)
            assert audit.broken(connection, tenant_id) is None
            assert close.broken_chain(connection, tenant_id) is None


def test_a_stranger_accepts_the_packs_and_refuses_the_forged_copies(lived: Lived):
    forged = sorted((lived.home / "demo-usage").glob("*/forged/*.csv"))
    assert [verified(file).returncode for file in lived.packs()] == [0, 0]
    assert [verified(file).returncode for file in forged] == [1, 1]
    for file in forged:
        (twin,) = (each for each in lived.packs() if each.name == file.name)
        pairs = zip(file.read_bytes(), twin.read_bytes(), strict=True)
        assert [(a ^ b) for a, b in pairs if a != b] == [1]


def test_the_same_month_lived_again_changes_nothing(lived: Lived):
    told = "select count(*), max(number), max(hash) from usage.usage_audit"
    before = lived.rows(told)
    written = {file: file.stat().st_mtime_ns for file in (lived.home / "demo-usage").rglob("*")}
    assert lived.again() == lived.accounts
    assert lived.rows(told) == before
    assert {file: file.stat().st_mtime_ns for file in (lived.home / "demo-usage").rglob("*")} == written


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("sent", "lines were sent"),
        ("made", "are in the ledger"),
        ("altered", "conflicts are known"),
        ("invoiced", "are invoiced"),
        ("delivered", "were delivered"),
        ("delivered_twice", "1 events were delivered twice"),
    ],
)
def test_a_count_that_is_off_is_told(lived: Lived, field: str, told: str):
    account = lived.accounts[0]
    (found,) = day_usage_account.mismatches(replace(account, **{field: getattr(account, field) + 1}))
    assert told in found
    assert found.startswith("acme-healthy: ")


def test_the_invoices_and_the_table_are_told(lived: Lived, capsys: pytest.CaptureFixture[str]):
    day_usage_account.tell(lived.accounts)
    shown = capsys.readouterr().out
    assert "Invoice of acme-healthy, 2026-10: 101.25 USD" in shown
    metered = next(line.split() for line in shown.splitlines() if line.startswith("  metered"))
    assert metered == ["metered", "300", "180"]


def unproved(lived: Lived) -> None:
    """As a demonstration that was cut off before its proof."""
    for folder in (lived.home / "demo-usage").glob("*/forged"):
        shutil.rmtree(folder)


def test_what_was_lost_on_the_way_ends_the_demonstration(lived: Lived):
    unproved(lived)
    lost = next((lived.home / "events" / "acme-healthy").glob("*/*.jsonl"))
    away = lost.rename(lost.with_suffix(".away"))
    with pytest.raises(
        RevenueOsError, match=r"acme-healthy: 300 events were metered, and \d+ were delivered"
    ):
        lived.again()
    away.rename(lost)


def test_a_demonstration_that_was_cut_off_is_brought_to_its_end(lived: Lived):
    unproved(lived)
    again = lived.again()
    assert [each.metered for each in again] == [each.metered for each in lived.accounts]
    assert [each.lines for each in again] == [each.lines for each in lived.accounts]


def test_a_forged_pack_that_passes_ends_the_demonstration(lived: Lived, monkeypatch: pytest.MonkeyPatch):
    unproved(lived)
    passes = subprocess.CompletedProcess([], 0, "it is sound", "")
    monkeypatch.setattr(day_usage, "_checked", lambda *given: passes)
    with pytest.raises(RevenueOsError, match="was forged and is not refused: it is sound"):
        lived.again()


_MART = "create table analytics.{} (tenant_id uuid, site_id uuid, year_month text, {} row_count bigint, counted_to bigint)"


def test_marts_that_are_behind_count_the_month_before_it_is_closed(
    small: None, engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As after an hour of the daemon, which builds them before there is any usage."""
    built = []

    def rebuild(job: str, **given: Any) -> str:
        built.append(job)
        with engine.begin() as connection:
            connection.exec_driver_sql("drop schema analytics cascade")
        return ""

    with engine.begin() as connection:
        for statement in (
            "create schema if not exists analytics",
            _MART.format("usage_ledger_daily", "day date, billable_count bigint, overage_count bigint,"),
            _MART.format("site_usage_monthly", "event_count bigint, overage_count bigint,"),
            "grant usage on schema analytics to revenue_service",
            "grant select on all tables in schema analytics to revenue_service",
        ):
            connection.exec_driver_sql(statement)
    for slug in SITES:
        company(engine, slug)
    monkeypatch.setattr(runs, "rebuild", rebuild)
    accounts = day_usage.live(engine, tmp_path, tmp_path / "events", LAST)
    assert built == ["rebuild_usage_marts"]
    assert [day_usage_account.mismatches(each) for each in accounts] == [[], []]
