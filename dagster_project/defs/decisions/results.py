"""What comes of actions: carrying out, taking back, measuring, and the weekly digest."""

import time
from datetime import UTC, datetime, timedelta
from functools import cache

import dagster as dg

from dagster_project.database import engine
from dagster_project.defs.decisions.cycles import ACTIONS, OWNER, RESULTS
from dagster_project.defs.warehouse.metrics import SNAPSHOTS
from dagster_project.lib.freshness import daily_run
from dagster_project.settings import settings
from kernel import tenancy

DIGEST = dg.AssetKey(["decisions", "digest"])


def _now() -> datetime:
    return datetime.now(UTC)


@cache
def results() -> dg.AssetsDefinition:
    @dg.asset(
        key=RESULTS,
        deps=[SNAPSHOTS],
        group_name="decisions",
        owners=[OWNER],
        kinds={"python", "postgres"},
        freshness_policy=daily_run(),
        description="What actions did to their metric and to the economics, once their window has closed.",
    )
    def measure_results(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from kernel.actions import abort, observe
        from kernel.decisions import calibration

        breached = abort.check(engine(), _now)
        report = observe.close_due(engine(), _now)
        context.log.info(f"{breached}; {report}")
        with engine().begin() as connection:
            tenancy.service(connection)
            families = calibration.reliability(calibration.outcomes(connection))
        return dg.MaterializeResult(
            metadata={
                "closed": len(report.closed),
                "left_open": report.left_open,
                "failed": len(report.failed),
                "to_revert": len(breached.breaches),
                "promised_and_realised": dg.MetadataValue.md(_table(families)),
            }
        )

    return measure_results


def _table(families) -> str:
    lines = ["| family | results | promised % | realised % | miss |", "|---|---|---|---|---|"]
    for found in families:
        lines.append(
            f"| {found.family} | {found.results} | {found.predicted_pct:.1f} | {found.realised_pct:.1f}"
            f" | {found.miss:.2f} |"
        )
    return "\n".join(lines) if families else "Nothing was measured yet."


@dg.op(description="Settles what a lost worker left in doubt, then carries out what is approved.")
def apply_due(context: dg.OpExecutionContext) -> None:
    from dataclasses import asdict

    from kernel.actions import dispatch

    means = {"clock": _now, "sleep": time.sleep, "worker": context.run_id}
    settled = dispatch.reconcile(engine(), **means)
    done = dispatch.run_due(engine(), **means)
    context.log.info(f"settled: {settled}; carried out: {done}")
    context.add_output_metadata(asdict(done))


@dg.op(description="Takes back the changes whose abort conditions were breached.")
def revert_breached(context: dg.OpExecutionContext) -> None:
    from kernel.actions import abort

    done = abort.revert_due(engine(), _now)
    context.log.info(f"reverted: {done}")


@dg.job(description="Carries out approved actions, each exactly once.")
def apply_actions() -> None:
    apply_due()


@dg.job(description="Reverts actions that did harm, when their target still holds what we wrote.")
def revert_actions() -> None:
    revert_breached()


@cache
def digest() -> dg.AssetsDefinition:
    @dg.asset(
        key=DIGEST,
        deps=[ACTIONS, RESULTS],
        group_name="decisions",
        owners=[OWNER],
        kinds={"python", "html"},
        description="The week for the CFO: economics by tenant, gates, and what each action came to.",
    )
    def write_digest() -> dg.MaterializeResult:
        from kernel.decisions import digest, digest_pages

        with engine().begin() as connection:
            tenancy.service(connection)
            found = digest.build(connection, _now().date() - timedelta(days=7), platform=True)
        page, text, *_ = written = digest_pages.write_files(found, settings().home / "digests")
        told = dg.MetadataValue.md(f"```\n{text.read_text(encoding='utf-8')}\n```")
        return dg.MaterializeResult(
            metadata={"page": dg.MetadataValue.path(page), "files": len(written), "digest": told}
        )

    return write_digest


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[results(), digest()], jobs=[apply_actions, revert_actions])
