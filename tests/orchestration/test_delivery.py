"""Deliveries as the daemon and analysts meet them: what sensors ask for, what the jobs do, what is measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import dagster as dg
import pytest
import sqlalchemy as sa

from dagster_project.defs.delivery import review, work
from dagster_project.lib import tables
from kernel.delivery import send
from kernel.delivery.invariants import INVARIANTS
from kernel.delivery.providers import registry
from kernel.delivery.providers.base import Capabilities
from tests.fakes import campaigns
from tests.orchestration.location import location, run, tick
from tests.warehouse.build import dbt


@pytest.fixture
def database(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """The definitions on a test's database, with a provider that answers as the address says."""
    for module in (review, work):
        monkeypatch.setattr(module, "engine", lambda: engine)
    keyed = Capabilities(key_window=timedelta(days=1), timeout=timedelta(seconds=5), concurrency=1)
    provider = campaigns.Scripted(capabilities=keyed)
    monkeypatch.setattr(registry, "make", lambda account: provider)
    return engine


def _do(engine: sa.Engine, command: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(command)


def _rows(engine: sa.Engine, query: str) -> list:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def _launched(engine: sa.Engine, slug: str = "acme", **columns: str) -> UUID:
    tenant_id = campaigns.add_company(engine, slug, **columns)
    campaigns.launched(engine, tenant_id)
    return tenant_id


def test_jobs_that_are_due_ask_for_one_run_until_one_is_at_work(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    assert tick("outbox_due", instance) == "0 wait"
    _launched(database, "one")
    _launched(database, "two")
    request = tick("outbox_due", instance)
    assert request.tags["waiting"] == "2"
    instance.create_run_for_job(
        location().resolve_job_def("delivery_work"), status=dg.DagsterRunStatus.STARTED
    )
    assert tick("outbox_due", instance) == "2 wait"


def test_jobs_that_are_due_again_ask_under_another_key(
    database: sa.Engine, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Within one minute, so that only the leases tell the requests apart.
    monkeypatch.setattr(work, "_now", lambda: datetime(2026, 7, 1, tzinfo=UTC))
    _launched(database)
    first = tick("outbox_due", instance)
    assert tick("outbox_due", instance).run_key == first.run_key
    campaigns.worker(database).claim(1)
    _do(database, "update delivery.job_queue set status = 'queued', lease_expires_at = null")
    assert tick("outbox_due", instance).run_key != first.run_key


def test_a_run_sends_what_is_due_and_leaves_nothing_to_ask_for(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    _launched(database)
    _launched(database, "two")
    assert run("delivery_work", instance).success
    query = "select status, count(*) from delivery.channel_outbox group by 1 order by 1"
    # Who was busy is attempted again some seconds later.
    assert _rows(database, query) == [("queued", 2), ("sent", 4), ("skipped", 2), ("unknown", 2)]
    assert tick("outbox_due", instance) == "0 wait"


def test_a_run_whose_time_is_over_begins_nothing(database: sa.Engine, instance: dg.DagsterInstance) -> None:
    _launched(database)
    config = {"ops": {"send_due": {"config": {"minutes": 1e-9}}}}
    assert run("delivery_work", instance, run_config=config).success
    assert _rows(database, "select count(*) from delivery.attempts") == [(0,)]


def test_what_a_lost_worker_left_is_settled_and_sent_on(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    _launched(database)

    class Killed(BaseException):
        """Nothing catches it, as nothing catches the end of a process."""

    def die(point: str) -> None:
        if point == "about to call":
            raise Killed

    with pytest.raises(Killed):
        send.work(campaigns.worker(database, at=die, parallel=1))
    assert tick("leases_expired", instance) == "0 wait"
    _do(database, "update delivery.attempts set deadline_at = now()")
    _do(database, "update delivery.job_queue set lease_expires_at = now()")
    request = tick("leases_expired", instance)
    assert request.tags["waiting"] == "5"
    assert run("delivery_settle", instance).success
    assert tick("leases_expired", instance) == "0 wait"
    assert _rows(database, "select count(*) from delivery.channel_outbox where status = 'sent'") == [(2,)]


def test_a_case_is_looked_up_when_due_and_told_when_a_person_owes_it_too_long(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    _launched(database)
    send.work(campaigns.worker(database))
    _do(
        database,
        "update delivery.reconciliation_cases set next_lookup_at = null, due_at = now() - interval '1 hour'",
    )
    assert tick("cases_due", instance) == "0 wait, 1 cases are overdue"
    _do(database, "update delivery.reconciliation_cases set next_lookup_at = now()")
    assert tick("cases_due", instance).tags["waiting"] == "1"
    done = run("delivery_look_up", instance)
    assert done.success
    assert tick("cases_due", instance) == "0 wait, 1 cases are overdue"


def _checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_a_review_measures_and_finds_nothing_broken(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    _launched(database)
    send.work(campaigns.worker(database))
    result = run("review_deliveries", instance)
    passed = _checks(result)
    assert set(passed) == {*INVARIANTS, "start_p99_is_within_120_seconds"}
    assert all(passed.values())
    seen = {
        event.asset_key.path[-1]: event.materialization.metadata
        for event in result.all_events
        if event.is_step_materialization
    }
    assert set(seen) == {"run_funnel", "latency", "provider_health"}
    assert "| acme | spring | email |" in seen["run_funnel"]["newest"].value
    assert seen["run_funnel"]["attempts"].value.startswith("![attempts]")
    assert (seen["run_funnel"]["unknown"].value, seen["latency"]["jobs"].value) == (1, 1)
    assert seen["provider_health"]["unknown_rate_pct"].value == 25
    assert "busy: 1, timeout: 1" in seen["provider_health"]["by_account"].value


def test_a_review_of_nothing_succeeds(database: sa.Engine, instance: dg.DagsterInstance) -> None:
    result = run("review_deliveries", instance)
    assert all(_checks(result).values())


def test_a_broken_invariant_fails_the_review_and_is_named(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    _launched(database)
    send.work(campaigns.worker(database))
    _do(database, "update delivery.attempts set lease_token = 99")
    result = run("review_deliveries", instance, raise_on_error=False)
    assert not result.success
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [(check.check_name, check.blocking) for check in failed] == [
        ("no_attempt_has_a_later_token_than_its_job", True)
    ]
    assert "token 99, and its job has 1" in failed[0].metadata["first"].value


def test_what_is_broken_in_a_run_of_long_ago_is_found_in_the_night_and_not_each_hour(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    _launched(database)
    send.work(campaigns.worker(database))
    _do(database, "update delivery.reconciliation_cases set resolution = 'abandoned', resolved_at = now()")
    _do(database, "update delivery.channel_outbox set status = 'abandoned' where status = 'unknown'")
    _do(
        database,
        "update delivery.campaign_runs set status = 'partial', updated_at = now() - interval '3 days'",
    )
    _do(database, "update delivery.attempts set lease_token = 99")
    hourly = run("review_deliveries", instance)
    assert hourly.success
    (looked_at,) = {
        check.metadata["looked_at"].value
        for check in hourly.get_asset_check_evaluations()
        if check.check_name in INVARIANTS
    }
    assert looked_at.startswith("runs that go on or changed since")
    nightly = run("verify_deliveries", instance, raise_on_error=False)
    assert "no_attempt_has_a_later_token_than_its_job" in {
        check.check_name for check in nightly.get_asset_check_evaluations() if not check.passed
    }


def test_a_late_start_is_told_and_blocks_nothing(database: sa.Engine, instance: dg.DagsterInstance) -> None:
    _launched(database)
    _do(database, "update delivery.job_queue set scheduled_for = now() - interval '121 seconds'")
    result = run("review_deliveries", instance)
    assert result.success
    assert [name for name, passed in _checks(result).items() if not passed] == [
        "start_p99_is_within_120_seconds"
    ]


def test_a_cell_of_a_table_cannot_end_it() -> None:
    made = tables.table([{"the_name": "a|b\nc", "seconds": [1.0, None], "at": None}], "nothing")
    assert made.value == "| the name | seconds | at |\n|---|---|---|\n| a\\|b c | 1.0 /  |  |"
    assert tables.table([], "nothing").value == "nothing"


def test_deliveries_of_tests_and_demonstrations_are_in_no_mart(warehouse_url: str) -> None:
    database = sa.create_engine(warehouse_url)
    real = _launched(database, "real")
    _launched(database, "trial", status="test")
    _launched(database, "shown", metrics_mode="demo")
    send.work(campaigns.worker(database))
    now = datetime.now(UTC)
    done = dbt(
        warehouse_url, "run", "--select", "+path:models/marts/delivery",
        DBT_WINDOW_START=now.date().isoformat(), DBT_WINDOW_END=now.date().isoformat(), DBT_AS_OF=now.isoformat(),
        DBT_TENANT_IDS="",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    query = "select relname from pg_class where relnamespace = 'analytics'::regnamespace and relkind = 'r' order by 1"
    marts = [name for (name,) in _rows(database, query)]
    assert len(marts) == 5
    for mart in marts:
        assert _rows(database, f"select distinct tenant_id from analytics.{mart}") == [(real,)]
    totals = "select items, accepted, suppressed, unknown, open from analytics.delivery_run_funnel"
    assert _rows(database, totals) == [(5, 2, 1, 1, 1)]
    database.dispose()
