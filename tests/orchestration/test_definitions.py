"""The code location as analysts and the daemon meet it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import pytest

from dagster_project.defs.books.learning import weeks
from dagster_project.defs.usage.months import months
from dagster_project.lib import dbt
from dagster_project.lib.partitions import daily
from tests.orchestration.location import location as loaded

SNAPSHOTS = dg.AssetKey(["analytics", "metric_snapshots_daily"])


@pytest.fixture(scope="module")
def location() -> dg.Definitions:
    return loaded()


@pytest.fixture(scope="module")
def specs(location: dg.Definitions) -> list[dg.AssetSpec]:
    return list(location.resolve_all_asset_specs())


@pytest.fixture(scope="module")
def fresh() -> tuple[float, set[str]]:
    """What a fresh interpreter that loads the location uses, in seconds of the processor, and all that it imports."""
    dbt.project()  # writes dbt's manifest, which a deployment ships
    before = os.times()
    program = "import sys; from dagster_project.definitions import defs; defs(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=120, stdout=subprocess.PIPE, text=True
    )
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, set(done.stdout.split())


def test_the_location_loads_in_a_fresh_interpreter_within_its_budget(fresh: tuple[float, set[str]]) -> None:
    # Not a measurement (those are in make bench): a ceiling that says something heavy was imported at load. In
    # seconds of the processor, which other work on the machine does not lengthen.
    assert fresh[0] < 15


def test_loading_imports_no_heavy_library(fresh: tuple[float, set[str]]) -> None:
    assert {"dagster", "great_expectations", "sklearn", "matplotlib"} & fresh[1] == {"dagster"}


def test_every_asset_says_what_it_is_and_whose(specs: list[dg.AssetSpec]) -> None:
    poor = [
        spec.key.to_user_string()
        for spec in specs
        if not (spec.description and spec.owners and spec.kinds and spec.group_name != "default")
    ]
    assert poor == []


def test_a_night_builds_the_metrics_and_leaves_the_marts_without_a_window_alone(
    location: dg.Definitions,
) -> None:
    steps = location.resolve_job_def("compute_metrics").graph.node_dict
    assert "metric_snapshots" in steps
    assert not {"delivery_marts", "usage_marts"} & steps.keys()


def test_lineage_leads_from_a_csv_file_to_the_snapshots(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    ancestors = graph.get_ancestor_asset_keys(SNAPSHOTS)
    assert dg.AssetKey(["landing", "revenue_events"]) in ancestors
    assert dg.AssetKey(["spine", "revenue_events"]) in ancestors
    assert dg.AssetKey(["staging", "stg_spine__revenue_events"]) in ancestors


def test_partitioned_assets_share_one_start_and_stay_within_the_budget(specs: list[dg.AssetSpec]) -> None:
    partitioned = [spec.partitions_def for spec in specs if spec.partitions_def is not None]
    assert partitioned
    assert set(partitioned) == {daily(), months(), weeks()}
    assert daily().start == months().start == weeks().start
    assert len(daily().get_partition_keys(current_time=datetime(2034, 1, 1, tzinfo=UTC))) < 100_000


def test_the_schedule_covers_yesterday_and_the_days_still_provisional(location: dg.Definitions) -> None:
    schedule = location.resolve_schedule_def("compute_metrics_daily")
    at = datetime(2026, 7, 1, 6, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance=instance, scheduled_execution_time=at)
        requests = schedule.evaluate_tick(context).run_requests
    assert [
        (tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"])
        for tags in (request.tags for request in requests)
    ] == [("2026-06-23", "2026-06-30")]


def test_checks_that_guard_a_decision_block_what_follows(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    blocking = {
        key.name for key in graph.asset_check_keys if graph.get(key).blocking and key.asset_key == SNAPSHOTS
    }
    assert "kernel_input_is_fit" in blocking


def test_an_unknown_tenant_id_never_reaches_dbt() -> None:
    from dagster_project.lib.scope import TenantScope

    with pytest.raises(ValueError, match="tenant_ids"):
        TenantScope(tenant_ids=["x'}'; drop table spine.tenants; --"])
