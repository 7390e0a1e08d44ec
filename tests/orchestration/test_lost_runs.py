"""Commands that were killed: their runs are ended, what they held is given back, and their dbt does no harm."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest
import sqlalchemy as sa

from dagster_project import runs
from kernel.warehouse import lock

STEP = "metric_snapshots"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test({"concurrency": {"pools": {"default_limit": 1}}}) as made:
        yield made


@pytest.fixture
def job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def computing() -> None:
        nothing()

    return computing


@pytest.fixture(autouse=True)
def same_database(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "engine", lambda: engine)


def started(instance: dg.DagsterInstance, job: dg.JobDefinition, tags: dict[str, str]) -> str:
    """A run that is under way and holds the warehouse."""
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("warehouse")
    storage.claim_concurrency_slot("warehouse", run.run_id, STEP)
    return run.run_id


def holders(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.event_log_storage.get_concurrency_info("warehouse").active_run_ids)


def test_the_run_of_a_killed_command_is_ended_and_gives_the_warehouse_back(instance, job) -> None:
    with runs._owned() as owner:
        run_id = started(instance, job, owner)
    assert holders(instance) == {run_id}
    assert runs.end_lost_runs(instance) == [run_id]
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
    assert holders(instance) == set()


def test_a_run_whose_command_lives_is_left_alone(instance, job) -> None:
    with runs._owned() as owner:
        run_id = started(instance, job, owner)
        assert runs.end_lost_runs(instance) == []
    assert holders(instance) == {run_id}


def test_a_run_of_the_daemon_is_left_to_the_daemon(instance, job) -> None:
    started(instance, job, {})
    assert runs.end_lost_runs(instance) == []


def test_a_command_waits_for_the_warehouse_and_says_for_whom(instance, job, monkeypatch) -> None:
    run_id = started(instance, job, {})
    told: list[str] = []

    def free(seconds: float) -> None:
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)

    monkeypatch.setattr(time, "sleep", free)
    runs._wait_for_the_warehouse(instance, told.append)
    assert told == [f"run {run_id} is at work on the warehouse"]


def test_what_a_killed_run_left_at_work_is_ended_before_the_next_begins(engine: sa.Engine) -> None:
    left = sa.create_engine(engine.url, connect_args={"application_name": "revenue-os dbt"})
    other = sa.create_engine(engine.url, connect_args={"application_name": "psql"})
    with left.connect() as orphan, other.connect() as bystander:
        orphan.execute(sa.text("select 1"))
        bystander.execute(sa.text("select 1"))
        with lock.serialized(engine) as holder:
            assert holder > 0
            with pytest.raises(sa.exc.OperationalError, match="terminat"):
                orphan.execute(sa.text("select 1"))
            bystander.execute(sa.text("select 1"))
        orphan.invalidate()
    left.dispose()
    other.dispose()
