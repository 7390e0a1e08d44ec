"""Marts that dbt builds apart from the metrics of a night: no window is read."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from dagster_project.database import engine
from dagster_project.lib import dbt
from dagster_project.lib.dbt import Window
from kernel.warehouse.lock import serialized


def marts(name: str, select: str) -> dg.AssetsDefinition:
    """The models that dbt selects, built and tested by one op under the lock of the warehouse."""

    @dbt_assets(
        manifest=dbt.project().manifest_path,
        project=dbt.project(),
        select=select,
        dagster_dbt_translator=dbt.Translator(),
        name=name,
        pool="warehouse",
    )
    def build_marts(context: dg.AssetExecutionContext, dbt_cli: DbtCliResource) -> Iterator:
        now = datetime.now(UTC)
        with serialized(engine()), dbt.running(Window(now.date(), now.date(), now, context.run_id)):
            yield from dbt_cli.cli(["build"], context=context).stream()

    return build_marts
