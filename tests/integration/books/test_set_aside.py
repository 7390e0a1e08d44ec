"""Lines that a person sets aside: nobody asks about them, nothing books them, and what was booked is taken back."""

from __future__ import annotations

import threading
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import chain
from kernel.books import aside, ledger, metrics, reconcile, review, settings
from kernel.books.llm_budget import Caps
from kernel.errors import RefusedError
from models.books import books_audit
from tests.integration.books.deciding import AT, ON, Deciding, certified
from tests.integration.books.importing import importer

LATER = AT + timedelta(hours=2)


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return certified(books_engine)


def waiting(books: Deciding, *amounts: int) -> list[UUID]:
    """Lines that wait, each with a proposal."""
    ids = books.lines(*amounts)
    books.decide(ids)
    books.book()
    return ids


def posted(books: Deciding, *amounts: int) -> list[UUID]:
    ids = waiting(books, *amounts)
    books.run(review.approve, ids, by="ann", at=AT + timedelta(hours=1))
    return ids


def set_aside(books: Deciding, *ids: UUID, by: str = "ann", **given: Any) -> aside.SetAside:
    return books.run(aside.set_aside, list(ids), why="told twice", by=by, at=LATER, **given)


def take_back(books: Deciding, *ids: UUID, by: str = "ann") -> list[UUID]:
    return books.run(aside.take_back, list(ids), why="it was another one", by=by, at=LATER)


def in_queue(books: Deciding) -> set[UUID]:
    return {each.txn_id for each in books.run(review.queue).lines}


def test_a_line_that_is_set_aside_waits_no_more_and_its_proposal_is_gone(books: Deciding) -> None:
    twice, other = waiting(books, -1000, -2000)
    assert set_aside(books, twice) == aside.SetAside((twice,), reversed=0, rejected=1, already=0)
    assert in_queue(books) == {other}
    assert books.book().proposed == 0
    assert {row.status for row in books.entries() if row.source_txn_id == twice} == {"rejected"}


def test_what_was_posted_is_reversed_and_stands_for_nothing(books: Deciding) -> None:
    before = books.balances()
    (line,) = posted(books, -1000)
    books.run(reconcile.reconcile, actor="ann", at=AT)
    assert set_aside(books, line).reversed == 1
    assert {code: amount for code, amount in books.balances().items() if amount} == before
    lines, entries = books.run(reconcile.open_items, ON, ON)
    assert (lines, entries) == ([], [])
    assert (
        books.run(reconcile.reconcile, actor="ann", at=AT).open_lines == 6
    )  # those that an older ledger has


def test_in_a_locked_month_the_reversal_lies_in_another(books: Deciding) -> None:
    (line,) = posted(books, -1000)
    books.run(ledger.lock, "2026-02", actor="ann", at=AT)
    with pytest.raises(
        RefusedError, match=r"month 2026-02 is locked \(line .{8}\): give a day of an open month"
    ):
        set_aside(books, line)
    assert set_aside(books, line, on=date(2026, 3, 1)).reversed == 1
    with pytest.raises(RefusedError, match="has not come yet"):
        set_aside(books, *books.lines(-10), on=date(2026, 3, 3))


def test_nobody_answers_a_line_that_is_set_aside(books: Deciding) -> None:
    (line,) = waiting(books, -1000)
    set_aside(books, line)
    why = f"bank line {line} was set aside: take it back in first"
    with pytest.raises(RefusedError, match=why):
        books.run(review.approve, [line], by="ann", at=LATER)
    with pytest.raises(RefusedError, match=why):
        books.run(review.correct, {line: "6400"}, by="ann", at=LATER)
    with pytest.raises(RefusedError, match=why):
        books.said([line], "6400", at=LATER)


def test_a_line_that_is_taken_back_in_waits_as_before(books: Deciding) -> None:
    (line,) = waiting(books, -1000)
    set_aside(books, line)
    assert take_back(books, line) == []
    assert in_queue(books) == {line}
    books.run(review.approve, [line], by="ann", at=LATER)
    assert books.balances() == {"6300": Decimal("10.00"), "1000": Decimal("-10.00")}


def test_a_line_that_was_answered_before_is_named_when_it_is_taken_back_and_booked_by_a_correction(
    books: Deciding,
) -> None:
    (line,) = posted(books, -1000)
    set_aside(books, line)
    assert take_back(books, line) == [line]
    books.run(review.correct, {line: "6300"}, by="ann", at=LATER)
    assert books.balances() == {"6300": Decimal("10.00"), "1000": Decimal("-10.00")}


def test_set_aside_again_changes_nothing_and_what_is_not_cannot_be_taken_back(books: Deciding) -> None:
    line, other = waiting(books, -1000, -2000)
    set_aside(books, line)
    again = set_aside(books, line)
    assert (again.lines, again.already) == ((), 1)
    with pytest.raises(RefusedError, match=f"bank line {other} is not set aside: nothing was changed"):
        take_back(books, line, other)
    assert in_queue(books) == {other}


def test_of_a_transfer_both_lines_are_set_aside_or_none(books: Deciding) -> None:
    paid = books.lines(-50_000, text="Online Transfer to Savings 99", vendor="transfer")
    came = books.lines(50_000, text="Online Transfer from Checking", vendor="transfer", code="1010")
    books.decide(paid + came)
    books.book()
    books.run(review.approve, paid, by="ann", at=AT)
    with pytest.raises(RefusedError, match=r"is booked as a transfer with .*: give both"):
        set_aside(books, *came)
    assert set_aside(books, *paid, *came) == aside.SetAside(
        tuple(sorted(paid + came, key=str)), reversed=1, rejected=0, already=0
    )


def test_what_a_person_matched_is_unmatched_by_a_person_first(books: Deciding) -> None:
    (line,) = posted(books, -1000)
    (entry,) = (row.id for row in books.entries() if row.source_txn_id == line)
    books.run(reconcile.match, [line], [entry], actor="ann", at=AT)
    with pytest.raises(RefusedError, match="was matched by a person: take that back first"):
        set_aside(books, line)


def test_a_line_that_is_set_aside_stands_for_no_entry(books: Deciding) -> None:
    (line,), (booked,) = waiting(books, -1000), posted(books, -1000)
    (entry,) = (row.id for row in books.entries() if row.source_txn_id == booked)
    set_aside(books, line)
    with pytest.raises(RefusedError, match=f"no bank line {line}, or it was set aside: nothing was matched"):
        books.run(reconcile.match, [line], [entry], actor="ann", at=AT)


def test_a_line_that_was_posted_by_itself_and_drawn_is_not_asked_about_when_it_is_set_aside(
    books: Deciding,
) -> None:
    books.run(
        settings.change, {"audit_percent": 100}, author="bob", reason="asked", at=AT - timedelta(days=1)
    )
    books.enable()
    line, other = waiting(books, -1000, -1100)
    assert {
        row.posted_by
        for row in books.pinned("select posted_by from books.journal_entries where status = 'posted'")
    } == {"autopost:1"}
    set_aside(books, line)
    assert [each.txn_id for each in books.run(review.audit_queue).lines] == [other]


def test_only_who_may_approve_sets_lines_aside_and_takes_them_back(books: Deciding) -> None:
    line, other = waiting(books, -1000, -2000)
    set_aside(books, line)
    for step, which in ((set_aside, other), (take_back, line)):
        with pytest.raises(RefusedError, match="carl is no approver or owner of the tenant"):
            step(books, which, by="carl")


def test_of_an_approval_and_a_setting_aside_at_once_one_is_refused(books: Deciding) -> None:
    (line,) = waiting(books, -1000)
    refused: list[str] = []

    def approve() -> None:
        try:
            books.run(review.approve, [line], by="bob", at=LATER)
        except RefusedError as error:
            refused.append(str(error))

    other = threading.Thread(target=approve)
    with books.engine.begin() as connection:
        aside.set_aside(connection, books.tenant_id, [line], why="told twice", by="ann", at=LATER)
        other.start()
        other.join(0.3)
        assert other.is_alive()
    other.join(10)
    assert len(refused) == 1
    assert "was set aside" in refused[0]


def test_who_set_what_aside_and_why_stays_in_the_audit(books: Deciding) -> None:
    (line,) = waiting(books, -1000)
    set_aside(books, line)
    take_back(books, line)
    rows = books.pinned(
        "select event, actor, detail from books.books_audit where event like 'lines_%' order by number"
    )
    assert [(row.event, row.detail["lines"], row.detail["reason"]) for row in rows] == [
        ("lines_set_aside", [str(line)], "told twice"),
        ("lines_taken_back", [str(line)], "it was another one"),
    ]
    assert {row.actor for row in rows} == {str(books.people["ann"])}
    with books.engine.begin() as connection:
        assert chain.broken(connection, books_audit, books.tenant_id) is None


def test_explain_says_who_set_a_line_aside(books: Deciding) -> None:
    (line,) = waiting(books, -1000)
    assert books.run(review.explain, line)["set_aside"] is None
    set_aside(books, line)
    told = books.run(review.explain, line)["set_aside"]
    assert told == {"why": "told twice", "by": str(books.people["ann"]), "at": LATER.isoformat()}


def test_metrics_and_a_lock_count_no_line_that_is_set_aside(books: Deciding) -> None:
    line, _ = waiting(books, -1000, -2000)
    set_aside(books, line)
    found = books.run(metrics.read, metrics.Window.of("30d", LATER), caps=Caps(), at=LATER)
    assert len(found.decided) == 1
    assert found.lines == 1
    assert books.run(ledger.unposted, "2026-02") == 1


def test_a_statement_that_was_imported_into_a_wrong_account_is_set_aside_and_imported_into_its_own(
    books: Deciding, tmp_path: Path
) -> None:
    wrong, right = importer(books, tmp_path), importer(books, tmp_path)
    made = wrong.text("Date,Description,Amount,Balance\n2026-02-03,a,-1.00,9.00\n2026-02-04,b,-2.00,7.00\n")
    (name,) = wrong.rows("select name from books.statement_files where bank_account_id = :account_id")[0]
    ids, others = books.run(aside.told_by, wrong.account_id, [name])
    assert (len(ids), others) == (2, 0)
    set_aside(books, *ids)
    assert books.run(reconcile.tie_out, wrong.account_id) == []
    again = right.file(tmp_path / name)
    assert (again.new, made.new) == (2, 2)
    assert again.problems == ()
    assert len(books.run(reconcile.tie_out, right.account_id)) == 1


def test_the_same_file_in_another_account_is_told_of_until_it_is_set_aside_there(
    books: Deciding, tmp_path: Path
) -> None:
    wrong, right, third = (importer(books, tmp_path) for _ in range(3))
    wrong.lines("2026-02-03,a,-1.00")
    (name,) = wrong.rows("select name from books.statement_files where bank_account_id = :account_id")[0]
    assert "set those of the other one aside" in str(right.file(tmp_path / name).problems[0])
    for bank in (wrong, right):
        set_aside(books, *books.run(aside.told_by, bank.account_id, [name])[0])
    assert third.file(tmp_path / name).problems == ()


def test_lines_that_another_statement_told_of_too_stay_until_both_are_named(
    books: Deciding, tmp_path: Path
) -> None:
    bank = importer(books, tmp_path)
    for days in ((3, 4), (4, 5)):
        bank.lines(*(f"2026-02-0{day},of day {day},-1.00" for day in days))
    names = [
        row.name
        for row in bank.rows(
            "select name from books.statement_files where bank_account_id = :account_id order by 1"
        )
    ]
    ids, others = books.run(aside.told_by, bank.account_id, names[:1])
    assert (len(ids), others) == (1, 1)
    assert len(books.run(aside.told_by, bank.account_id, names)[0]) == 3
    with pytest.raises(RefusedError, match=r"no statement 'other.csv' was imported into this account"):
        books.run(aside.told_by, bank.account_id, ["other.csv"])
