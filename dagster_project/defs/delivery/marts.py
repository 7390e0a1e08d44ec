"""The marts of deliveries: rebuilt whole, once a day, apart from the metrics of a night."""

from functools import cache

import dagster as dg

from dagster_project.lib import marts as lib


@cache
def marts() -> dg.AssetsDefinition:
    return lib.marts("delivery_marts", "path:models/intermediate/delivery path:models/marts/delivery")


rebuild_delivery_marts = dg.define_asset_job(
    "rebuild_delivery_marts",
    selection=dg.AssetSelection.assets(marts()),
    description="Rebuilds the marts of deliveries.",
)
delivery_marts_daily = dg.ScheduleDefinition(
    job=rebuild_delivery_marts,
    description="Builds the marts of deliveries for the day, after the night.",
    cron_schedule="45 5 * * *",
    name="delivery_marts_daily",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[marts()], schedules=[delivery_marts_daily])
