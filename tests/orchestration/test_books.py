"""The books as the daemon and analysts meet them: a night of statements and decisions, a week of learning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa

from dagster_project.defs.books import learning, shared, work
from dagster_project.settings import settings
from kernel import tenancy
from kernel.books import labels, onboard
from kernel.books import settings as books_settings
from kernel.books.labels import Label
from quality.books import INVARIANTS
from samples.statements import SMALL, statements
from tests.fakes.language_model import Service, serving
from tests.orchestration.location import run, tick

BEGINS = datetime(2025, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 6, tzinfo=UTC)
BANKS = {"checking": "Checking Account", "card": "Credit Card"}
WEEK = "2026-02-22"


@dataclass
class Shop:
    engine: sa.Engine
    tenant_id: object
    owner: str
    inbox: Path

    def ask(self, query: str) -> list[tuple]:
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def hand_over(self, only: str | None = None) -> int:
        files = [file for file in statements(SMALL, 4, 7).files if only is None or file.account == only]
        for file in files:
            folder = self.inbox / BANKS[file.account]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.name).write_bytes(file.content)
        return len(files)

    def label_all(self) -> None:
        """As a ledger that was kept elsewhere has them."""
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            rows = connection.execute(
                sa.text("select id, amount_minor from books.transactions where tenant_id = :tenant_id"),
                {"tenant_id": self.tenant_id},
            ).all()
            said = [Label(row.id, "4000" if row.amount_minor > 0 else "6300") for row in rows]
            labels.write(
                connection, self.tenant_id, said, source="booked", by=self.owner, at=datetime(2026, 2, 20, tzinfo=UTC)
            )  # fmt: skip


@pytest.fixture
def shop(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shop:
    """The definitions on a test's database and folders, in March 2026."""
    places = {
        name: tmp_path / name for name in ("books_inbox", "books_models", "books_exports", "books_reports")
    }
    given = settings().model_copy(update=places)
    for module in (learning, work):
        monkeypatch.setattr(module, "settings", lambda: given)
        monkeypatch.setattr(module, "now", lambda: NOW)
    for module in (learning, shared, work):
        monkeypatch.setattr(module, "engine", lambda: engine)
    with engine.begin() as connection:
        made = onboard.onboard(connection, "starter", "Fox Bindery", external_key="", at=BEGINS)
    return Shop(engine, made.tenant_id, made.owner, tmp_path / "books_inbox" / made.slug)


def _checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def test_a_night_imports_decides_reports_and_proposes_for_every_tenant_that_keeps_books(
    shop: Shop, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert tick("books_statements", instance) == "0 statements wait"
    handed_over = shop.hand_over()
    assert tick("books_statements", instance).tags["files"] == str(handed_over)
    result = run("keep_books", instance)
    lines = shop.ask("select count(*) from books.transactions")[0][0]
    assert lines > 100
    assert shop.ask(
        "select count(distinct txn_id), count(*) filter (where verdict = 'posted') from books.decisions"
    ) == [(lines, 0)]
    assert shop.ask("select count(*) from books.journal_entries where status = 'posted'") == [(0,)]
    found = _checks(result)
    assert {*INVARIANTS, "each_line_is_booked_once"} < found.keys()
    assert all(found.values())
    assert len(list((tmp_path / "books_reports").glob("*/shadow_*"))) == 5
    assert tick("books_statements", instance) == "0 statements wait"


def test_the_same_night_again_changes_nothing(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.hand_over()
    run("keep_books", instance)
    counts = "select (select count(*) from books.decisions), (select count(*) from books.journal_entries)"
    before = shop.ask(counts)
    run("keep_books", instance)
    assert shop.ask(counts) == before


def test_a_statement_of_no_account_is_put_aside_and_keeps_no_other_from_coming(
    shop: Shop, instance: dg.DagsterInstance
) -> None:
    shop.hand_over("card")
    lost = shop.inbox / "Savings" / "a.csv"
    lost.parent.mkdir(parents=True)
    lost.write_text("date,description,amount\n2026-01-01,Stapler,-1.00\n")
    run("keep_books", instance)
    assert shop.ask("select count(*) > 0 from books.transactions") == [(True,)]
    told = next((lost.parent / "refused").glob("*.why.txt")).read_text()
    assert "no bank account named 'Savings'" in told


@pytest.mark.parametrize(
    ("error", "waits"),
    [(ZeroDivisionError("a mistake"), False), (sa.exc.OperationalError("", {}, Exception("away")), True)],
)
def test_a_statement_that_nobody_foresaw_is_told_of_and_keeps_nothing_else_from_being_done(
    shop: Shop, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, error: Exception, waits: bool
) -> None:
    from kernel.books.ingest import importing

    whole = importing.import_file

    def fails(engine, tenant_id, account_id, path, **named):
        if path.name == "odd.csv":
            raise error
        return whole(engine, tenant_id, account_id, path, **named)

    monkeypatch.setattr(importing, "import_file", fails)
    shop.hand_over("card")
    odd = shop.inbox / BANKS["card"] / "odd.csv"
    odd.write_text("date,description,amount\n2026-01-01,Stapler,-1.00\n")
    os.utime(odd, (0, 0))
    found = {each.check_name: each for each in run("keep_books", instance).get_asset_check_evaluations()}
    assert [name for name, each in found.items() if not each.passed] == ["every_statement_was_taken"]
    assert type(error).__name__ in str(found["every_statement_was_taken"].metadata["failed"].value)
    assert odd.exists() is waits
    ((lines, decided),) = shop.ask(
        "select (select count(*) from books.transactions), (select count(distinct txn_id) from books.decisions)"
    )
    assert lines == decided > 0
    assert waits or tick("books_statements", instance) == "0 statements wait"


def test_a_week_of_labels_is_learnt_and_the_model_holds(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.hand_over()
    run("keep_books", instance)
    shop.label_all()
    assert tick("books_labels", instance).tags["tenants"] == "1"
    result = run("learn_books", instance, partition_key=WEEK)
    assert _checks(result) == {"candidates_did_no_worse": True, "model_candidate_of_every_tenant": True}
    assert shop.ask("select status, label_count > 100 from books.models") == [("active", True)]
    run("certify_books", instance)
    assert shop.ask("select count(*) from books.calibrators") == [(1,)]


def test_labels_that_came_after_a_week_are_not_learnt_in_it(shop: Shop, instance: dg.DagsterInstance) -> None:
    shop.hand_over()
    run("keep_books", instance)
    shop.label_all()
    run("learn_books", instance, partition_key="2026-02-08")
    assert shop.ask("select count(*) from books.models") == [(0,)]


def test_a_tenant_that_fails_stops_no_other_and_is_named(
    shop: Shop, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml import deciding

    with shop.engine.begin() as connection:
        other = onboard.onboard(connection, "starter", "Broken", external_key="", at=BEGINS)
    whole = deciding.decide_open

    def fails(connection, tenant_id, *given, **named):
        if tenant_id == other.tenant_id:
            raise ZeroDivisionError
        return whole(connection, tenant_id, *given, **named)

    monkeypatch.setattr(deciding, "decide_open", fails)
    shop.hand_over("card")
    found = {each.check_name: each for each in run("keep_books", instance).get_asset_check_evaluations()}
    assert not found["decisions_of_every_tenant"].passed
    assert other.slug in str(found["decisions_of_every_tenant"].metadata["failed"].value)
    assert found["export_batches_of_every_tenant"].passed
    assert shop.ask("select count(*) > 0 from books.decisions") == [(True,)]


@pytest.fixture
def service(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A language model that the program has and the shop wants."""
    with shop.engine.begin() as connection:
        wanted = {"llm_enabled": True}
        books_settings.change(
            connection, shop.tenant_id, wanted, author=shop.owner, reason="tried", at=BEGINS
        )
    with serving(otherwise="6300") as made:
        given = work.settings().model_copy(update={"llm_url": made.address, "llm_model": "gpt-4o-mini"})
        monkeypatch.setattr(work, "settings", lambda: given)
        yield made


def _of_each(result: dg.ExecuteInProcessResult, name: str) -> str:
    (made,) = [
        each for each in result.get_asset_materialization_events() if each.asset_key == shared.key(name)
    ]
    return made.materialization.metadata["of_each"].value


def test_a_night_asks_a_language_model_about_lines_that_nobody_knows(
    shop: Shop, instance: dg.DagsterInstance, service: Service
) -> None:
    shop.hand_over("card")
    result = run("keep_books", instance)
    assert len(service.asked) > 3
    assert f"| {len(service.asked)} |" in _of_each(result, "llm_answers")
    noted = (
        "select distinct explain -> 'llm' ->> 'account', verdict from books.decisions where explain ? 'llm'"
    )
    assert shop.ask(noted) == [("6300", "review")]
    asked = len(service.asked)
    run("keep_books", instance)
    assert len(service.asked) == asked


def test_a_night_is_whole_without_the_language_model(
    shop: Shop, instance: dg.DagsterInstance, service: Service
) -> None:
    shop.hand_over("card")
    service.status = 503
    result = run("keep_books", instance)
    assert all(_checks(result).values())
    assert "the service answered with status 503" in _of_each(result, "llm_answers")
    assert shop.ask("select count(distinct txn_id) from books.decisions") == shop.ask(
        "select count(*) from books.transactions"
    )


def test_a_model_without_a_price_is_named_and_keeps_nothing_else_from_being_done(
    shop: Shop, instance: dg.DagsterInstance, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.hand_over("card")
    given = work.settings().model_copy(update={"llm_model": "unheard-of"})
    monkeypatch.setattr(work, "settings", lambda: given)
    found = _checks(run("keep_books", instance))
    assert [name for name, passed in found.items() if not passed] == ["llm_answers_of_every_tenant"]
    assert shop.ask("select count(*) > 0 from books.decisions") == [(True,)]
