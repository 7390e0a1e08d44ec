"""What passed when it was decided is posted only where the gates hold still, and what a person approves is what was seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from dagster_project.lib import books as nights
from kernel import tenancy
from kernel.books import bulk, labels, ledger, logs, review, settings, stages
from kernel.errors import RefusedError
from models.books import accounts
from models.books_lines import transactions
from models.books_release import llm_months
from tests.integration.books.deciding import AT, ON, Deciding, certified

LATER = AT + timedelta(minutes=5)


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return certified(books_engine)


@pytest.fixture
def passed(books: Deciding) -> UUID:
    """A line that was decided to be posted by itself, by a run that died before it booked."""
    books.enable()
    (line,) = books.lines(-1000)
    assert books.decide([line]).verdicts == {"posted": 1}
    return line


def change(books: Deciding, table: sa.Table, **values: object) -> None:
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(table.update().where(table.c.tenant_id == books.tenant_id).values(**values))


def fall_back(books: Deciding) -> None:
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(
            llm_months.insert().values(
                tenant_id=books.tenant_id, year_month=f"{AT:%Y-%m}", fallback_reason="calls_per_txn_exceeded", fallback_since=AT,
                fallback_cap=50,
            )
        )  # fmt: skip


def suspect(books: Deciding) -> None:
    (other,) = books.lines(-1000)
    change(books, transactions, suspected_of=other)


def use_no_more(books: Deciding) -> None:
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(accounts.update().where(accounts.c.code == "6300").values(is_active=False))


CHANGES: dict[str, tuple[str, Callable[[Deciding], object]]] = {
    "the gate was closed": ("below_threshold", lambda books: books.certify(None, AT)),
    "more is certified to be needed": ("below_threshold", lambda books: books.certify("0.99", AT)),
    "the tenant asks for more": (
        "below_threshold",
        lambda books: books.run(
            settings.change, {"threshold": "0.98"}, author="bob", reason="careful", at=AT
        ),
    ),
    "the budget is used up": ("budget_fallback", fall_back),
    "the account is out of use": ("imbalance", use_no_more),
    "it may be another line told twice": ("anomaly", suspect),
    "people answer otherwise": (
        "cold_start",
        lambda books: books.said(books.lines(-1000, on=ON - timedelta(days=3)), "6400", at=AT),
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_passed_is_not_posted_once_a_gate_holds_no_more(
    books: Deciding, passed: UUID, what: str
) -> None:
    reason, happens = CHANGES[what]
    happens(books)
    booked = books.book(LATER)
    assert (booked.posted, dict(booked.held_back)) == (0, {f"passed when decided, {reason} by now": 1})
    assert passed in {each.txn_id for each in books.run(review.queue).lines}


def test_what_passed_and_passes_still_is_posted_by_the_next_run(books: Deciding, passed: UUID) -> None:
    assert books.book(LATER).posted == 1


def test_the_machine_posts_nothing_that_takes_two_people(books: Deciding) -> None:
    books.run(settings.change, {"four_eyes_above": 5}, author="bob", reason="careful", at=AT)
    books.enable()
    (line,) = books.lines(-1000)
    assert books.decide([line]).verdicts == {"would_post": 1}
    why = "the amount is above that for which two people are needed"
    assert books.decision(line).explain["held_back"] == why


def test_a_limit_that_came_after_the_decision_holds_too(books: Deciding, passed: UUID) -> None:
    books.run(settings.change, {"four_eyes_above": 5}, author="bob", reason="careful", at=AT)
    assert books.book(LATER).held_back == {"the amount is above that for which two people are needed": 1}


def test_who_approved_an_entry_cannot_do_away_with_the_second_person(books: Deciding) -> None:
    books.run(settings.change, {"four_eyes_above": 5}, author="bob", reason="careful", at=AT)
    (line,) = books.lines(-1000)
    books.decide([line])
    done = books.run(review.approve, [line], by="ann", at=LATER)
    for wider in (None, 50):
        with pytest.raises(RefusedError, match="four_eyes_above stays at 5 while 1 entry waits"):
            books.run(settings.change, {"four_eyes_above": wider}, author="ann", reason="quick", at=LATER)
    books.run(settings.change, {"four_eyes_above": 4}, author="ann", reason="careful", at=LATER)
    books.run(review.countersign, done.needs_another, by="bob", at=LATER)
    books.run(settings.change, {"four_eyes_above": None}, author="ann", reason="quick", at=LATER)


def test_an_approval_of_what_was_seen_is_refused_when_another_account_is_proposed_by_now(
    books: Deciding,
) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    books.decide([line], "4000", 0.31, run_id="night")
    with pytest.raises(RefusedError, match="account 4000 is proposed by now, and not 6300"):
        books.run(review.approve, [line], by="ann", at=LATER, seen={line: "6300"})
    assert books.entries() == []
    assert books.run(review.approve, [line], by="ann", at=LATER, seen={line: "4000"}).labelled == 1


def test_an_approval_of_what_was_seen_is_refused_when_somebody_answered_otherwise_meanwhile(
    books: Deciding,
) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    books.run(review.correct, {line: "6400"}, by="bob", at=LATER)
    with pytest.raises(RefusedError, match="was answered already, with account 6400 and not 6300"):
        books.run(review.approve, [line], by="ann", at=LATER, seen={line: "6300"})
    assert books.run(review.approve, [line], by="ann", at=LATER, seen={line: "6400"}).already == (line,)


def test_the_second_person_signs_an_entry_on_its_own_day_whatever_month_its_line_is_of(
    books: Deciding,
) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    books.run(review.approve, [line], by="ann", at=LATER)
    books.run(settings.change, {"four_eyes_above": 5}, author="bob", reason="careful", at=LATER)
    books.run(ledger.lock, f"{ON:%Y-%m}", actor="bob", at=LATER)
    with pytest.raises(RefusedError, match=rf"month 2026-02 is locked \(line {str(line)[:8]}\)"):
        books.run(review.correct, {line: "6400"}, by="ann", at=LATER)
    done = books.run(review.correct, {line: "6400"}, by="ann", at=LATER, on=date(2026, 3, 1))
    assert [row.entry_date for row in books.run(review.second_queue)] == [date(2026, 3, 1)]
    books.run(review.countersign, done.needs_another, by="bob", at=LATER)
    balances = {"6300": 0, "6400": Decimal("10.00"), "1000": Decimal("-10.00")}
    assert books.balances() == balances


def test_an_approval_by_vendor_books_no_line_that_is_decided_otherwise_meanwhile(
    books: Deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    read = review.queue

    def read_and_then_decided_otherwise(*given: Any, **named: Any) -> review.Queue:
        found = read(*given, **named)
        books.decide([line], "4000", 0.31, run_id="night")
        return found

    monkeypatch.setattr(review, "queue", read_and_then_decided_otherwise)
    with pytest.raises(RefusedError, match="account 4000 is proposed by now, and not 6300"):
        books.run(bulk.approve_vendor, "acme", account="6300", by="ann", at=LATER)
    assert books.run(labels.newest, [line]) == {}


def test_an_approval_at_the_terminal_tells_the_accounts_and_takes_what_was_seen(
    command: Callable[..., SimpleNamespace], books: Deciding
) -> None:
    one, two, three = books.lines(-1000, -1100, -1200)
    books.decide([one, two, three])
    assert command("approve", one, "--json").json["accounts"] == {"6300": 1}
    assert command("approve", f"{str(two)[:8]}=6300", "--json").json["posted"] == 1
    told = command("approve", f"{str(three)[:8]}=4000")
    assert (told.code, "account 6300 is proposed by now, and not 4000" in told.text) == (1, True)


def test_a_correction_does_not_lie_before_its_line(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    books.run(review.approve, [line], by="ann", at=LATER)
    with pytest.raises(RefusedError, match=f"2025-11-03 lies before the line's own day, {ON}"):
        books.run(review.correct, {line: "6400"}, by="ann", at=LATER, on=date(2025, 11, 3))
    assert books.balances() == {"6300": Decimal("10.00"), "1000": Decimal("-10.00")}


def test_nothing_is_posted_on_the_word_of_a_log_that_somebody_wrote_into(
    books: Deciding, passed: UUID
) -> None:
    assert books.run(logs.broken) == []
    copied = (
        "insert into books.decisions select tenant_id, number + 1, txn_id, run_id, decided_at, vendor, proposed_account, raw_p,"
        " 0.99, threshold, verdict, not_auto_post_reason, failures, is_audited, label_count, is_new_vendor, ruleset_version,"
        " model_version, calibrator_version, config_version, feature_hash, explain, hash, 'forged' from books.decisions"
        " where tenant_id = :tenant_id order by number desc limit 1 returning number"
    )
    ((number,),) = books.pinned(copied)
    why = f"row {number} of books.decisions does not follow from the one before it"
    assert books.run(logs.broken) == [why]
    with books.engine.begin() as connection:
        night = nights.book(connection, tenancy.find(connection, str(books.tenant_id)), at=LATER)
    assert (night.booked.posted, night.broken[-1]) == (0, why)
    assert books.run(stages.newest).stage == "P2"
