"""What Dagster makes of a backfill: how many runs it asks for, over which days and for which tenants."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import dagster as dg
import pytest

# Private: Dagster has no public way to plan a backfill without a daemon that also executes what it planned.
# These are what its own daemon and webserver call, against a code server in a process of its own.
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.cli import execute_query

from dagster_project.lib import dbt
from dagster_project.lib.partitions import daily, range_tags
from dagster_project.settings import REPOSITORY
from models import address, server

BACKFILLED = (["analytics", "metric_snapshots_daily"], ["ops", "tenant_runs"])
LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture(scope="module")
def workspace(
    postgres: server.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkspaceProcessContext]:
    """The deployed instance without its daemon: what a backfill asks for is queued and never executed."""
    dbt.project()  # writes dbt's manifest, which the code server then finds
    home = tmp_path_factory.mktemp("dagster")
    shutil.copy(REPOSITORY / "deploy" / "dagster.yaml", home)
    address.ensure_database(postgres.url("backfills"))
    target = ModuleTarget("dagster_project.definitions", None, str(REPOSITORY), "revenue")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DAGSTER_HOME", str(home))
        patched.setenv("DAGSTER_PG_URL", postgres.url("backfills", driver="psycopg2"))
        with dg.DagsterInstance.get() as instance, WorkspaceProcessContext(instance, target) as context:
            yield context


def _requested(
    workspace: WorkspaceProcessContext, first: str, last: str, **asked: Any
) -> list[dg.DagsterRun]:
    """The runs that a backfill over `first` to `last` asks for, after the daemon has looked at it twice."""
    days = daily().get_partition_keys_in_range(dg.PartitionKeyRange(first, last))
    selection = [{"path": path} for path in BACKFILLED]
    params = {"assetSelection": selection, "partitionNames": list(days), **asked}
    answer = execute_query(workspace, LAUNCH, {"params": params})
    launched = answer["data"]["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    for _ in range(2):  # a second look must not ask again
        failures = [error for error in execute_backfill_iteration(workspace, logging.getLogger()) if error]
        assert failures == []
    runs = dg.RunsFilter(tags={"dagster/backfill": launched["backfillId"]})
    return list(workspace.instance.get_runs(runs))


# Dagster writes events down for each day, and days are all alike: two months of them stand for the year.
@pytest.mark.parametrize("last", ["2025-02-28", pytest.param("2025-12-31", marks=pytest.mark.slow)])
def test_a_backfill_of_however_many_days_plans_one_run(workspace: WorkspaceProcessContext, last: str) -> None:
    runs = _requested(workspace, "2025-01-01", last)
    assert [run.status for run in runs] == [dg.DagsterRunStatus.QUEUED]
    assert range_tags("2025-01-01", last).items() <= runs[0].tags.items()
    assert runs[0].asset_selection == {dg.AssetKey(path) for path in BACKFILLED}


def test_a_repair_of_one_tenant_keeps_its_scope(workspace: WorkspaceProcessContext) -> None:
    scope = {"ops": {"metric_snapshots": {"config": {"tenant_ids": [str(UUID(int=7))]}}}}
    runs = _requested(workspace, "2025-03-01", "2025-03-31", runConfigData=scope)
    assert [run.run_config for run in runs] == [scope]
    assert range_tags("2025-03-01", "2025-03-31").items() <= runs[0].tags.items()
