"""Decisions as the daemon meets them: what a bad input holds back, what sensors ask for, when the morning is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy as sa

from dagster_project.defs.decisions import cycles, results, schedules
from dagster_project.defs.quality import kernel_input
from kernel.decisions import cycles as kernel_cycles
from kernel.decisions.contract import Trigger
from tests.integration.decisions import world
from tests.orchestration.location import location

MODULES = (cycles, results, schedules)
DAY = world.LAST_DAY.isoformat()


@pytest.fixture
def database(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """The definitions on a test's database, on the morning after its last day."""
    world.prepare(engine)
    for module in (*MODULES, kernel_input):
        monkeypatch.setattr(module, "engine", lambda: engine)
    for module in MODULES:
        monkeypatch.setattr(module, "_now", lambda: world.MORNING)
    world.execute(engine, "create table analytics.metric_definitions (metric_id text)")
    world.execute(engine, "create table analytics.metric_aliases (alias text, metric_id text)")
    for metric_id in world.HEALTHY:
        world.insert(engine, "analytics.metric_definitions", metric_id=metric_id)
    world.execute(engine, "grant select on all tables in schema analytics to revenue_service")
    return engine


def _decide(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = location().resolve_job_def("decide")
    return job.execute_in_process(partition_key=DAY, instance=instance, raise_on_error=False)


def test_the_morning_decides_every_tenant_and_shows_its_actions(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    tenant = world.add_tenant(database, "one", world.HEALTHY | {"payback_months": 20})
    result = _decide(instance)
    assert result.success
    stored = world.cycles_of(database, tenant)
    assert [(row.status, row.trigger_type) for row in stored] == [("completed", "scheduled")]
    seen = result.asset_materializations_for_node("decisions__actions")[0].metadata
    assert seen["today"].value.startswith(("| tenant |", "No cycle proposed"))
    assert seen["gates"].value.startswith("![tenants under a gate]")
    assert all(check.passed for check in result.get_asset_check_evaluations())


def test_an_unfit_input_holds_the_cycles_back(database: sa.Engine, instance: dg.DagsterInstance) -> None:
    tenant = world.add_tenant(database, "one", world.HEALTHY | {"invented_metric": 1})
    result = _decide(instance)
    assert not result.success
    assert world.cycles_of(database, tenant) == []


def test_a_tenant_that_failed_is_told_by_a_check_and_holds_nobody_back(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    good = world.add_tenant(database, "good")
    bad = world.add_tenant(database, "bad")
    world.store_config(database, bad, {"blocked_actions": ["everything"]})
    result = _decide(instance)
    assert result.success
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert [check.check_name for check in failed] == ["no_cycle_failed"]
    assert "'everything' is unknown" in failed[0].metadata["reasons"].value
    assert [row.status for row in world.cycles_of(database, good)] == ["completed"]


def test_the_past_is_not_decided_again(
    database: sa.Engine, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = world.add_tenant(database, "one")
    monkeypatch.setattr(cycles, "_now", lambda: world.MORNING + timedelta(days=30))
    assert _decide(instance).success
    assert world.cycles_of(database, tenant) == []


def test_the_schedule_asks_for_the_day_that_has_just_closed() -> None:
    schedule = location().resolve_schedule_def("decide_daily")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(2026, 7, 1, 6, 30, tzinfo=UTC),
            repository_def=location().get_repository_def(),
        )
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests] == ["2026-06-30"]


def _tick(name: str, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    loaded = location()
    context = dg.build_sensor_context(instance=instance, definitions=loaded)
    return loaded.resolve_sensor_def(name).evaluate_tick(context).run_requests or []


def test_approved_actions_ask_for_one_run_however_many_they_are(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    world.add_tenant(database, "one")
    assert _tick("actions_approved", instance) == []
    kernel_cycles.run(
        database,
        None,
        clock=world.at(),
        trigger=Trigger(type="manual", source="test", triggered_at=world.MORNING),
        decide=world.deciding(world.action(entity_id="a"), world.action(entity_id="b")),
    )
    first = _tick("actions_approved", instance)
    assert [request.tags["actions"] for request in first] == ["2"]
    world.execute(database, "update spine.optimization_actions set attempts = 1")
    assert _tick("actions_approved", instance)[0].run_key != first[0].run_key


def test_actions_to_be_taken_back_ask_for_a_run(database: sa.Engine, instance: dg.DagsterInstance) -> None:
    world.add_tenant(database, "one")
    kernel_cycles.run(
        database,
        None,
        clock=world.at(),
        trigger=Trigger(type="manual", source="test", triggered_at=world.MORNING),
        decide=world.deciding(world.action()),
    )
    assert _tick("abort_conditions_breached", instance) == []
    world.execute(database, "update spine.optimization_actions set execution_status = 'abort_requested'")
    assert len(_tick("abort_conditions_breached", instance)) == 1


def test_a_trigger_that_waits_asks_for_cycles_until_they_were_run(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    world.add_tenant(database, "one")
    assert [request.partition_key for request in _tick("cycles_due", instance)] == [DAY]
    kernel_cycles.run(database, None, clock=world.at(), trigger=None, decide=world.deciding())
    assert _tick("cycles_due", instance) == []


def test_only_one_run_of_a_job_is_asked_for_at_a_time(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    world.add_tenant(database, "one")
    instance.create_run_for_job(
        location().resolve_job_def("decide"),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": DAY},
    )
    assert _tick("cycles_due", instance) == []


def _status(engine: sa.Engine) -> str:
    (row,) = world.rows(engine, "select execution_status from spine.optimization_actions")
    return row.execution_status


def test_the_jobs_apply_what_is_approved_and_take_back_what_has_to_go(
    database: sa.Engine, instance: dg.DagsterInstance
) -> None:
    world.add_tenant(database, "one")
    trigger = Trigger(type="manual", source="test", triggered_at=world.MORNING)
    proposed = world.action(
        target_entity=None, proposed_change={"field": "max_touches", "current_value": None, "new_value": 6}
    )
    kernel_cycles.run(database, None, clock=world.at(), trigger=trigger, decide=world.deciding(proposed))
    assert location().resolve_job_def("apply_actions").execute_in_process(instance=instance).success
    assert _status(database) == "observing"
    assert world.rows(database, "select field, value from spine.subsystem_settings") == [("max_touches", 6)]
    world.execute(database, "update spine.optimization_actions set execution_status = 'abort_requested'")
    assert location().resolve_job_def("revert_actions").execute_in_process(instance=instance).success
    assert _status(database) == "reverted"


def test_the_digest_of_the_week_is_written_for_the_platform_and_for_each_tenant(
    database: sa.Engine, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_tenant(database, "one")
    monkeypatch.setattr(results, "settings", lambda: SimpleNamespace(home=tmp_path))
    made = location().resolve_job_def("write_digest").execute_in_process(instance=instance)
    assert made.success
    # Wednesday the first of July: the week before began on the twenty-second of June.
    names = {str(path.relative_to(tmp_path / "digests")) for path in tmp_path.rglob("*.html")}
    assert names == {"portfolio/digest-2026-W26.html", "tenants/one/digest-2026-W26.html"}
    (seen,) = made.asset_materializations_for_node("decisions__digest")
    assert "Revenue OS, week 2026-W26" in seen.metadata["digest"].value
