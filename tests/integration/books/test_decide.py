"""Decisions: what is proposed, which gates hold it back, and a log that shows a change."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import review, settings
from kernel.books.contract import REASONS
from models.books_learning import decisions
from tests.integration.books.deciding import AT, ON, Deciding, certified, deciding, scored


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return certified(books_engine)


def test_a_line_that_passes_every_gate_would_be_posted_by_a_tenant_in_the_shadow(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    decided = books.decide([line])
    assert dict(decided.verdicts) == {"would_post": 1}
    found = books.decision(line)
    assert (found.proposed_account, found.failures, found.label_count, found.is_audited) == (
        "6300",
        [],
        6,
        False,
    )
    assert (str(found.threshold), str(found.calibrated_p)) == ("0.95000000", "0.97000000")


def test_nothing_is_posted_for_a_tenant_that_nobody_moved(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    assert not books.run(settings.current).settings.autopost_requested
    books.decide([line])
    assert books.book().posted == 0
    assert [row.status for row in books.entries()] == ["proposed"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"account": None}, "cold_start"),
        ({"account": "6400"}, "cold_start"),
        ({"p": 0.9499}, "below_threshold"),
        ({"surety": None}, "below_threshold"),
        ({"budget_fallback": True}, "budget_fallback"),
    ],
)
def test_a_gate_that_does_not_hold_keeps_a_line_back(
    books: Deciding, given: dict[str, Any], reason: str
) -> None:
    (line,) = books.lines(-1000)
    books.decide([line], **given)
    assert (books.decision(line).verdict, books.decision(line).not_auto_post_reason) == ("review", reason)


def test_a_probability_at_the_threshold_passes(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line], p=0.95)
    assert books.decision(line).verdict == "would_post"


def test_the_higher_one_of_what_is_set_and_what_is_certified_is_the_threshold(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.run(settings.change, {"threshold": "0.98"}, author="bob", reason="careful", at=AT)
    books.decide([line])
    assert books.decision(line).not_auto_post_reason == "below_threshold"


@pytest.mark.parametrize(("threshold", "verdict"), [("0.90", "review"), (None, "would_post")])
def test_where_no_threshold_is_set_what_is_certified_decides_alone(
    books_engine: sa.Engine, threshold: str | None, verdict: str
) -> None:
    books = deciding(books_engine)
    books.known()
    books.certify("0.75")
    books.run(settings.change, {"threshold": threshold}, author="bob", reason="as proven", at=AT)
    (line,) = books.lines(-1000)
    books.decide([line], p=0.80)
    assert books.decision(line).verdict == verdict


@pytest.mark.parametrize("closed", ["no certificate", "closed", "ended"])
def test_without_a_certificate_that_holds_the_gate_is_closed(books_engine: sa.Engine, closed: str) -> None:
    books = deciding(books_engine)
    books.known()
    if closed == "closed":
        books.certify("0.95")
        books.certify(None)
    elif closed == "ended":
        books.certify("0.95", at=AT - timedelta(days=41))
    (line,) = books.lines(-1000)
    books.decide([line], p=0.999)
    found = books.decision(line)
    assert (found.not_auto_post_reason, found.threshold) == ("below_threshold", None)
    assert found.explain["gate"]["closed"]


def test_one_that_disagrees_begins_the_cold_start_anew(books: Deciding) -> None:
    other, line = books.lines(-1000, -1000)
    books.said([other], "6400", at=AT - timedelta(days=2))
    books.decide([line])
    assert books.decision(line).not_auto_post_reason == "cold_start"
    again = books.lines(-1000, -1000, -1000)
    books.said(again, at=AT - timedelta(days=1))
    books.decide([line])
    assert books.decision(line).failures == []


def test_labels_of_the_other_sign_and_later_ones_do_not_warm_a_vendor(books: Deciding) -> None:
    books.said(books.lines(-1000, -1000, -1000, vendor="new"), at=AT + timedelta(days=1))
    (refund,) = books.lines(1000)
    (line,) = books.lines(-1000, vendor="new")
    books.decide([refund, line])
    assert {books.decision(each).not_auto_post_reason for each in (refund, line)} == {"cold_start"}


@pytest.mark.parametrize(
    ("minor", "why"), [(-1_000_000, "amount far"), (-1, "amount far"), (-1150, None), (-1300, "amount far")]
)
def test_an_amount_far_from_a_vendors_usual_ones_is_an_anomaly(
    books: Deciding, minor: int, why: str | None
) -> None:
    (line,) = books.lines(minor)
    books.decide([line])
    found = books.decision(line)
    assert (found.not_auto_post_reason == "anomaly") is (why is not None)
    assert why is None or found.explain["anomaly"]["why"].startswith(why)


def test_a_large_amount_of_a_new_vendor_and_a_suspected_double_are_anomalies(books: Deciding) -> None:
    large, least = books.lines(-500_001, vendor="big"), books.lines(-500_000, vendor="big too")
    first, double = books.lines(-1000, -1000)
    books.pinned("update books.transactions set suspected_of = :first where id = :id", first=first, id=double)
    books.decide([*large, *least, double])
    assert "anomaly" in books.decision(large[0]).failures
    assert "anomaly" not in books.decision(least[0]).failures
    assert books.decision(double).failures == ["anomaly"]


def test_a_proposal_that_makes_no_entry_is_an_imbalance(books: Deciding) -> None:
    line, other = books.lines(-1000, -1000)
    books.decide([line], "1000")
    books.pinned("update books.accounts set is_active = false where code = '6300'")
    books.decide([other])
    assert "imbalance" in books.decision(line).failures
    assert books.decision(other).failures == ["imbalance"]
    assert books.book().proposed == 0


def test_all_that_fail_are_stored_and_the_first_is_the_reason(books: Deciding) -> None:
    for pattern, account in (("acme", "6300"), ("acme x", "6400")):
        books.pinned(
            "insert into books.rules (tenant_id, match, pattern, account_code, status, proposed_by, decided_at)"
            " values (:tenant_id, 'regex', :pattern, :account, 'active', 'ann', now())",
            pattern=pattern,
            account=account,
        )
    (line,) = books.lines(-9_999_999, text="acme x")
    books.decide([line], "2100", 0.5, budget_fallback=True)
    found = books.decision(line)
    assert tuple(found.failures) == tuple(each for each in REASONS if each != "imbalance")
    assert found.not_auto_post_reason == "cold_start"
    assert found.explain["rules"]["conflict"] is True


def test_a_rule_and_a_model_that_agree_are_surer_than_one(books: Deciding) -> None:
    books.pinned(
        "insert into books.rules (tenant_id, match, pattern, account_code, status, proposed_by, decided_at)"
        " values (:tenant_id, 'exact_vendor', 'acme', '6300', 'active', 'ann', now())"
    )
    line, alone, against = books.lines(-1000, -1000, -1000)
    books.decide([line], p=0.9)
    books.decide([alone], None)
    books.decide([against], "6400", 0.9)
    raw = [float(books.decision(each).raw_p) for each in (line, alone, against)]
    assert raw == pytest.approx([(0.55 + 0.35 * 0.9) / 0.9, 1.0, 0.55 / 0.9])
    assert books.decision(against).proposed_account == "6300"


def test_what_a_person_labelled_is_decided_again_only_when_asked(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.said([line])
    assert books.decide([line]).already_labelled == 1
    assert books.decide([line], again=True).count == 1


def test_a_transfer_between_own_accounts_is_a_pair_and_nothing_that_passes(books: Deciding) -> None:
    paid = books.lines(-50_000, text="Online Transfer to Savings 99", vendor="transfer")
    came = books.lines(50_000, on=ON + timedelta(days=2), code="1010", text="deposit", vendor="deposit")
    books.decide(paid, "6300")
    assert [books.decision(each).proposed_account for each in (*paid, *came)] == ["1010", "1000"]
    assert books.decision(paid[0]).explain["transfer"] == {"with": str(came[0]), "is_out": True}
    assert books.decision(paid[0]).calibrated_p is None
    assert books.book().proposed == 1


@pytest.mark.parametrize("what", ["two that fit", "says nothing", "too late", "same account"])
def test_lines_that_may_be_something_else_are_no_transfer(books: Deciding, what: str) -> None:
    paid = books.lines(
        -50_000, text="payment" if what == "says nothing" else "Transfer to savings", vendor="x"
    )
    late = timedelta(days=5 if what == "too late" else 0)
    came = [50_000] * (2 if what == "two that fit" else 1)
    books.lines(*came, on=ON + late, code="1000" if what == "same account" else "1010", text="in", vendor="y")
    books.decide(paid)
    assert "transfer" not in books.decision(paid[0]).explain


def test_every_decision_is_bound_to_the_one_before_it(books: Deciding) -> None:
    ids = books.lines(*range(-1000, -1010, -1), text='quote " and \\ and é')
    books.decide(ids[:5])
    books.decide(ids[5:], p=0.1)
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        assert chain.broken(connection, decisions, books.tenant_id) is None
    with books.engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.execute(
            sa.text("update books.decisions set calibrated_p = 0.99 where tenant_id = :id and number = 7"),
            {"id": books.tenant_id},
        )
        assert chain.broken(connection, decisions, books.tenant_id) == 7


def test_what_is_explained_is_what_was_used(books: Deciding) -> None:
    (line,) = books.lines(-1234)
    books.decide([line], p=0.9)
    told = books.run(review.explain, line)
    assert told["proposed_account"] == "6300"
    assert told["calibration"] == {
        "version": "c1", "uncalibrated": 0.9, "calibrated": 0.9, "threshold": 0.95,
        "gate": {"certificate": 1, "closed": None},
    }  # fmt: skip
    assert told["cold_start"]["eligible"]
    assert told["cold_start"]["suggested_account"] == "6300"
    assert told["balance_check"] == {"debit": "12.34", "credit": "12.34", "balanced": True}
    assert told["sources"] == {"memory": 0.1235}
    assert (told["auto_post_decision"], told["not_auto_post_reason"]) == ("review", "below_threshold")


def test_a_newer_version_is_noted_and_decides_nothing(books: Deciding) -> None:
    (line,) = books.lines(-1000)
    books.decide([line], shadow={line: scored(line, "6400", 0.8)})
    found = books.decision(line)
    assert (found.proposed_account, found.explain["shadow"]) == (
        "6300",
        {"version": "m1", "account": "6400", "p": 0.8},
    )


def test_lines_of_a_tenant_that_just_came_are_decided_and_booked_without_a_detour(books: Deciding) -> None:
    """Before the first analyze the planner takes a tenant for small; joins in loops would take minutes of these."""
    ids = books.lines(*range(-3500, -500))
    began = time.perf_counter()
    books.decide(ids)
    books.book()
    books.book()
    assert time.perf_counter() - began < 60
