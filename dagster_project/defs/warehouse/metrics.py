"""Staging views, the daily metric snapshots, and what became of each tenant."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from dagster_project.database import engine
from dagster_project.lib import dbt, plots
from dagster_project.lib.dbt import OWNER, Window
from dagster_project.lib.freshness import daily_run
from dagster_project.lib.partitions import daily
from dagster_project.lib.scope import TenantScope
from kernel import metrics, tenancy
from kernel.warehouse import admission, outcomes, statistics
from kernel.warehouse.lock import serialized
from kernel.warehouse.outcomes import TenantsFailedError

_HEADLINES = ("pipeline_total", "mrr_total", "cac_blended", "payback_months", "gross_margin_pct")
_APART = " ".join(f"path:models/*/{folder}" for folder in dbt.WITHOUT_WINDOW)
_BUILT = ("--select", "path:models/intermediate path:models/marts", "--exclude", _APART)
_SEVERITY = {"error": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}
SNAPSHOTS = dg.AssetKey(["analytics", "metric_snapshots_daily"])


def _now() -> datetime:
    return datetime.now(UTC)


def _window(context: dg.AssetExecutionContext, tenant_ids: Sequence[str], holder: int) -> Window:
    span = context.partition_time_window
    return Window(
        first=span.start.date(),
        last=(span.end - timedelta(days=1)).date(),
        as_of=_now(),
        run_id=context.run_id,
        tenant_ids=tenant_ids,
        holder=holder,
    )


@cache
def staging_views() -> dg.AssetsDefinition:
    @dbt_assets(
        manifest=dbt.project().manifest_path,
        project=dbt.project(),
        select="path:models/staging resource_type:seed",
        dagster_dbt_translator=dbt.Translator(),
        name="staging_views",
        pool="warehouse",
    )
    def build_staging(context: dg.AssetExecutionContext, dbt_cli: DbtCliResource) -> Iterator:
        """Views over the spine and the dictionary; they read no window."""
        now = _now()
        with serialized(engine()), dbt.running(Window(now.date(), now.date(), now, context.run_id)):
            # Cautious: tests that also read working sets wait for the step that builds those.
            command = ["build", "--indirect-selection", "cautious"]
            yield from dbt_cli.cli(command, context=context).stream()

    return build_staging


@cache
def working_sets() -> list[dg.AssetSpec]:
    """The intermediate models: rebuilt by every run of the snapshots for its own days, never by themselves."""
    return [dbt.spec(node) for node in dbt.nodes_under("intermediate")]


@cache
def snapshots() -> dg.AssetsDefinition:
    nodes = dbt.nodes_under("intermediate", "marts")
    marts = [dbt.spec(node) for node in dbt.nodes_under("marts")]
    checks = {
        test["unique_id"]: dg.AssetCheckSpec(
            test["name"],
            asset=SNAPSHOTS,
            description=test["description"] or None,
            blocking=test["config"]["severity"].lower() == "error",
        )
        for test in dbt.tests_of(nodes)
    }

    @dg.multi_asset(
        name="metric_snapshots",
        specs=marts,
        check_specs=list(checks.values()),
        partitions_def=daily(),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool="warehouse",
    )
    def build_snapshots(
        context: dg.AssetExecutionContext, dbt_cli: DbtCliResource, config: TenantScope
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Computes the run's days for every admitted tenant in one dbt invocation, however many they are."""
        with serialized(engine()) as holder:
            admitted = admission.admit(engine(), config.tenant_ids)
            statistics.refresh(engine())
            window = _window(context, admitted.tenant_ids, holder)
            span = (window.first, window.last)
            with dbt.running(window), outcomes.recorded(engine(), context.run_id, span, admitted, _now):
                results = dbt.invoke(dbt_cli, ["build", *_BUILT], context.log.info)
                yield from _events(context, results)
                _refuse_failures(results)

    return build_snapshots


def _events(
    context: dg.AssetExecutionContext, results: list[dbt.NodeResult]
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    # One event a run for each working set, not one a day: a year's backfill would write tens of thousands.
    for result in results:
        kind = result.node["resource_type"]
        if kind == "model" and result.succeeded:
            key, metadata = dbt.spec(result.node).key, {"seconds": result.seconds, "dbt": result.message}
            if result.node["fqn"][1] == "marts":
                yield dg.MaterializeResult(key, metadata=metadata)
            else:
                context.log_event(dg.AssetMaterialization(key, metadata=metadata))
    for result in results:
        if result.node["resource_type"] == "test":
            yield dg.AssetCheckResult(
                asset_key=SNAPSHOTS,
                check_name=result.node["name"],
                passed=result.status == "pass",
                severity=_SEVERITY[result.node["config"]["severity"].lower()],
                metadata={"failing_rows": result.failures, "dbt": result.message or result.status},
            )


def _refuse_failures(results: list[dbt.NodeResult]) -> None:
    failed = [result for result in results if result.status in ("error", "fail")]
    if failed:
        listed = "; ".join(f"{result.node['name']}: {result.message}" for result in failed)
        raise dg.Failure(f"dbt failed in {len(failed)} nodes and what hangs on them was not built: {listed}")


@cache
def tenant_outcomes() -> dg.AssetsDefinition:
    @dg.asset(
        key=["ops", "tenant_runs"],
        deps=[SNAPSHOTS],
        partitions_def=daily(),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="metrics",
        owners=[OWNER],
        freshness_policy=daily_run(),
        kinds={"python", "postgres"},
        description="What became of each tenant in each run; fails with the list when one of them failed.",
    )
    def report_tenants(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        context.log_event(dg.AssetObservation(SNAPSHOTS, metadata=_trends(context)))
        report = outcomes.of_run(engine(), context.run_id)
        if report.failed:
            raise dg.Failure(str(TenantsFailedError(report.failed)), allow_retries=False)
        return dg.MaterializeResult(metadata={"tenants": len(report.succeeded), "rows": report.row_count})

    return report_tenants


def _trends(context: dg.AssetExecutionContext) -> dict[str, dg.MetadataValue]:
    """A chart per headline metric over the 90 days before the run's last day, one line per tenant."""
    last = (context.partition_time_window.end - timedelta(days=1)).date()
    charts = {}
    with engine().begin() as connection:
        tenancy.service(connection)
        for metric_id in _HEADLINES:
            lines = metrics.by_tenant(connection, metric_id, last - timedelta(days=89), last)
            charts[metric_id] = plots.trend_markdown(metric_id, lines)
    return charts


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[staging_views(), *working_sets(), snapshots(), tenant_outcomes()])
