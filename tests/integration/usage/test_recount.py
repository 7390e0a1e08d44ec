"""Which months are counted again, by whom, and what becomes of a count that is off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import gate, recount, sites
from tests.integration.usage.capturing import event
from tests.integration.usage.closing import CLOSE_AT, FEBRUARY, JANUARY, Closer

MONTH = "2026-01"


def _find(closer: Closer, at=CLOSE_AT) -> list[tuple[UUID, str]]:
    with closer.engine.begin() as connection:
        return recount.find(connection, closer.tenant_id, at)


def _claim(closer: Closer, owner: str, at=CLOSE_AT, **given) -> recount.Job | None:
    with closer.engine.begin() as connection:
        return recount.claim(connection, owner, at, tenant_id=closer.tenant_id, **given)


def _job(closer: Closer):
    return closer.pinned("select * from usage.billing_reconciliation_jobs")[0]


def _spoil(closer: Closer, by: int) -> None:
    closer.pinned("update usage.usage_counters set accepted = accepted + :by", by=by)


def test_a_month_that_changed_is_counted_and_one_that_did_not_is_not(closer: Closer) -> None:
    closer.capture("a", "b")
    assert _find(closer) == [(closer.site.id, MONTH)]
    assert _find(closer) == []
    (counted,) = recount.work(closer.engine, "w", lambda: CLOSE_AT, tenant_id=closer.tenant_id)
    assert (counted.status, counted.matrix.ledger["billable"], counted.matrix.off) == ("COMPLETED", 2, {})


def test_a_completed_month_is_counted_again_when_rows_come(closer: Closer) -> None:
    closer.capture("a")
    closer.recount()
    closer.capture("b")
    (counted,) = closer.recount()
    assert counted.matrix.ledger["rows"] == 2


def test_a_row_that_commits_late_is_not_lost(closer: Closer) -> None:
    with closer.engine.begin() as connection:
        other = sites.make(connection, closer.tenant_id, "other")
    closer.capture("first")
    assert _find(closer) == [(closer.site.id, MONTH)]
    with closer.engine.connect() as late:
        transaction = late.begin()
        gate.capture(late, [event(closer.site, "late")], at=JANUARY, actor="gate")
        # Its number is taken, and a row with a later number commits before it.
        closer.capture(event(other, "early"))
        assert _find(closer) == []
        transaction.commit()
    assert sorted(_find(closer)) == sorted([(closer.site.id, MONTH), (other.id, MONTH)])


def test_a_mark_of_another_server_is_not_believed(closer: Closer) -> None:
    closer.capture("a")
    _find(closer)
    closer.pinned("update usage.usage_watermark set txid = 9000000000")
    assert _find(closer) == [(closer.site.id, MONTH)]


RESTORED = 9_000_000_000  # a transaction of a server that had seen more of them


@pytest.fixture
def restored(closer: Closer) -> Closer:
    """January with two events and everything that was said of it, as a dump brings it to a server that is new."""
    closer.capture("a", "b")
    closer.recount()
    with closer.engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        for statement in (
            "update usage.ingest_idempotency set txid = txid + :by where tenant_id = :tenant_id",
            "update usage.usage_watermark set txid = txid + :by where tenant_id = :tenant_id",
            "update usage.billing_reconciliation_jobs set changed_to = changed_to + :by, counted_to = counted_to + :by"
            " where tenant_id = :tenant_id",
        ):
            connection.execute(sa.text(statement), {"by": RESTORED, "tenant_id": closer.tenant_id})
    return closer


def _waits(closer: Closer) -> bool:
    """Whether a tenant has something to count; all others of the database are done."""
    with closer.engine.begin() as connection:
        before = recount.waiting(connection, CLOSE_AT)
    _find(closer)
    closer.recount()
    with closer.engine.begin() as connection:
        return recount.waiting(connection, CLOSE_AT) < before


def test_a_month_that_was_restored_is_counted_once_and_can_be_closed(restored: Closer) -> None:
    (counted,) = restored.recount()
    assert (counted.status, counted.matrix.ledger["rows"]) == ("COMPLETED", 2)
    assert restored.recount() == []
    assert all(check.is_ok for check in restored.checks().values())
    assert restored.close_month().rows == 2


def test_what_is_captured_after_a_restore_is_found_and_what_was_restored_is_not_again(
    restored: Closer,
) -> None:
    restored.recount()
    restored.capture("c")
    (counted,) = restored.recount()
    assert (counted.status, counted.matrix.ledger["rows"]) == ("COMPLETED", 3)
    assert restored.recount() == []


def test_what_changes_while_a_restored_month_is_counted_is_counted_again(
    restored: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _find(restored)
    job = _claim(restored, "w")
    whole = recount.compare

    def compare(*given):
        found = whole(*given)
        restored.capture("c")
        _find(restored)
        return found

    monkeypatch.setattr(recount, "compare", compare)
    assert recount.count(restored.engine, job, "w", lambda: CLOSE_AT).status == "QUEUED"


def test_a_tenant_that_was_restored_waits_until_it_was_counted(restored: Closer) -> None:
    assert _waits(restored)
    assert not _waits(restored)


def test_a_month_that_changes_without_end_is_counted_once_in_a_run(
    closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer.capture("a")
    _find(closer)
    whole, keys = recount.compare, iter("bcdefgh")

    def compare(*given):
        found = whole(*given)
        closer.capture(next(keys))
        _find(closer)
        return found

    monkeypatch.setattr(recount, "compare", compare)
    (counted,) = recount.work(closer.engine, "w", lambda: CLOSE_AT, tenant_id=closer.tenant_id)
    assert counted.status == "QUEUED"


def test_a_refusal_that_is_taken_back_is_found(closer: Closer) -> None:
    closer.plan(1)
    closer.capture("a", "b")
    closer.recount()
    later = JANUARY + timedelta(hours=1)
    closer.plan(5, at=later)
    closer.capture("b", at=later)
    (counted,) = closer.recount()
    assert (counted.matrix.ledger["billable"], counted.matrix.ledger["rejected"]) == (2, 0)


def test_one_job_is_taken_by_one_of_many(closer: Closer) -> None:
    closer.capture("a")
    _find(closer)
    taken = []
    threads = [threading.Thread(target=lambda n=n: taken.append(_claim(closer, f"w{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(job is not None for job in taken) == 1


def test_the_job_of_a_dead_worker_is_taken_over_and_its_own_result_is_dropped(closer: Closer) -> None:
    closer.capture("a")
    _find(closer)
    job = _claim(closer, "dead", lease=timedelta(minutes=1))
    assert _claim(closer, "other") is None
    later = CLOSE_AT + timedelta(minutes=2)
    assert _claim(closer, "other", later).attempt == 2
    assert recount.count(closer.engine, job, "dead", lambda: later).status == "LOST"
    assert recount.count(closer.engine, job, "other", lambda: later).status == "COMPLETED"


def test_a_job_whose_workers_die_eight_times_is_dead(closer: Closer) -> None:
    closer.capture("a")
    _find(closer)
    at = CLOSE_AT
    for number in range(recount.ATTEMPTS):
        assert _claim(closer, f"w{number}", at, lease=timedelta(minutes=1)) is not None
        at += timedelta(minutes=2)
    assert _claim(closer, "last", at) is None
    assert _job(closer).status == "DEAD"
    with closer.engine.begin() as connection:
        assert recount.queue(connection, closer.tenant_id, MONTH, at=at) == [closer.site.id]
    assert [each.status for each in closer.recount(at)] == ["COMPLETED"]


def test_a_failed_count_waits_longer_each_time(closer: Closer, monkeypatch: pytest.MonkeyPatch) -> None:
    closer.capture("a")
    _find(closer)
    monkeypatch.setattr(recount, "compare", lambda *_: 1 / 0)
    at, waits = CLOSE_AT, []
    for _ in range(recount.ATTEMPTS):
        (failed,) = recount.work(closer.engine, "w", lambda: at, tenant_id=closer.tenant_id)  # noqa: B023
        job = _job(closer)
        waits.append(job.due_at - at)
        at = job.due_at
    assert (failed.status, "ZeroDivisionError" in job.last_error) == ("DEAD", True)
    assert waits == sorted(waits)
    assert waits[0] >= timedelta(seconds=30)


def test_what_changes_while_it_is_counted_is_counted_again(
    closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer.capture("a")
    _find(closer)
    job = _claim(closer, "w")
    whole = recount.compare

    def compare(*given):
        found = whole(*given)
        closer.capture("b")
        _find(closer)
        return found

    monkeypatch.setattr(recount, "compare", compare)
    assert recount.count(closer.engine, job, "w", lambda: CLOSE_AT).status == "QUEUED"
    monkeypatch.setattr(recount, "compare", whole)
    (again,) = recount.work(closer.engine, "w", lambda: CLOSE_AT, tenant_id=closer.tenant_id)
    assert (again.status, again.matrix.ledger["rows"]) == ("COMPLETED", 2)


def test_a_counter_is_corrected_by_what_it_is_off_and_keeps_what_came_meanwhile(
    closer: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer.capture("a", "b")
    _spoil(closer, 5)
    _find(closer)
    whole = recount.compare

    def compare(*given):
        found = whole(*given)
        closer.capture("c")
        return found

    monkeypatch.setattr(recount, "compare", compare)
    (counted,) = recount.work(closer.engine, "w", lambda: CLOSE_AT, tenant_id=closer.tenant_id)
    assert counted.matrix.off == {"counters.billable": 5}
    assert closer.counters() == (3, 0, 0)
    closer.agrees()
    events = closer.pinned("select event, detail from usage.usage_audit")
    assert [(each.event, each.detail["by"]["billable"]) for each in events] == [("counter_corrected", -5)]


def test_counting_twice_is_counting_once(closer: Closer) -> None:
    closer.capture("a", "b")
    _spoil(closer, 1)
    closer.recount()
    with closer.engine.begin() as connection:
        recount.queue(connection, closer.tenant_id, MONTH, at=CLOSE_AT)
    (again,) = closer.recount()
    assert (again.matrix.off, closer.counters()) == ({}, (2, 0, 0))


@pytest.mark.parametrize(("by", "is_alarm"), [(10, False), (11, True)])
def test_small_drift_is_told_and_raises_no_alarm(closer: Closer, by: int, is_alarm: bool) -> None:
    closer.capture("a", "b")
    _spoil(closer, by)
    (counted,) = closer.recount()
    assert counted.matrix.share == Decimal(by) / 2
    assert counted.matrix.alarms == (["counters.billable"] if is_alarm else [])
    job = _job(closer)
    assert (job.last_drift_pct, job.drift["off"]) == (Decimal(by) / 2, {"counters.billable": by})


def test_an_event_that_nobody_carries_is_off(closer: Closer) -> None:
    closer.capture("a", "b")
    closer.pinned("delete from usage.usage_outbox")
    (counted,) = closer.recount()
    assert counted.matrix.off == {"delivered.rows": -2}


def test_given_up_messages_are_counted_apart(closer: Closer) -> None:
    def failing(*_: object) -> None:
        raise OSError

    closer.capture("a", "b", publisher=failing)
    closer.pinned("update usage.ingest_fallback_buffer set status = 'QUARANTINE'")
    (counted,) = closer.recount()
    assert (counted.matrix.off, counted.matrix.quarantined) == ({}, 2)


@pytest.fixture
def marts(closer: Closer) -> Iterator[Closer]:
    """January with two events, and marts that know both in the one and none in the other; nothing says since when."""
    closer.capture("a", "b")
    of = f"('{closer.tenant_id}', '{closer.site.id}'"
    with closer.engine.begin() as connection:
        for statement in (
            "create schema if not exists analytics",
            "create table analytics.usage_ledger_daily (tenant_id uuid, site_id uuid, day date, year_month text,"
            " billable_count bigint, overage_count bigint, row_count bigint, counted_to bigint)",
            "create table analytics.site_usage_monthly (tenant_id uuid, site_id uuid, year_month text,"
            " event_count bigint, overage_count bigint, row_count bigint, counted_to bigint)",
            "grant usage on schema analytics to revenue_service",
            "grant select on all tables in schema analytics to revenue_service",
            f"insert into analytics.usage_ledger_daily values {of}, '2026-01-15', '2026-01', 1, 0, 1, 0),"
            f" {of}, '2026-01-16', '2026-01', 1, 0, 1, 0)",
            f"insert into analytics.site_usage_monthly values {of}, '2025-12', 9, 0, 9, 0)",
        ):
            connection.exec_driver_sql(statement)
    yield closer
    with closer.engine.begin() as connection:
        connection.exec_driver_sql("drop table analytics.usage_ledger_daily, analytics.site_usage_monthly")


def _counted_to(closer: Closer, txid: str) -> None:
    with closer.engine.begin() as connection:
        for mart in ("usage_ledger_daily", "site_usage_monthly"):
            connection.exec_driver_sql(f"update analytics.{mart} set counted_to = {txid}")


def test_marts_that_were_never_built_say_nothing(closer: Closer) -> None:
    closer.capture("a", "b")
    (counted,) = closer.recount()
    assert counted.matrix.others["usage_ledger_daily"] is None
    assert counted.matrix.behind == ()


def test_marts_that_saw_every_row_are_compared(marts: Closer) -> None:
    _counted_to(marts, "pg_current_xact_id()::text::bigint")
    (counted,) = marts.recount()
    assert counted.matrix.behind == ()
    assert counted.matrix.off == {"site_usage_monthly.rows": -2, "site_usage_monthly.billable": -2}


def test_marts_that_were_built_before_the_last_event_are_behind_and_not_off(marts: Closer) -> None:
    _counted_to(marts, "(select max(txid) from usage.ingest_idempotency)")
    (counted,) = marts.recount()
    assert counted.matrix.off == {}
    assert counted.matrix.behind == ("usage_ledger_daily", "site_usage_monthly")
    with pytest.raises(
        RefusedError, match=r"was built before site .* last changed: run revenue-os usage marts"
    ):
        marts.close_month()


def test_marts_that_were_restored_are_behind_until_they_are_built_here(marts: Closer) -> None:
    with marts.engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.execute(
            sa.text("update usage.ingest_idempotency set txid = txid + :by where tenant_id = :tenant_id"),
            {"by": RESTORED, "tenant_id": marts.tenant_id},
        )
    # No mark came along: it is the first look of this server too.
    _counted_to(marts, str(RESTORED * 2))
    (counted,) = marts.recount()
    assert counted.matrix.behind == ("usage_ledger_daily", "site_usage_monthly")
    _counted_to(marts, "pg_current_xact_id()::text::bigint")
    with marts.engine.begin() as connection:
        # Of a day that left the ledger: it is never built here.
        connection.exec_driver_sql(
            "insert into analytics.usage_ledger_daily (tenant_id, year_month, counted_to)"
            f" values ('{marts.tenant_id}', '2025-01', {RESTORED * 2})"
        )
        recount.queue(connection, marts.tenant_id, MONTH, at=CLOSE_AT)
    (counted,) = marts.recount()
    assert counted.matrix.behind == ()


def test_a_closed_month_is_compared_and_never_touched(closer: Closer) -> None:
    closer.closed("a", "b")
    _spoil(closer, 3)
    with closer.engine.begin() as connection:
        recount.queue(connection, closer.tenant_id, MONTH, at=FEBRUARY)
    (counted,) = closer.recount(FEBRUARY)
    assert counted.matrix.off == {"counters.billable": 3}
    assert counted.matrix.others["invoice_snapshot"] == {"rows": 2, "billable": 2, "overage": 0}
    assert closer.counters() == (5, 0, 0)


def test_a_month_whose_rows_were_archived_is_not_counted_as_nothing(closer: Closer) -> None:
    closer.closed("a")
    closer.pinned(
        "insert into usage.usage_archives (tenant_id, site_id, year_month, place, sha256, row_count, merkle_root)"
        " values (:t, :s, '2026-01', 'the vault', 'x', 1, 'x')",
        t=closer.tenant_id, s=closer.site.id,
    )  # fmt: skip
    with (
        closer.engine.begin() as connection,
        pytest.raises(RefusedError, match="archived at the vault"),
    ):
        recount.queue(connection, closer.tenant_id, MONTH, at=FEBRUARY)
    closer.pinned("update usage.billing_reconciliation_jobs set status = 'QUEUED'")
    (counted,) = closer.recount(FEBRUARY)
    assert (counted.status, "archived" in counted.error) == ("DEAD", True)


def test_two_recounts_at_once_are_as_one(closer: Closer) -> None:
    closer.capture("a", "b", "c")
    _spoil(closer, 7)
    threads = [threading.Thread(target=closer.recount, kwargs={"owner": f"w{n}"}) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert closer.counters() == (3, 0, 0)


def test_a_tenant_is_looked_through_by_one_at_a_time(closer: Closer) -> None:
    closer.capture("a")
    with closer.engine.connect() as first:
        transaction = first.begin()
        assert recount.find(first, closer.tenant_id, CLOSE_AT) == [(closer.site.id, MONTH)]
        with closer.engine.begin() as second:
            tenancy.service(second, closer.tenant_id)
            second.exec_driver_sql("set local lock_timeout = 100")
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                recount.find(second, closer.tenant_id, CLOSE_AT)
        transaction.rollback()
    assert _find(closer) == [(closer.site.id, MONTH)]
