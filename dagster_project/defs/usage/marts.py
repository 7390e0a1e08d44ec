"""The marts of usage: days that changed are counted anew, every hour and before a close."""

from functools import cache

import dagster as dg

from dagster_project.lib import marts as lib


@cache
def marts() -> dg.AssetsDefinition:
    return lib.marts("usage_marts", "path:models/marts/usage")


rebuild_usage_marts = dg.define_asset_job(
    "rebuild_usage_marts",
    selection=dg.AssetSelection.assets(marts()),
    description="Counts the days of usage that changed.",
)
usage_marts_hourly = dg.ScheduleDefinition(
    job=rebuild_usage_marts,
    description="Counts each hour the days of usage that changed.",
    cron_schedule="35 * * * *",
    name="usage_marts_hourly",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[marts()], schedules=[usage_marts_hourly])
