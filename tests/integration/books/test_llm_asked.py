"""A language model in production: who is asked about what, what is made of it, and that a night is whole without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from dagster_project import settings as program
from kernel.books import llm_asking, llm_budget, settings
from kernel.books.contract import BankLine, Opinion, Scored, Sure
from kernel.books.llm_asking import Batch
from kernel.books.llm_budget import Limits
from kernel.books.llm_openai import OpenAi
from tests.fakes.language_model import Service, serving
from tests.integration.books.deciding import AT, Deciding, deciding

Command = Callable[..., SimpleNamespace]
KEY = "sk-a-key-that-nobody-may-see"
LOOSE = Limits(Decimal(1), Decimal(10_000))
# 200 tokens of 0.15 and 2 of 0.60 dollars for a million of them.
COST = "0.000032"


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    made = deciding(books_engine)
    made.run(settings.change, {"llm_enabled": True}, author="bob", reason="tried", at=AT - timedelta(days=50))
    return made


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with serving() as made:
        monkeypatch.setenv("REVENUE_OS_LLM_URL", made.address)
        monkeypatch.setenv("REVENUE_OS_LLM_MODEL", "gpt-4o-mini")
        monkeypatch.setenv("REVENUE_OS_LLM_KEY", KEY)
        yield made


def batch(books: Deciding, service: Service, **given: Any) -> Batch:
    labeller = OpenAi(service.address, "gpt-4o-mini", KEY, timeout_seconds=0.3)
    return Batch(
        books.engine, given.pop("labeller", labeller), given.pop("limits", LOOSE), given.pop("clock", lambda: AT)
    )  # fmt: skip


def rule(books: Deciding, pattern: str, account: str) -> None:
    books.pinned(
        "insert into books.rules (tenant_id, match, pattern, account_code, status, proposed_by, decided_at)"
        " values (:tenant_id, 'regex', :pattern, :account, 'active', 'ann', now())",
        pattern=pattern,
        account=account,
    )


def decide(command: Command, at: Any = AT) -> SimpleNamespace:
    made = command("decide", "--json", at=at)
    assert made.code == 0, made.text
    return made


def spent(books: Deciding) -> Decimal:
    return books.run(llm_budget.status, caps=llm_budget.Caps(), at=AT).tenant_spend_usd


def test_a_line_that_nobody_knows_is_asked_about_once_and_its_answer_is_explained_and_charged(
    books: Deciding, command: Command, service: Service
) -> None:
    service.said["quillmark"] = "6300"
    first, _ = books.lines(-1000, -2000, vendor="quillmark")
    told = decide(command).json["language_model"]
    assert (told["asked"], told["answered"], told["cost_usd"]) == (1, 2, COST)
    explained = command("explain", first, "--json").json
    assert explained["llm"] == {"model": "gpt-4o-mini", "account": "6300"}
    assert explained["proposed_account"] == "6300"
    assert "gpt-4o-mini answered 6300" in command("explain", first).text
    assert spent(books) == Decimal(COST)
    again = decide(command).json
    assert (again["decided"], again["language_model"]["asked"], again["language_model"]["cached"]) == (
        0,
        0,
        1,
    )
    assert service.vendors == ["quillmark"]


def test_an_answer_is_no_label(books: Deciding, command: Command, service: Service) -> None:
    service.said["quillmark"] = "6300"
    books.lines(-1000, vendor="quillmark")
    decide(command)
    assert books.pinned("select count(*) as n from books.labels where tenant_id = :tenant_id")[0].n == 0


@pytest.mark.parametrize("said", ["9999", "1000", "6300 or 6400", "", "\x00\ud800"])
def test_a_reply_that_is_no_code_of_the_chart_is_no_answer(
    books: Deciding, command: Command, service: Service, said: str
) -> None:
    service.said["quillmark"] = said
    (line,) = books.lines(-1000, vendor="quillmark")
    assert decide(command).json["language_model"]["asked"] == 1
    decision = books.decision(line)
    assert (decision.proposed_account, "llm" in decision.explain) == (None, False)


@pytest.mark.parametrize(
    "used", [{"prompt_tokens": 10**30, "completion_tokens": 1}, {"prompt_tokens": -5}, None]
)
def test_a_count_of_tokens_that_cannot_be_is_charged_at_the_worst(
    books: Deciding, command: Command, service: Service, used: Any
) -> None:
    service.used = used
    books.lines(-1000, vendor="quillmark")
    decide(command)
    assert Decimal(COST) < spent(books) < Decimal("0.001")


def test_about_a_vendor_that_a_rule_or_a_person_knows_nobody_is_asked(
    books: Deciding, command: Command, service: Service
) -> None:
    books.known(vendor="answered", times=1)
    rule(books, "ruled", "6300")
    rule(books, "disputed", "6300")
    rule(books, "disputed x", "6400")
    for vendor in ("answered", "ruled", "disputed", "quillmark"):
        books.lines(-1000, vendor=vendor, text=f"{vendor} x")
    decide(command)
    assert sorted(service.vendors) == ["disputed", "quillmark"]


def test_what_people_say_of_a_vendor_outdoes_what_a_language_model_said(
    books: Deciding, command: Command, service: Service
) -> None:
    service.said["quillmark"] = "6300"
    first, second = books.lines(-1000, -2000, vendor="quillmark")
    decide(command)
    books.said([first], "6400", at=AT + timedelta(hours=1))
    books.run(settings.change, {"threshold": "0.95"}, author="bob", reason="anew", at=AT + timedelta(hours=1))
    assert decide(command, AT + timedelta(hours=2)).json["decided"] == 1
    assert "llm" not in books.decision(second).explain


@pytest.mark.parametrize("off", ["setting", "program"])
def test_nobody_is_asked_unless_tenant_and_program_want_it(
    books: Deciding, command: Command, service: Service, off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if off == "setting":
        books.run(settings.change, {"llm_enabled": False}, author="bob", reason="off", at=AT)
    else:
        for name in ("URL", "MODEL", "KEY"):
            monkeypatch.delenv(f"REVENUE_OS_LLM_{name}")
    books.lines(-1000, vendor="quillmark")
    told = decide(command).json
    assert (told["decided"], told["language_model"], service.asked) == (1, None, [])


def test_an_answer_that_came_before_a_tenant_wanted_none_is_not_read_any_more(
    books: Deciding, command: Command, service: Service
) -> None:
    service.said["quillmark"] = "6300"
    (line,) = books.lines(-1000, vendor="quillmark")
    decide(command)
    books.run(settings.change, {"llm_enabled": False}, author="bob", reason="off", at=AT)
    decide(command)
    assert "llm" not in books.decision(line).explain


def test_a_line_is_decided_without_a_service_and_anew_once_it_answered(
    books: Deciding, command: Command, service: Service
) -> None:
    service.status = 503
    (line,) = books.lines(-1000, vendor="quillmark")
    told = decide(command).json
    assert (told["decided"], told["language_model"]["failures"]) == (1, 1)
    assert told["language_model"]["why"] == "the service answered with status 503"
    assert books.decision(line).proposed_account is None
    service.status, service.said["quillmark"] = 200, "6400"
    assert decide(command).json["decided"] == 1
    assert books.decision(line).proposed_account == "6400"
    assert decide(command).json["decided"] == 0


def test_a_service_that_is_not_there_changes_nothing_else(
    books: Deciding, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as gone:
        pass
    monkeypatch.setenv("REVENUE_OS_LLM_URL", gone.address)
    monkeypatch.setenv("REVENUE_OS_LLM_MODEL", "gpt-4o-mini")
    for number in range(5):
        books.lines(-1000, vendor=f"vendor{number}")
    told = decide(command).json
    assert (told["decided"], told["language_model"]["failures"], told["language_model"]["left"]) == (5, 3, 5)
    assert spent(books) == 0


def test_a_slow_service_is_given_up_and_the_worst_is_charged(books: Deciding, service: Service) -> None:
    service.seconds = 1
    for number in range(4):
        books.lines(-1000, vendor=f"vendor{number}")
    made = batch(books, service).ask(books.tenant_id)
    assert (made.calls, made.failures, made.is_away, made.left) == (3, 3, True, 4)
    assert spent(books) == Decimal(made.micros) / 1_000_000 > 0


def test_a_model_without_a_price_is_told_and_not_asked(
    books: Deciding, command: Command, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVENUE_OS_LLM_MODEL", "unheard-of")
    books.lines(-1000, vendor="quillmark")
    made = command("decide")
    assert (made.code, service.asked) == (0, [])
    assert "Nobody was asked: language model 'unheard-of' has no price" in made.text


def test_a_budget_that_is_used_up_is_told_and_nobody_is_asked(
    books: Deciding, command: Command, service: Service
) -> None:
    books.run(settings.change, {"llm_tenant_cap_usd": 0}, author="bob", reason="saved", at=AT)
    (line,) = books.lines(-1000, vendor="quillmark")
    for _ in range(2):
        assert decide(command).json["language_model"]["refused"] == "tenant_budget_exceeded"
    assert service.asked == []
    assert "budget_fallback" in books.decision(line).failures


def test_a_fallback_that_is_over_ends_before_the_asking(
    books: Deciding, command: Command, service: Service
) -> None:
    books.run(settings.change, {"llm_tenant_cap_usd": 0}, author="bob", reason="saved", at=AT)
    books.lines(-1000, vendor="quillmark")
    decide(command)
    books.run(settings.change, {"llm_tenant_cap_usd": 1}, author="bob", reason="enough", at=AT)
    assert decide(command).json["language_model"]["asked"] == 1


def test_a_call_that_its_caller_forgot_is_settled_before_the_asking(
    books: Deciding, command: Command, service: Service
) -> None:
    (line,) = books.lines(-1000, vendor="quillmark")
    forgotten = {"model": "gpt-4o-mini", "cache_key": "k", "micros": 5, "caps": llm_budget.Caps()}
    books.run(llm_budget.reserve, line, **forgotten, at=AT - timedelta(minutes=20))
    decide(command)
    rows = books.pinned("select status from books.llm_calls where tenant_id = :tenant_id")
    assert [row.status for row in rows] == ["settled", "settled"]


def test_a_batch_asks_no_more_than_the_cap_of_calls_has_room_for(
    books: Deciding, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_budget, "LEAST_DECIDED", 4)
    books.decide(books.lines(-1, -2, -3, -4, vendor="quillmark"))
    for number in range(3):
        books.lines(-1000, vendor=f"vendor{number}")
    made = batch(books, service, limits=replace(LOOSE, calls_per_txn=Decimal("0.5"))).ask(books.tenant_id)
    assert (made.calls, made.left, made.refused) == (2, 2, None)
    assert not books.run(llm_budget.is_fallen_back, at=AT)


def test_the_most_frequent_vendors_are_asked_about_first(books: Deciding, service: Service) -> None:
    books.lines(-1000, vendor="once")
    books.lines(-1000, -2000, vendor="twice")
    batch(books, service).ask(books.tenant_id)
    assert service.vendors == ["twice", "once"]


def test_once_a_service_is_away_no_other_tenant_waits_for_it(
    books: Deciding, books_engine: sa.Engine, service: Service
) -> None:
    service.status = 500
    other = deciding(books_engine)
    other.run(settings.change, {"llm_enabled": True}, author="bob", reason="tried", at=AT)
    for each in (books, other):
        for number in range(4):
            each.lines(-1000, vendor=f"vendor{number}")
    night = batch(books, service)
    assert night.ask(books.tenant_id).is_away
    left = night.ask(other.tenant_id)
    assert (left.left, left.why, len(service.asked)) == (4, "the service answered with status 500", 3)


def test_a_batch_ends_with_its_time(books: Deciding, service: Service) -> None:
    now = [AT]
    night = batch(books, service, clock=lambda: now[0])
    books.lines(-1000, vendor="quillmark")
    now[0] += llm_asking.LONGEST
    assert (night.ask(books.tenant_id).left, service.asked) == (1, [])


def test_the_key_is_in_no_answer_no_log_and_no_record(
    books: Deciding, command: Command, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.status = 401
    books.lines(-1000, vendor="quillmark")
    made = decide(command)
    given = program.settings()
    assert given.llm_key == KEY
    kept = books.pinned("select calls::text from books.llm_calls as calls where tenant_id = :tenant_id")
    shown = f"{made.text} {caplog.text} {given!r} {given} {given.labeller()!r} {kept}"
    assert "status 401" in shown
    assert KEY not in shown


def test_nothing_passes_on_the_word_of_a_language_model(books: Deciding) -> None:
    books.known(vendor="quillmark")
    books.certify("0.80")
    books.enable()
    (line,) = books.lines(-1000, vendor="quillmark")

    def certain(lines: list[BankLine], scored: list[Scored]) -> list[Sure]:
        return [Sure(1.0) for _ in lines]

    nothing = [Scored(line, None, 0.0, (), True, "f", "m1")]
    opinions = {line: Opinion("gpt-4o-mini", "6300")}
    books.decide([line], modelled=nothing, opinions=opinions, surety=certain)
    found = books.decision(line)
    assert (found.proposed_account, found.calibrated_p, found.verdict) == ("6300", None, "review")
    assert found.failures == ["below_threshold"]
