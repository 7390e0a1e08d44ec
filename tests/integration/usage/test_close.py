"""What a close waits for, what it freezes, and that it happens wholly, once, or not at all."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import (
    adjustments,
    audit,
    canonical,
    close,
    evidence,
    gate,
    invoices,
    manifest,
    merkle,
    periods,
    sites,
    verify,
)
from tests.integration.usage.capturing import event
from tests.integration.usage.closing import CLOSE_AT, FEBRUARY, JANUARY, MARCH, Closer
from tests.integration.usage.closing import closer as make

LAST_MOMENT = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)


def _failing(*_: object) -> None:
    raise OSError


def test_a_close_freezes_every_site_and_binds_its_rows(closer: Closer) -> None:
    with closer.engine.begin() as connection:
        sites.make(connection, closer.tenant_id, "quiet")
        connection.exec_driver_sql("update usage.sites set created_at = '2025-12-01'")
    closer.soft(2, at=JANUARY, overage_price_per_1k=Decimal("2.5"))
    done = closer.closed("a", "b", "c")
    assert (done.is_new, done.sites, done.rows, done.events, done.overage) == (True, 2, 3, 3, 1)
    assert (closer.state(), done.closed_at) == ("CLOSED", CLOSE_AT)
    used = next(each for each in closer.snapshots() if each.row_count)
    quiet = next(each for each in closer.snapshots() if not each.row_count)
    assert (quiet.event_count, quiet.merkle_root) == (0, hashlib.sha256(b"").hexdigest())
    assert used.snapshot_hash == hashlib.sha256(f"{closer.site.id}:2026-01:3:1".encode()).hexdigest()
    rows = closer.pinned("select *, plan_id as plan from usage.ingest_idempotency order by idempotency_key")
    lines = [canonical.line(row._mapping) for row in rows]
    assert used.merkle_root == merkle.root(lines).hex()
    assert used.plan["monthly_limit"] == 2


def test_snapshots_are_a_chain_over_months(closer: Closer) -> None:
    closer.closed("a")
    closer.capture("b", at=FEBRUARY)
    closer.recount(MARCH)
    closer.close_month("2026-02", at=MARCH)
    january, february = closer.snapshots()
    assert (january.previous_hash, february.previous_hash) == (manifest.FIRST, january.hash)
    with closer.engine.begin() as connection:
        assert close.broken_chain(connection, closer.tenant_id) is None
        assert audit.broken(connection, closer.tenant_id) is None
        for each in evidence.snapshots(connection, closer.tenant_id):
            assert each["hash"] == verify.digest(each, without="hash")


def test_a_changed_snapshot_is_seen_in_the_chain(closer: Closer) -> None:
    closer.closed("a")
    with closer.engine.begin() as connection:
        # Only who switches the guard off can.
        connection.exec_driver_sql("alter table usage.invoice_snapshot disable trigger user")
        connection.exec_driver_sql("update usage.invoice_snapshot set row_count = 7")
        connection.exec_driver_sql("alter table usage.invoice_snapshot enable trigger user")
        assert close.broken_chain(connection, closer.tenant_id) == f"2026-01 of site {closer.site.id}"


def test_closing_again_changes_nothing(closer: Closer) -> None:
    first = closer.closed("a")
    before = (closer.snapshots(), closer.lines(), closer.pinned("select * from usage.usage_audit"))
    again = closer.close_month(at=MARCH)
    assert (again.is_new, again.closed_at, again.hash) == (False, first.closed_at, first.hash)
    assert before == (closer.snapshots(), closer.lines(), closer.pinned("select * from usage.usage_audit"))


def test_of_two_closers_one_closes(closer: Closer) -> None:
    closer.capture("a")
    closer.recount()
    done = []
    threads = [threading.Thread(target=lambda: done.append(closer.close_month())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.is_new for each in done) == [False] * 5 + [True]
    assert len(closer.snapshots()) == 1


def test_a_capture_under_way_is_waited_for_and_is_in_the_close(closer: Closer) -> None:
    closer.capture("a", at=LAST_MOMENT)
    closer.recount()
    done = []
    with closer.engine.connect() as late:
        transaction = late.begin()
        gate.capture(late, [event(closer.site, "late", at=LAST_MOMENT)], at=LAST_MOMENT, actor="gate")
        closing = threading.Thread(target=lambda: done.append(closer.close_month()))
        closing.start()
        closing.join(0.5)
        assert closing.is_alive()
        transaction.commit()
    closing.join()
    assert (done[0].rows, closer.state()) == (2, "CLOSED")


def test_what_comes_during_a_close_waits_and_is_refused(
    closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer.capture("a")
    closer.recount()
    refused, late = [], []

    def capture() -> None:
        try:
            closer.capture(event(closer.site, "late", at=LAST_MOMENT), at=CLOSE_AT)
        except RefusedError as error:
            refused.append(str(error))

    whole = invoices.draft

    def draft(*given, **named):
        late.append(threading.Thread(target=capture))
        late[0].start()
        late[0].join(0.3)
        assert late[0].is_alive()
        return whole(*given, **named)

    monkeypatch.setattr(invoices, "draft", draft)
    assert closer.close_month().rows == 1
    late[0].join()
    assert ["takes no more usage" in each for each in refused] == [True]


STEPS = [
    (recounting, name)
    for recounting, name in (
        ("evidence", "rows_of"), ("evidence", "code_version"), ("manifest", "snapshot"), ("invoices", "draft"),
        ("recount", "oldest_under_way"), ("audit", "append"), ("close", "_closed"),
    )
]  # fmt: skip


@pytest.mark.parametrize(("module", "step"), STEPS)
def test_a_close_that_dies_at_any_step_leaves_nothing(
    closer: Closer, monkeypatch: pytest.MonkeyPatch, module: str, step: str
) -> None:
    closer.capture("a")
    closer.recount()
    where = close if module == "close" else getattr(close, module)
    with monkeypatch.context() as dying:
        dying.setattr(where, step, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            closer.close_month()
    assert (closer.state(), closer.snapshots(), closer.lines()) == ("OPEN", [], [])
    assert closer.close_month().is_new


def test_a_close_whose_server_connection_is_killed_leaves_nothing(
    closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer.capture("a")
    closer.recount()
    whole = invoices.draft

    def draft(connection, *given, **named):
        whole(connection, *given, **named)
        own = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
        with closer.engine.connect() as other:
            other.exec_driver_sql(f"select pg_terminate_backend({own})")
        return []

    with monkeypatch.context() as dying:
        dying.setattr(invoices, "draft", draft)
        with pytest.raises(sa.exc.OperationalError):
            closer.close_month()
    assert (closer.state(), closer.snapshots()) == ("OPEN", [])
    assert closer.close_month().is_new


def test_a_month_is_not_closed_before_its_grace_is_over(closer: Closer) -> None:
    closer.capture("a")
    closer.recount()
    early = datetime(2026, 2, 1, 0, 59, tzinfo=UTC)
    assert not closer.checks(at=early)["month_over"].is_ok
    with pytest.raises(RefusedError, match="cannot be closed before 2026-02-01 01:00"):
        closer.close_month(at=early)
    assert closer.close_month(at=early + timedelta(minutes=1)).is_new


def test_months_are_closed_in_their_order(closer: Closer) -> None:
    closer.capture("a")
    closer.capture("b", at=FEBRUARY)
    closer.recount(MARCH)
    with pytest.raises(RefusedError, match="2026-01 is not closed: close it first"):
        closer.close_month("2026-02", at=MARCH)
    with pytest.raises(RefusedError, match="the first month of the tenant is 2026-01"):
        closer.close_month("2025-12", at=MARCH)
    closer.close_month("2026-01", at=MARCH)
    assert closer.close_month("2026-02", at=MARCH).is_new


def test_a_month_without_usage_is_closed_and_its_base_price_is_due(closer: Closer) -> None:
    closer.plan(10, base_price=Decimal("49.00"))
    assert closer.close_month().rows == 0
    assert closer.close_month("2026-02", at=MARCH).is_new
    assert closer.lines("2026-02") == [("base", "2026-02", 1, Decimal("49.00"))]


@pytest.mark.parametrize("status", ["QUEUED", "FAILED", "DEAD"])
def test_a_recount_that_is_not_done_is_in_the_way(closer: Closer, status: str) -> None:
    closer.capture("a")
    closer.recount()
    closer.pinned("update usage.billing_reconciliation_jobs set status = :s", s=status)
    assert not closer.checks()["jobs"].is_ok
    with pytest.raises(RefusedError, match=f"1 {status}"):
        closer.close_month()


def test_any_drift_is_in_the_way(closer: Closer) -> None:
    closer.capture("a")
    closer.recount()
    closer.pinned("update usage.usage_counters set accepted = accepted + 1")
    assert not closer.checks()["counted"].is_ok
    with pytest.raises(RefusedError, match=r"counters.billable \+1"):
        closer.close_month()
    with closer.engine.begin() as connection:
        close.recount.queue(connection, closer.tenant_id, "2026-01", at=CLOSE_AT)
    closer.recount()
    assert closer.close_month().is_new


def test_what_came_after_the_last_count_is_compared_anew(closer: Closer) -> None:
    closer.capture("a")
    closer.recount()
    closer.capture("b")
    closer.pinned("delete from usage.usage_outbox where 'b' = any(keys)")
    with pytest.raises(RefusedError, match=r"delivered\.rows -1"):
        closer.close_month()


def test_what_was_given_up_is_credited_before_the_close(closer: Closer) -> None:
    closer.plan(10, overage_price_per_1k=Decimal(1))
    closer.capture("a", "b", publisher=_failing)
    closer.capture("c")
    closer.recount()
    (buffer,) = closer.pinned("update usage.ingest_fallback_buffer set status = 'QUARANTINE' returning id")
    with pytest.raises(RefusedError, match="billed without an approved credit"):
        closer.close_month()
    with closer.engine.begin() as connection:
        credits = adjustments.credit(
            connection, closer.tenant_id, buffer.id, reason="never delivered", actor="Ann", at=CLOSE_AT
        )
    assert not closer.checks()["quarantine"].is_ok
    (approved,) = closer.approve(*credits, at=CLOSE_AT)
    assert (approved.pays, approved.quantity) == ("2026-01", -2)
    assert closer.close_month().is_new
    assert closer.lines()[-1][:3] == ("adjustment", "2026-01", -2)
    with closer.engine.begin() as connection, pytest.raises(RefusedError, match="asked for already"):
        adjustments.credit(
            connection, closer.tenant_id, buffer.id, reason="never delivered", actor="Ann", at=CLOSE_AT
        )


@pytest.mark.parametrize("actor", ["Max", "nobody"])
def test_only_owners_approvers_and_the_operator_close(closer: Closer, actor: str) -> None:
    closer.capture("a")
    closer.recount()
    with pytest.raises(RefusedError, match=r"no approver or owner|does not belong"):
        closer.close_month(actor=actor)
    assert closer.close_month(actor="operator").is_new


def test_rows_of_a_closed_month_stand(closer: Closer) -> None:
    closer.closed("a")
    for statement in (
        "update usage.ingest_idempotency set billing_state = 'RECOVERED'",
        "delete from usage.ingest_idempotency",
        "update usage.invoice_snapshot set event_count = 0",
        "delete from usage.invoice_snapshot",
    ):
        with pytest.raises(sa.exc.DBAPIError), closer.engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_nobody_adds_a_snapshot_to_a_closed_month(closer: Closer) -> None:
    closer.closed("a")
    with pytest.raises(sa.exc.DBAPIError, match="its snapshots are those of the close"):
        closer.pinned("insert into usage.invoice_snapshot select * from usage.invoice_snapshot")


def test_the_plan_at_the_first_instant_rates_the_month(closer: Closer) -> None:
    closer.plan(10, at=datetime(2025, 12, 20, tzinfo=UTC), base_price=Decimal(5))
    closer.plan(20, at=JANUARY, base_price=Decimal(9))
    closer.pinned("update usage.usage_periods set state = state")
    closer.capture("a")
    closer.recount()
    with pytest.raises(RefusedError, match="2025-12 is not closed"):
        closer.close_month()
    closer.close_month("2025-12")
    closer.close_month()
    assert closer.lines("2025-12")[0][3] == Decimal(5)
    assert closer.lines("2026-01")[0][3] == Decimal(5)


def test_months_that_should_be_closed_are_told(closer: Closer) -> None:
    closer.capture("a")
    at = datetime(2026, 3, 6, tzinfo=UTC)

    def told() -> list[tuple]:
        with closer.engine.begin() as connection:
            found = periods.missed(connection, at=at, days=5)
        mine = [each for each in found if each.tenant_id == closer.tenant_id]
        return [(each.year_month, each.state, each.days) for each in mine]

    assert told() == [("2026-01", "OPEN", 33), ("2026-02", None, 5)]
    closer.recount()
    closer.close_month()
    assert told() == [("2026-02", None, 5)]


def test_a_month_is_closing_from_its_end_on_and_takes_usage_still(closer: Closer) -> None:
    closer.capture("a")
    with closer.engine.begin() as connection:
        assert periods.begin_closing(connection, closer.tenant_id, at=JANUARY) == []
        assert periods.begin_closing(connection, closer.tenant_id, at=CLOSE_AT) == ["2026-01"]
    assert closer.state() == "CLOSING"
    closer.capture(event(closer.site, "b", at=LAST_MOMENT), at=CLOSE_AT)
    closer.recount()
    assert closer.close_month().rows == 2


def test_tenants_close_apart_from_each_other(closer: Closer, usage_engine: sa.Engine) -> None:
    other = make(usage_engine)
    other.capture("x")
    closer.closed("a")
    assert (closer.state(), other.state(), other.snapshots()) == ("CLOSED", "OPEN", [])
