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
