"""The kernel's cycles and the actions they propose."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import UUID

import dagster as dg

from dagster_project.database import engine
from dagster_project.defs.warehouse.metrics import SNAPSHOTS
from dagster_project.lib import plots
from dagster_project.lib.freshness import daily_run
from dagster_project.lib.partitions import daily
from dagster_project.lib.scope import TenantScope
from kernel import tenancy

OWNER = "team:revenue-decisions"
RESULTS = dg.AssetKey(["actions", "results"])
CYCLES = dg.AssetKey(["decisions", "cycles"])
ACTIONS = dg.AssetKey(["decisions", "actions"])
_RULES = {
    "what_was_sent_was_acknowledged": "Where a human had to agree, one agreed to exactly what was sent.",
    "no_live_action_has_a_double": "One live action per tenant, family and entity.",
    "every_applied_action_has_its_snapshot": "The state before every applied change is kept: coverage is 100 %.",
    "nothing_was_applied_against_a_gate": "No change was applied that a gate kept back at that moment.",
}


def _now() -> datetime:
    return datetime.now(UTC)


@cache
def cycles() -> dg.AssetsDefinition:
    @dg.asset(
        key=CYCLES,
        # What was learned comes first, so that a cycle does not repeat what hurt.
        deps=[SNAPSHOTS, RESULTS],
        partitions_def=daily(),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="decisions",
        owners=[OWNER],
        kinds={"python", "postgres"},
        freshness_policy=daily_run(),
        pool="warehouse",  # never beside a computation that is replacing the days it reads
        check_specs=[
            dg.AssetCheckSpec("no_cycle_failed", asset=CYCLES, description="Every tenant was decided.")
        ],
        description="One decision per enabled tenant: its constraint, its gates, and what to do about them.",
    )
    def run_cycles(context: dg.AssetExecutionContext, config: TenantScope) -> dg.MaterializeResult:
        from kernel.decisions import triggers

        last = (context.partition_time_window.end - timedelta(days=1)).date()
        report = triggers.answer(engine(), _now, last, [UUID(key) for key in config.tenant_ids] or None)
        if report is None:
            told = f"{last} is past, and the past is not decided again: revenue-os decide backtest replays it"
            return dg.MaterializeResult(metadata={"why": told}, check_results=[_no_failures({})])
        counts = {"cycles": len(report.completed), "actions": report.actions, "skipped": len(report.skipped)}
        return dg.MaterializeResult(metadata=counts, check_results=[_no_failures(report.failed)])

    return run_cycles


def _no_failures(failed: dict) -> dg.AssetCheckResult:
    listed = "\n".join(f"* {tenant_id}: {why}" for tenant_id, why in failed.items())
    return dg.AssetCheckResult(
        check_name="no_cycle_failed",
        asset_key=CYCLES,
        passed=not failed,
        metadata={"failed": len(failed), "reasons": dg.MetadataValue.md(listed or "None.")},
    )


@cache
def actions() -> dg.AssetsDefinition:
    @dg.asset(
        key=ACTIONS,
        deps=[CYCLES],
        group_name="decisions",
        owners=[OWNER],
        kinds={"python", "postgres"},
        freshness_policy=daily_run(),
        description="What the cycles propose, what waits for a human, and what nobody answered in time.",
    )
    def review_actions() -> dg.MaterializeResult:
        from kernel.actions import acknowledge
        from kernel.decisions import oversight

        now = _now()
        with engine().begin() as connection:
            tenancy.service(connection)
            acknowledge.expire_due(connection, now)
            rows = oversight.actions_of_day(connection, now.date())
            gates = oversight.gates_by_day(connection, now.date() - timedelta(days=29), now.date())
        today = dg.MetadataValue.md(_table(rows))
        chart = plots.trend_markdown("tenants under a gate", gates)
        return dg.MaterializeResult(metadata={"actions": len(rows), "today": today, "gates": chart})

    return review_actions


def _table(rows: list[dict]) -> str:
    if not rows:
        return "No cycle proposed an action today."
    lines = ["| tenant | rank | action | target | status |", "|---|---|---|---|---|"]
    for row in rows:
        # Names and sentences come from tenants' data: a bar or a line break would end the cell.
        told = " ".join(str(row["action"]).replace("|", "\\|").split())
        lines.append(
            f"| {row['tenant']} | {row['rank']} | {told} | {row['target']} | {row['execution_status']} |"
        )
    return "\n".join(lines)


@cache
def rules() -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name="rules_of_actions",
        specs=[dg.AssetCheckSpec(name, asset=ACTIONS, description=text) for name, text in _RULES.items()],
    )
    def check_rules() -> Iterator[dg.AssetCheckResult]:
        from kernel.decisions import oversight

        with engine().begin() as connection:
            tenancy.service(connection)
            found = oversight.violations(connection, _now())
        for name, broken in found.items():
            listed = "\n".join(f"* {item.tenant_id} {item.action_id}: {item.why}" for item in broken[:50])
            metadata = {"violations": len(broken), "first": dg.MetadataValue.md(listed or "None.")}
            yield dg.AssetCheckResult(
                check_name=name, asset_key=ACTIONS, passed=not broken, metadata=metadata
            )

    return check_rules


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[cycles(), actions()], asset_checks=[rules()])
