"""The journal and the queue: what is decided is proposed, people answer once, and what is posted balances with the bank."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.books import bulk, journal, labels, ledger, review, settings, stages
from kernel.errors import RefusedError
from tests.integration.books.deciding import AT, ON, Deciding, certified


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return certified(books_engine)


def waiting(books: Deciding, **given: Any) -> list[UUID]:
    return [each.txn_id for each in books.run(review.queue, **given).lines]


def approve(books: Deciding, *ids: UUID, by: str = "ann", **given: Any) -> review.Answered:
    return books.run(review.approve, list(ids), by=by, at=AT + timedelta(hours=1), **given)


def correct(books: Deciding, accounts: dict[UUID, str], by: str = "ann", **given: Any) -> review.Answered:
    return books.run(review.correct, accounts, by=by, at=AT + timedelta(hours=2), **given)


def test_entries_take_their_sides_from_the_sign_and_the_account_that_the_statement_is_of(
    books: Deciding,
) -> None:
    ids = [
        *books.lines(-1000),
        *books.lines(250),
        *books.lines(-400, code="2100"),
        *books.lines(50, code="2100"),
    ]
    books.decide(ids)
    books.book()
    approve(books, *ids)
    assert books.balances() == {"6300": Decimal("11.00"), "1000": Decimal("-7.50"), "2100": Decimal("-3.50")}


def test_booking_again_changes_nothing_and_another_decision_replaces_the_proposal(books: Deciding) -> None:
    ids = books.lines(-1000, -2000)
    books.decide(ids)
    assert books.book().proposed == 2
    assert books.book() == journal.Booked(0, 0, 0, {})
    books.decide(ids[:1], "6400", run_id="again")
    assert books.book() == journal.Booked(1, 1, 0, {})
    books.decide(ids[:1], None, run_id="nothing known")
    assert books.book() == journal.Booked(0, 1, 0, {})


def test_of_two_runs_that_book_at_once_one_proposes(books: Deciding) -> None:
    books.decide(books.lines(-1000, -2000))
    with books.engine.begin() as connection:
        journal.book(connection, books.tenant_id, at=AT)
        found: list[journal.Booked] = []
        other = threading.Thread(target=lambda: found.append(books.book()))
        other.start()
        other.join(0.3)
    other.join(10)
    assert found == [journal.Booked(0, 0, 0, {})]


def test_what_is_approved_is_labelled_once_and_posted(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    assert approve(books, line).labelled == 1
    assert [row.status for row in books.entries()] == ["posted"]
    again = approve(books, line, by="bob")
    assert (again.labelled, again.already) == (0, (line,))
    (label,) = books.pinned("select * from books.labels where txn_id = :id", id=line)
    assert (label.source, label.labelled_by, label.decision_number) == (
        "approve",
        str(books.people["ann"]),
        1,
    )


def test_of_several_people_who_approve_at_once_one_labels_and_one_entry_is_posted(books: Deciding) -> None:
    ids = books.lines(-1000, -1100)
    books.decide(ids)
    answers: list[review.Answered] = []
    people = [
        threading.Thread(target=lambda by=by: answers.append(approve(books, *ids, by=by)))
        for by in ("ann", "bob") * 4
    ]
    for each in people:
        each.start()
    for each in people:
        each.join(30)
    assert sorted(each.labelled for each in answers) == [0] * 7 + [2]
    assert books.pinned("select count(*) as n from books.labels where source = 'approve'")[0].n == 2
    assert Counter(row.status for row in books.entries()) == {"posted": 2}


@pytest.mark.parametrize("by", ["carl", "dora", "pipeline"])
def test_who_is_no_approver_of_the_tenant_answers_nothing(books: Deciding, by: str) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    for answer in (lambda: approve(books, line, by=by), lambda: correct(books, {line: "6400"}, by=by)):
        with pytest.raises(RefusedError):
            answer()
    assert waiting(books) == [line]


def test_the_queue_has_the_most_money_at_risk_first_by_reason(books: Deciding) -> None:
    small, large, sure = books.lines(-1000, -1050, -1100)
    books.decide([small, large], p=0.5)
    books.decide([sure])
    assert waiting(books) == [large, small, sure]
    assert waiting(books, reason="below_threshold") == [large, small]
    assert waiting(books, reason="cold_start") == []
    assert waiting(books, only_passed=True) == [sure]
    assert books.run(review.queue, most=1).lines[0].at_risk == Decimal("5.25")


def test_a_correction_replaces_a_proposal_and_reverses_what_is_posted(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    books.book()
    correct(books, {line: "6400"})
    assert books.balances() == {"6400": Decimal("10.00"), "1000": Decimal("-10.00")}
    correct(books, {line: "6300"}, by="bob")
    assert books.balances() == {"6400": Decimal(0), "6300": Decimal("10.00"), "1000": Decimal("-10.00")}
    statuses = Counter((row.status, row.is_live) for row in books.entries())
    assert statuses == {("rejected", False): 1, ("posted", False): 1, ("posted", True): 2}
    assert books.run(labels.newest, [line])[line].account == "6300"


def test_a_correction_of_what_an_older_ledger_has_is_no_entry(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.said([line], "6300")
    correct(books, {line: "6400"})
    assert books.entries() == []
    assert books.run(labels.newest, [line])[line].source == "booked"


def test_a_month_that_is_locked_takes_nothing_and_a_correction_may_lie_in_another(books: Deciding) -> None:
    posted, late = books.lines(-1000, -1100)
    books.decide([posted, late])
    approve(books, posted)
    books.do(ledger.lock, "2026-02", at=AT)
    with pytest.raises(RefusedError, match="2026-02 is locked"):
        approve(books, late)
    with pytest.raises(RefusedError, match="2026-02 is locked"):
        correct(books, {posted: "6400"})
    assert waiting(books) == [late]
    correct(books, {posted: "6400"}, on=date(2026, 3, 1))
    assert books.balances(date(2026, 2, 28))["6300"] == Decimal("10.00")
    assert books.balances()["6400"] == Decimal("10.00")


def test_a_vendors_lines_are_approved_at_once_where_the_proposal_is_the_same(books: Deciding) -> None:
    same = books.lines(-1000, -1001, -1002)
    (other,) = books.lines(-1003)
    books.decide(same, p=0.5)
    books.decide([other], "6400", 0.5)
    answered = books.run(bulk.approve_vendor, "acme", account="6300", by="ann", at=AT + timedelta(hours=1))
    assert (answered.labelled, len(answered.posted)) == (3, 3)
    assert waiting(books) == [other]
    assert {row.source for row in books.pinned("select source from books.labels where txn_id = any(:ids)", ids=same)} == {"bulk"}  # fmt: skip
    with pytest.raises(RefusedError, match="no line of vendor"):
        books.run(bulk.approve_vendor, "acme", account="6300", by="ann", at=AT)


def test_money_in_and_out_of_a_vendor_are_approved_apart(books: Deciding) -> None:
    out, refund = books.lines(-1000, 300)
    books.decide([out, refund], p=0.5)
    with pytest.raises(
        RefusedError, match=r"go out \(1 lines, 10.00 USD\) and that come in \(1 lines, 3.00 USD\)"
    ):
        books.run(bulk.approve_vendor, "acme", account="6300", by="ann", at=AT)
    assert (
        books.run(bulk.approve_vendor, "acme", account="6300", direction="out", by="ann", at=AT).labelled == 1
    )
    assert waiting(books) == [refund]


def test_of_a_vendors_lines_those_of_a_locked_month_keep_waiting(books: Deciding) -> None:
    (early,) = books.lines(-1000, on=date(2026, 1, 20))
    (late,) = books.lines(-1001)
    books.decide([early, late], p=0.5)
    books.do(ledger.lock, "2026-01", at=AT)
    answered = books.run(bulk.approve_vendor, "acme", account="6300", by="ann", at=AT)
    assert (answered.labelled, answered.locked) == (1, (early,))
    assert waiting(books) == [early]


def test_what_nobody_calibrated_is_at_risk_as_a_whole(books: Deciding) -> None:
    small, large = books.lines(-1000, -250_000)
    books.decide([small, large], p=1.0, surety=None)
    first = books.run(review.queue).lines[0]
    assert (first.txn_id, first.at_risk) == (large, Decimal("2500.00"))


def test_a_line_is_found_by_any_gate_that_does_not_hold(books: Deciding) -> None:
    (line,) = books.lines(-70_000, vendor="of nobody")
    books.decide([line], p=0.5)
    assert books.decision(line).not_auto_post_reason == "cold_start"
    assert [each.txn_id for each in books.run(review.queue, reason="below_threshold").lines] == [line]


def test_a_correction_to_the_account_that_a_person_booked_it_to_changes_nothing(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    correct(books, {line: "6400"})
    before = books.entries()
    assert correct(books, {line: "6400"}).already == (line,)
    assert books.entries() == before


def test_nothing_is_booked_on_a_day_that_has_not_come(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line])
    with pytest.raises(RefusedError, match="2031-10-02 has not come yet"):
        correct(books, {line: "6400"}, on=date(2031, 10, 2))
    assert waiting(books) == [line]


def test_above_an_amount_two_people_approve(books: Deciding) -> None:
    books.run(settings.change, {"four_eyes_above": "10.00"}, author="bob", reason="careful", at=AT)
    small, large = books.lines(-1000, -1001)
    books.decide([small, large])
    answered = approve(books, small, large)
    (entry,) = answered.needs_another
    assert len(answered.posted) == 1
    assert waiting(books) == []
    with pytest.raises(RefusedError, match="approved by you"):
        books.run(review.countersign, [entry], by="ann", at=AT)
    books.run(review.countersign, [entry], by="bob", at=AT)
    assert Counter(row.status for row in books.entries()) == {"posted": 2}
    assert books.run(review.second_queue) == []


def test_a_transfer_is_one_entry_for_both_lines_and_no_income(books: Deciding) -> None:
    paid = books.lines(-50_000, text="Transfer to savings 1", vendor="x")
    came = books.lines(50_000, on=ON + timedelta(days=1), code="1010", text="in", vendor="y")
    books.decide([*paid, *came])
    books.book()
    assert len(books.entries()) == 1
    assert set(waiting(books)) == {*paid, *came}
    answered = approve(books, *came)
    assert (answered.labelled, len(answered.posted)) == (2, 1)
    assert books.balances() == {"1010": Decimal(500), "1000": Decimal(-500)}
    assert waiting(books) == []
    assert books.book() == journal.Booked(0, 0, 0, {})
    with pytest.raises(RefusedError, match="booked as a transfer"):
        correct(books, {came[0]: "4000"})
    correct(books, {came[0]: "4000", paid[0]: "6400"})
    assert books.balances() == {
        "1010": Decimal(500), "1000": Decimal(-500), "4000": Decimal(-500), "6400": Decimal(500),
    }  # fmt: skip
    assert books.run(journal.booked_twice) == []


def test_a_line_that_becomes_one_of_a_pair_leaves_its_own_proposal(books: Deciding) -> None:
    came = books.lines(50_000, code="1010", text="in", vendor="y")
    books.decide(came, "4000")
    assert books.book().proposed == 1
    paid = books.lines(-50_000, text="Transfer to savings 1", vendor="x")
    books.decide(paid)
    assert books.book() == journal.Booked(1, 1, 0, {})
    assert books.run(journal.booked_twice) == []


# From here on: what is posted without a person.


def test_what_passed_is_posted_in_the_name_of_the_approval(books: Deciding) -> None:
    books.enable()
    good, unsure = books.lines(-1000, -1001)
    books.decide([good])
    books.decide([unsure], p=0.5)
    assert books.decision(good).verdict == "posted"
    assert books.book().posted == 1
    found = {row.source_txn_id: row for row in books.entries()}
    assert (found[good].status, found[good].approved_by) == ("posted", "autopost:1")
    assert found[unsure].status == "proposed"
    assert books.book() == journal.Booked(0, 0, 0, {})


@pytest.mark.parametrize("what", ["demoted", "ended", "switched off", "reverted"])
def test_what_was_decided_in_p3_is_not_posted_when_the_tenant_is_no_longer_there(
    books: Deciding, what: str
) -> None:
    books.enable()
    (line,) = books.lines(-1000)
    books.decide([line])
    at = AT
    if what == "demoted":
        books.run(stages.demote, by="carl", at=AT, reason="it looks wrong")
    elif what == "switched off":
        books.run(settings.change, {"autopost_requested": False}, author="bob", reason="no", at=AT)
    elif what == "reverted":
        books.pinned("update books.canaries set status = 'reverted', ended_at = now(), reason = 'x'")
    else:
        at = AT + timedelta(days=31)
    booked = books.book(at)
    assert (booked.proposed, booked.posted, sum(booked.held_back.values())) == (1, 0, 1)
    books.decide([line], run_id="again", at=at)
    assert books.decision(line).verdict == "would_post"


def test_what_was_decided_under_another_approval_waits_to_be_decided_again(books: Deciding) -> None:
    books.enable()
    (line,) = books.lines(-1000)
    books.decide([line])
    books.enable(at=AT + timedelta(minutes=1))
    assert books.book(AT + timedelta(minutes=2)).held_back == {"decided under another approval": 1}


def test_only_a_part_is_posted_at_first_and_a_locked_month_takes_none(books: Deciding) -> None:
    books.enable(percent=50)
    ids = books.lines(*range(-1100, -1000))
    books.decide(ids)
    verdicts = Counter(books.decision(each).verdict for each in ids[:40])
    assert set(verdicts) == {"posted", "would_post"}
    books.do(ledger.lock, "2026-02", at=AT)
    booked = books.book()
    assert booked.posted == 0
    assert list(booked.held_back) == ["month 2026-02 is locked"]
    books.decide(ids, run_id="again")
    assert books.decision(ids[0]).explain["held_back"] == "month 2026-02 is locked"


def test_audited_lines_wait_in_their_own_queue_and_are_labelled_as_audited(books: Deciding) -> None:
    books.run(settings.change, {"audit_percent": "50"}, author="bob", reason="look closely", at=AT)
    books.enable()
    ids = books.lines(*range(-1040, -1000))
    books.decide(ids)
    books.book()
    drawn = [each.txn_id for each in books.run(review.audit_queue).lines]
    assert 5 < len(drawn) < 35
    assert waiting(books) == []
    right, wrong = drawn[:2]
    assert approve(books, right) == review.Answered(1)
    correct(books, {wrong: "6400"})
    assert {said.source for said in books.run(labels.newest, [right, wrong]).values()} == {"audit"}
    assert books.run(review.audit_queue).total == len(drawn) - 2
    assert books.balances()["6400"] > 0


def test_the_journal_of_an_account_is_the_sum_of_its_bank_lines(books: Deciding) -> None:
    books.enable()
    amounts = [-1000, 250, -1001, -99_999, 40_000, -1]
    ids = books.lines(*amounts)
    books.decide(ids)
    books.book()
    rest = waiting(books)
    correct(books, dict.fromkeys(rest[:2], "6400"))
    approve(books, *rest[2:])
    assert books.balances()["1000"] == Decimal(sum(amounts)).scaleb(-2)
