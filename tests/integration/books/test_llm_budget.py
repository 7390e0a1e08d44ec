"""Language models never cost more than their caps, whoever asks at the same time and whoever dies on the way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import llm, llm_budget
from kernel.books.contract import BankLine
from kernel.books.llm import Account, NoReply, NotAsked, Question, Reply
from kernel.books.llm_budget import Caps, Refused, Reservation
from kernel.books.prices import Price
from kernel.errors import RefusedError
from models.books import books_audit
from tests.integration.books import bookkeeping
from tests.integration.books.bookkeeping import Books

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
# Other tests of this module spend too: what is global is tried in months of its own.
LOOSE = Caps(Decimal(1), Decimal(50), Decimal(10_000))
PRICES = (Price("m", date(2020, 1, 1), Decimal(1), Decimal(1)),)


def reserve(books: Books, txn_id: UUID, micros: int, *, caps: Caps = LOOSE, at: datetime = AT) -> Any:
    with books.engine.begin() as connection:
        return llm_budget.reserve(
            connection, books.tenant_id, txn_id, model="m", cache_key="k", micros=micros, caps=caps, at=at
        )


def settle(books: Books, reservation: Reservation, micros: int, at: datetime = AT) -> bool:
    with books.engine.begin() as connection:
        return llm_budget.settle(
            connection, reservation, micros=micros, prompt_tokens=1, completion_tokens=1, answer=None, at=at
        )


def status(books: Books, *, caps: Caps = LOOSE, at: datetime = AT) -> llm_budget.Status:
    with books.engine.begin() as connection:
        return llm_budget.status(connection, books.tenant_id, caps=caps, at=at)


def decided(books: Books, count: int, at: datetime = AT) -> None:
    """So many transactions that were decided about."""
    books.pinned(
        """
        with lines as (
            insert into books.transactions (
                tenant_id, bank_account_id, content_hash, post_date, amount_minor, currency, description, first_file_id
            )
            select :tenant_id, bank_account_id, sha256(number::text::bytea), post_date, -1, 'USD', 'x', first_file_id
            from books.transactions, generate_series(1, :count) as number
            where transactions.tenant_id = :tenant_id
            returning id
        )
        insert into books.decisions (
            tenant_id, number, txn_id, run_id, decided_at, vendor, verdict, not_auto_post_reason, failures, is_audited,
            label_count, is_new_vendor, ruleset_version, model_version, calibrator_version, config_version, feature_hash,
            explain, previous_hash, hash
        )
        select :tenant_id, row_number() over (), id, 'r', :at, 'v', 'review', 'below_threshold', '{}', false, 0, false,
            'r', 'm', 'c', 'v1', 'f', '{}', '', ''
        from lines
        """,
        count=count,
        at=at,
    )


def events(books: Books) -> list[tuple[str, dict]]:
    rows = books.pinned("select event, detail from books.books_audit where event like 'llm%' order by number")
    return [(row.event, row.detail) for row in rows]


def test_what_is_reserved_counts_until_it_is_settled(books: Books) -> None:
    reserved = reserve(books, books.bank_line(), 2_000_000)
    assert status(books).tenant_spend_usd == 2
    assert settle(books, reserved, 500_000)
    assert not settle(books, reserved, 500_000)
    assert status(books).tenant_spend_usd == Decimal("0.5")


def test_what_is_given_back_costs_nothing(books: Books) -> None:
    reserved = reserve(books, books.bank_line(), 2_000_000)
    with books.engine.begin() as connection:
        assert llm_budget.give_back(connection, reserved, at=AT)
        assert not llm_budget.give_back(connection, reserved, at=AT)
    assert status(books).tenant_spend_usd == 0


def test_a_cap_may_be_reached_and_not_crossed(books: Books) -> None:
    line = books.bank_line()
    assert isinstance(reserve(books, line, 50_000_000), Reservation)
    assert reserve(books, line, 1) == Refused("tenant_budget_exceeded")


def test_sixty_of_fifty_dollars_is_the_tenants_cap(books: Books) -> None:
    line = books.bank_line()
    refused = [reserve(books, line, 300_000) for _ in range(200)]
    assert [isinstance(each, Refused) for each in refused] == [False] * 166 + [True] * 34
    assert set(refused[166:]) == {Refused("tenant_budget_exceeded")}
    found = status(books)
    assert (found.fallback_active, found.fallback_reason, found.fallback_since) == (
        True,
        "tenant_budget_exceeded",
        AT,
    )
    assert found.tenant_spend_usd == Decimal("49.8")


def test_fifteen_hundred_of_a_thousand_dollars_is_the_cap_of_all(books_engine: sa.Engine) -> None:
    caps, at = Caps(Decimal(1), Decimal(400), Decimal(1000)), datetime(2026, 3, 1, tzinfo=UTC)
    told = []
    for _ in range(5):
        books = bookkeeping.books(books_engine)
        told.append(reserve(books, books.bank_line(), 300_000_000, caps=caps, at=at))
    assert [isinstance(each, Reservation) for each in told] == [True, True, True, False, False]
    assert told[3:] == [Refused("global_budget_exceeded")] * 2
    assert status(books, caps=caps, at=at).global_spend_usd == 900


def test_ten_calls_over_a_thousand_decided_lines_are_far_from_the_cap(books: Books) -> None:
    line = books.bank_line()
    decided(books, 1000)
    caps = replace(LOOSE, calls_per_txn=Decimal("0.01"))
    told = [reserve(books, line, 1, caps=caps) for _ in range(11)]
    assert [isinstance(each, Reservation) for each in told] == [True] * 10 + [False]
    assert told[10] == Refused("calls_per_txn_exceeded")


def test_a_ratio_of_few_lines_says_nothing(books: Books) -> None:
    line = books.bank_line()
    decided(books, 99)
    caps = replace(LOOSE, calls_per_txn=Decimal(0))
    assert isinstance(reserve(books, line, 1, caps=caps), Reservation)


def test_calls_and_decisions_are_those_of_thirty_days(books: Books) -> None:
    line = books.bank_line()
    decided(books, 200, AT - timedelta(days=31))
    caps = replace(LOOSE, calls_per_txn=Decimal(0))
    assert isinstance(reserve(books, line, 1, caps=caps), Reservation)


def test_of_several_caps_the_first_is_the_reason(books: Books) -> None:
    line = books.bank_line()
    decided(books, 100)
    assert reserve(books, line, 1, caps=Caps(Decimal(0), Decimal(0), Decimal(0))) == Refused(
        "calls_per_txn_exceeded"
    )
    assert status(books).fallback_since == AT


def test_a_fallback_holds_for_calls_that_would_still_fit(books: Books) -> None:
    line = books.bank_line()
    assert isinstance(reserve(books, line, 60_000_000), Refused)
    assert reserve(books, line, 1, at=AT + timedelta(days=1)) == Refused("tenant_budget_exceeded")
    assert status(books).fallback_since == AT


def test_a_fallback_ends_with_its_month_and_says_so_in_the_audit(books: Books) -> None:
    line = books.bank_line()
    reserve(books, line, 60_000_000)
    february = datetime(2026, 2, 1, tzinfo=UTC)
    assert not status(books, at=february).fallback_active
    assert isinstance(reserve(books, line, 1, at=february), Reservation)
    began, ended = events(books)
    assert (began[0], began[1]["reason"]) == ("llm_fallback_began", "tenant_budget_exceeded")
    assert (ended[0], ended[1]["because"]) == ("llm_fallback_released", "a month began")
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        assert chain.broken(connection, books_audit, books.tenant_id) is None


def test_months_are_those_of_utc(books: Books) -> None:
    reserve(books, books.bank_line(), 60_000_000)
    east = datetime.fromisoformat("2026-02-01T00:30:00+01:00")
    assert status(books, at=east).fallback_active


def test_a_cap_that_is_raised_ends_a_fallback_and_another_one_does_not(books: Books) -> None:
    line = books.bank_line()
    reserve(books, line, 60_000_000)
    assert isinstance(reserve(books, line, 1, caps=replace(LOOSE, global_usd=Decimal(20_000))), Refused)
    assert isinstance(reserve(books, line, 1, caps=replace(LOOSE, tenant_usd=Decimal(51))), Reservation)
    assert events(books)[-1][1]["because"] == "the cap was raised"


def test_a_call_whose_caller_died_is_taken_to_have_cost_its_worst(books: Books) -> None:
    dead = reserve(books, books.bank_line(), 2_000_000)
    with books.engine.begin() as connection:
        assert llm_budget.settle_forgotten(connection, books.tenant_id, at=AT + timedelta(minutes=14)) == 0
        assert llm_budget.settle_forgotten(connection, books.tenant_id, at=AT + timedelta(minutes=16)) == 1
        assert llm_budget.settle_forgotten(connection, books.tenant_id, at=AT + timedelta(minutes=17)) == 0
    assert status(books).tenant_spend_usd == 2
    assert not settle(books, dead, 1)
    assert events(books)[-1][0] == "llm_calls_forgotten"


def test_a_projection_is_of_the_whole_month(books: Books) -> None:
    reserve(books, books.bank_line(), 1_000_000)
    assert status(books, at=datetime(2026, 1, 11, tzinfo=UTC)).projected_usd == Decimal("3.1")
    assert status(books, at=datetime(2026, 1, 1, 1, tzinfo=UTC)).projected_usd == 31


@dataclass
class Crowd:
    """64 callers at once, each with a connection of its own."""

    engine: sa.Engine
    refused: list[str] = field(default_factory=list)
    reserved: list[int] = field(default_factory=list)

    def call(self, tenants: Sequence[Books], micros: int, actual: int, caps: Caps, at: datetime) -> None:
        together = threading.Barrier(64)
        lines = [books.bank_line() for books in tenants]

        def work(number: int) -> None:
            books, line = tenants[number % len(tenants)], lines[number % len(tenants)]
            mine = Books(self.engine, books.tenant_id)
            together.wait()
            for _ in range(3):
                told = reserve(mine, line, micros, caps=caps, at=at)
                if isinstance(told, Refused):
                    self.refused.append(told.reason)
                    return
                self.reserved.append(told.micros)
                settle(mine, told, actual, at)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)


@pytest.fixture
def crowd(books_engine: sa.Engine) -> Any:
    engine = sa.create_engine(books_engine.url, pool_size=64)
    yield Crowd(engine)
    engine.dispose()


def test_sixty_four_callers_at_the_cap_never_overspend_by_a_cent(books: Books, crowd: Crowd) -> None:
    caps = replace(LOOSE, tenant_usd=Decimal("1.00"))
    crowd.call([books], 70_000, 70_000, caps, AT)
    assert len(crowd.reserved) == 14
    assert set(crowd.refused) == {"tenant_budget_exceeded"}
    assert status(books, caps=caps).tenant_spend_usd == Decimal("0.98")


@pytest.mark.slow
def test_sixty_four_callers_of_eight_tenants_never_overspend_what_is_everybodys(
    books_engine: sa.Engine, crowd: Crowd
) -> None:
    caps, at = replace(LOOSE, global_usd=Decimal("1.00")), datetime(2026, 5, 5, tzinfo=UTC)
    tenants = [bookkeeping.books(books_engine) for _ in range(8)]
    crowd.call(tenants, 70_000, 70_000, caps, at)
    assert len(crowd.reserved) == 14
    assert set(crowd.refused) == {"global_budget_exceeded"}
    assert status(tenants[0], caps=caps, at=at).global_spend_usd == Decimal("0.98")


@dataclass
class Model:
    """Says what it was told to say, and counts who asked."""

    said: Any = "6300"
    model: str = "m"
    asked: list[Question] = field(default_factory=list)

    def most_tokens(self, question: Question, accounts: Sequence[Account]) -> tuple[int, int]:
        return 1000, 40

    def ask(self, question: Question, accounts: Sequence[Account]) -> Reply:
        self.asked.append(question)
        assert [account.code for account in accounts] == ["2100", "4000", "6300"]
        if isinstance(self.said, Exception):
            raise self.said
        return Reply(self.said, 100, 1)


def bank_lines(books: Books, *vendors: str) -> list[BankLine]:
    return [
        BankLine(books.bank_line(), UUID(int=1), AT.date(), -100, "USD", vendor, vendor, vendor) for vendor in vendors
    ]  # fmt: skip


def ask(books: Books, model: Model, lines: Sequence[BankLine], caps: Caps = LOOSE) -> llm.Answered:
    return llm.answers(
        books.engine, books.tenant_id, lines, model, caps=caps, clock=lambda: AT, price_list=PRICES
    )


def test_lines_of_one_vendor_and_sign_are_asked_about_once(books: Books) -> None:
    model = Model()
    lines = bank_lines(books, "staples", "staples", "viking")
    lines.append(replace(lines[0], amount_minor=100))
    told = ask(books, model, lines)
    assert told.accounts == {line.id: "6300" for line in lines}
    assert (told.calls, told.cached) == (3, 0)
    again = ask(books, model, lines)
    assert (again.accounts, again.calls, again.cached) == (told.accounts, 0, 3)
    assert status(books).tenant_spend_usd == Decimal("0.000303")


def test_a_chart_that_changed_is_asked_about_anew_and_another_tenants_answers_are_not_taken(
    books: Books, books_engine: sa.Engine
) -> None:
    model, lines = Model(), bank_lines(books, "staples")
    ask(books, model, lines)
    books.pinned("update books.accounts set name = 'Paper' where code = '6300'")
    assert ask(books, model, lines).calls == 1
    other = bookkeeping.books(books_engine)
    assert ask(other, model, bank_lines(other, "staples")).calls == 1


def test_an_account_that_the_chart_does_not_have_is_no_answer(books: Books) -> None:
    told = ask(books, Model("1000"), bank_lines(books, "staples"))
    assert (told.accounts, told.calls) == ({}, 1)


def test_a_model_that_was_not_asked_costs_nothing_and_one_that_did_not_answer_its_worst(books: Books) -> None:
    lines = bank_lines(books, "a", "b", "c", "d", "e")
    told = ask(books, Model(NotAsked("away")), lines)
    assert (told.calls, told.failures, told.accounts) == (llm.MOST_FAILURES, llm.MOST_FAILURES, {})
    assert status(books).tenant_spend_usd == 0
    ask(books, Model(NoReply("lost")), lines[:1])
    assert status(books).tenant_spend_usd == Decimal("0.00104")


def test_nobody_is_asked_beyond_a_cap(books: Books) -> None:
    model, caps = Model(), replace(LOOSE, tenant_usd=Decimal("0.0012"))
    told = ask(books, model, bank_lines(books, "a", "b", "c", "d"), caps)
    assert (len(model.asked), told.refused) == (2, "tenant_budget_exceeded")


def test_a_model_without_a_price_is_not_asked(books: Books) -> None:
    model = Model(model="unheard-of")
    with pytest.raises(RefusedError, match="has no price"):
        ask(books, model, bank_lines(books, "a"))
    assert model.asked == []


def test_a_batch_without_a_model_is_complete(books: Books) -> None:
    assert ask(books, Model(), []) == llm.Answered()
