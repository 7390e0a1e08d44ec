"""The marts of usage: days that changed are counted anew, every hour and before a close."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from dagster_project.database import engine
from dagster_project.lib import dbt
from dagster_project.lib.dbt import Window
from kernel.warehouse.lock import serialized


@cache
def marts() -> dg.AssetsDefinition:
    @dbt_assets(
        manifest=dbt.project().manifest_path,
        project=dbt.project(),
        select="path:models/marts/usage",
        dagster_dbt_translator=dbt.Translator(),
        name="usage_marts",
        pool="warehouse",
    )
    def build_marts(context: dg.AssetExecutionContext, dbt_cli: DbtCliResource) -> Iterator:
        """Usage as analysts read it; no window is read."""
        now = datetime.now(UTC)
        with serialized(engine()), dbt.running(Window(now.date(), now.date(), now, context.run_id)):
            yield from dbt_cli.cli(["build"], context=context).stream()

    return build_marts


rebuild_usage_marts = dg.define_asset_job(
    "rebuild_usage_marts",
    selection=dg.AssetSelection.assets(marts()),
    description="Counts the days of usage that changed.",
)
usage_marts_hourly = dg.ScheduleDefinition(
    job=rebuild_usage_marts,
    cron_schedule="35 * * * *",
    name="usage_marts_hourly",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[marts()], schedules=[usage_marts_hourly])
