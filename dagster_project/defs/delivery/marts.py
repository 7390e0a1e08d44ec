"""The marts of deliveries: rebuilt whole, once a day, apart from the metrics of a night."""

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
        select="path:models/intermediate/delivery path:models/marts/delivery",
        dagster_dbt_translator=dbt.Translator(),
        name="delivery_marts",
        pool="warehouse",
    )
    def build_marts(context: dg.AssetExecutionContext, dbt_cli: DbtCliResource) -> Iterator:
        """What analysts read of deliveries; no window is read."""
        now = datetime.now(UTC)
        with serialized(engine()), dbt.running(Window(now.date(), now.date(), now, context.run_id)):
            yield from dbt_cli.cli(["build"], context=context).stream()

    return build_marts


rebuild_delivery_marts = dg.define_asset_job(
    "rebuild_delivery_marts",
    selection=dg.AssetSelection.assets(marts()),
    description="Rebuilds the marts of deliveries.",
)
delivery_marts_daily = dg.ScheduleDefinition(
    job=rebuild_delivery_marts,
    cron_schedule="45 5 * * *",
    name="delivery_marts_daily",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[marts()], schedules=[delivery_marts_daily])
