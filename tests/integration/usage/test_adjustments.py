"""Corrections: who asks, who approves, which month pays, and what stands on its invoice."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import adjustments, plans
from kernel.usage.plans import Terms
from tests.integration.usage.closing import CLOSE_AT, FEBRUARY, MARCH, Closer
from tests.integration.usage.test_recovery import degraded


@pytest.fixture
def billed(closer: Closer) -> Closer:
    """January closed with 3 events, 2 of them beyond the limit at 1.00 each."""
    closer.soft(
        1, hard_cap_multiplier=Decimal(100), overage_price_per_1k=Decimal(1000), base_price=Decimal(5)
    )
    closer.closed("a", "b", "c")
    return closer


def _close_february(closer: Closer) -> None:
    closer.recount(MARCH)
    closer.close_month("2026-02", at=MARCH)


def test_a_correction_of_a_closed_month_is_a_line_of_the_present_one(billed: Closer) -> None:
    before = (billed.snapshots(), billed.lines())
    (approved,) = billed.approve(billed.ask(4))
    assert (approved.of_year_month, approved.pays) == ("2026-01", "2026-02")
    assert (billed.state("2026-01"), before) == ("ADJUSTED", (billed.snapshots(), billed.lines()))
    _close_february(billed)
    assert billed.lines("2026-02")[-1] == ("adjustment", "2026-01", 4, Decimal("4.00"))


def test_corrections_follow_from_each_other(billed: Closer) -> None:
    billed.approve(billed.ask(-2, kind="void"), billed.ask(1, kind="late"))
    _close_february(billed)
    billed.approve(billed.ask(-1, at=MARCH), at=MARCH)
    april = datetime(2026, 4, 1, 6, tzinfo=UTC)
    billed.recount(april)
    billed.close_month("2026-03", at=april)
    # 3 events, then 4, then 2, then 1: what was invoiced of January in the end is what it costs with 1.
    amounts = [
        line[2:]
        for month in ("2026-02", "2026-03")
        for line in billed.lines(month)
        if line[0] == "adjustment"
    ]
    assert amounts == [(1, Decimal("1.00")), (-2, Decimal("-2.00")), (-1, Decimal("-1.00"))]


def test_nobody_approves_what_they_asked_for(billed: Closer) -> None:
    asked = billed.ask(1)
    with pytest.raises(RefusedError, match="asked for themselves"):
        billed.approve(asked, actor=str(billed.people["Ann"]))
    for actor, why in (("Max", "no approver"), ("operator", "corrects no tenant's usage")):
        with pytest.raises(RefusedError, match=why):
            billed.approve(asked, actor=actor)
    billed.approve(asked)
    with pytest.raises(RefusedError, match="approved already"):
        billed.approve(asked)


def test_what_is_not_approved_costs_nothing(billed: Closer) -> None:
    asked = billed.ask(4)
    _close_february(billed)
    assert all(line[0] != "adjustment" for line in billed.lines("2026-02"))
    (approved,) = billed.approve(asked, at=MARCH)
    assert approved.pays == "2026-03"


def test_no_more_is_taken_away_than_there_was(billed: Closer) -> None:
    first, second = billed.ask(-2), billed.ask(-2)
    with pytest.raises(RefusedError, match="3 billable events: 4 cannot be taken"):
        billed.approve(first, second)
    billed.approve(first)
    with pytest.raises(RefusedError, match="1 billable events: 2 cannot be taken"):
        billed.approve(second)


def test_approvals_at_once_do_not_take_more_than_there_was(billed: Closer) -> None:
    asked = [billed.ask(-2) for _ in range(4)]
    done = []

    def approve(one) -> None:
        with suppress(RefusedError):
            done.append(billed.approve(one))

    threads = [threading.Thread(target=approve, args=(one,)) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1


def test_an_open_month_pays_for_itself(closer: Closer) -> None:
    closer.soft(1, hard_cap_multiplier=Decimal(100), overage_price_per_1k=Decimal(1000))
    closer.capture("a", "b", "c")
    (approved,) = closer.approve(closer.ask(-1, at=CLOSE_AT), at=CLOSE_AT)
    assert approved.pays == "2026-01"
    closer.closed()
    assert closer.lines()[-1] == ("adjustment", "2026-01", -1, Decimal("-1.00"))
    assert closer.state() == "CLOSED"


def test_what_was_before_the_first_month_is_paid_by_the_present_one(billed: Closer) -> None:
    (approved,) = billed.approve(billed.ask(2, month="2025-06", kind="late"))
    assert (approved.pays, billed.state("2025-06")) == ("2026-02", None)
    _close_february(billed)
    assert billed.lines("2026-02")[-1] == ("adjustment", "2025-06", 2, Decimal(0))


def test_a_correction_in_another_currency_is_on_an_invoice_of_its_own(closer: Closer) -> None:
    closer.soft(1, hard_cap_multiplier=Decimal(100), overage_price_per_1k=Decimal(1000), currency="EUR")
    with closer.engine.begin() as connection:
        plans.set_plan(
            connection, closer.tenant_id, closer.site.id, Terms(currency="GBP", base_price=Decimal(7)),
            valid_from=datetime(2026, 2, 1, tzinfo=UTC), actor="ann", at=CLOSE_AT.replace(day=1, month=1),
        )  # fmt: skip
    closer.closed("a", "b")
    closer.approve(closer.ask(3))
    _close_february(closer)
    assert closer.lines("2026-02") == [
        ("adjustment", "2026-01", 3, Decimal("3.00")),
        ("base", "2026-02", 1, Decimal("7.00")),
    ]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"quantity": 0}, "of 0 events is none"),
        ({"quantity": -1, "kind": "late"}, "late ones add"),
        ({"quantity": 1, "kind": "void"}, "voids and credits take away"),
        ({"quantity": 1, "kind": "gift"}, "is unknown"),
        ({"quantity": 1, "reason": "because"}, "at least 10 characters"),
        ({"quantity": 1, "month": "2026-03"}, "has not begun"),
        ({"quantity": 1, "month": "2026-13"}, "is no month"),
        ({"quantity": 1, "actor": "Max"}, "no approver or owner"),
    ],
)
def test_what_is_no_correction_is_refused(billed: Closer, given: dict, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        billed.ask(**given)


def test_a_late_event_is_corrected_once(billed: Closer) -> None:
    billed.ask(1, kind="late", key="k")
    with pytest.raises(RefusedError, match="counts once"):
        billed.ask(1, kind="late", key="k")


def test_a_foreign_adjustment_is_unknown(billed: Closer, closer: Closer) -> None:
    from tests.integration.usage import closing

    other = closing.closer(billed.engine)
    with pytest.raises(RefusedError, match="has no adjustment"):
        other.approve(billed.ask(1))


def test_the_database_takes_no_adjustment_that_is_approved_already(billed: Closer) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="asked for first"):
        billed.pinned(
            "insert into usage.usage_adjustments (tenant_id, site_id, year_month, of_year_month, quantity, kind, reason,"
            " asked_by, approved_by, approved_at) values (:t, :s, '2026-02', '2026-01', 1, 'late', 'came afterwards', 'a',"
            " 'b', now())",
            t=billed.tenant_id, s=billed.site.id,
        )  # fmt: skip


def test_the_database_lets_no_closed_month_pay(billed: Closer) -> None:
    asked = billed.ask(1)
    with pytest.raises(sa.exc.DBAPIError, match="2026-01 is closed: an adjustment is paid"):
        billed.pinned(
            "update usage.usage_adjustments set approved_by = 'b', approved_at = now(), year_month = '2026-01'"
            " where id = :id",
            id=asked,
        )


def test_adjustments_are_listed_by_what_they_are_about_and_who_pays(billed: Closer) -> None:
    billed.approve(billed.ask(1))
    with billed.engine.begin() as connection:
        for month, count in (("2026-01", 1), ("2026-02", 1), ("2026-03", 0), (None, 1)):
            assert len(adjustments.listed(connection, billed.tenant_id, month)) == count
    assert FEBRUARY < MARCH


def _refuse(closer: Closer, *ids: UUID, actor: str = "Ben", why: str = "nobody can prove it") -> list[UUID]:
    with closer.engine.begin() as connection:
        return adjustments.refuse(connection, closer.tenant_id, ids, why=why, actor=actor, at=FEBRUARY)


def test_what_was_refused_costs_nothing_and_is_decided_for_good(billed: Closer) -> None:
    asked = billed.ask(4)
    assert _refuse(billed, asked) == [asked]
    for again in (lambda: billed.approve(asked), lambda: _refuse(billed, asked)):
        with pytest.raises(RefusedError, match="was refused already"):
            again()
    _close_february(billed)
    assert all(line[0] != "adjustment" for line in billed.lines("2026-02"))
    with billed.engine.begin() as connection:
        (row,) = adjustments.listed(connection, billed.tenant_id)
    assert (row["refuser"], row["refused_why"], row["approved_at"]) == ("Ben", "nobody can prove it", None)


def test_what_one_asked_for_oneself_may_be_taken_back(billed: Closer) -> None:
    _refuse(billed, billed.ask(4), actor="Ann")
    for actor, why in (("Max", "no approver"), ("operator", "corrects no tenant's usage")):
        with pytest.raises(RefusedError, match=why):
            _refuse(billed, billed.ask(4), actor=actor)
    with pytest.raises(RefusedError, match="at least 10 characters"):
        _refuse(billed, billed.ask(4), why="no")


def test_what_was_approved_is_not_refused(billed: Closer) -> None:
    asked = billed.ask(4)
    billed.approve(asked)
    with pytest.raises(RefusedError, match="was approved already"):
        _refuse(billed, asked)
    for query in (
        "update usage.usage_adjustments set refused_by = 'b', refused_at = now(), refused_why = 'because of it'",
        "update usage.usage_adjustments set approved_at = null, approved_by = null",
    ):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"):
            billed.pinned(query)


def test_a_late_event_that_was_refused_is_billed_by_no_door(billed: Closer) -> None:
    _refuse(billed, billed.ask(1, kind="late", key="late one"))
    assert [each.status for each in billed.capture("late one", at=FEBRUARY)] == ["duplicate"]


def test_a_credit_that_was_refused_is_asked_for_again(closer: Closer) -> None:
    degraded(closer, "a")
    closer.pinned("update usage.ingest_fallback_buffer set status = 'QUARANTINE'")
    ((buffer_id,),) = closer.pinned("select id from usage.ingest_fallback_buffer")

    def credit() -> UUID:
        with closer.engine.begin() as connection:
            (made,) = adjustments.credit(
                connection,
                closer.tenant_id,
                buffer_id,
                reason="lost with its queue",
                actor="Ann",
                at=CLOSE_AT,
            )
        return made

    first = credit()
    with pytest.raises(RefusedError, match="a credit was asked for already"):
        credit()
    _refuse(closer, first)
    assert closer.pinned("select credited_by from usage.ingest_fallback_buffer") == [(None,)]
    second = credit()
    assert closer.pinned("select credited_by from usage.ingest_fallback_buffer") == [(second,)]


def test_what_cannot_be_taken_away_is_said_when_it_is_asked_for(billed: Closer) -> None:
    with pytest.raises(RefusedError, match="3 billable events: 4 cannot be taken"):
        billed.ask(-4)
    billed.approve(billed.ask(-2))
    with pytest.raises(RefusedError, match="1 billable events: 2 cannot be taken"):
        billed.ask(-2)
