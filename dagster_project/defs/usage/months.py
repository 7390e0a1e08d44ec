"""Months: what is compared before one is closed, the close, the watch over all of it, and what leaves the ledger."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

import dagster as dg
from pydantic import Field

from dagster_project.database import engine
from dagster_project.defs.usage.marts import marts
from dagster_project.lib.tables import table
from dagster_project.settings import settings
from kernel import tenancy

OWNER = "team:billing"
RECONCILIATION = dg.AssetKey(["usage", "reconciliation"])
SNAPSHOTS = dg.AssetKey(["usage", "invoice_snapshot"])
WATCH = dg.AssetKey(["usage", "watchtower"])
ARCHIVES = dg.AssetKey(["usage", "usage_archives"])
_SHOWN = 50
_OPERATOR = "operator"
# Written by the gate and the doors: what the assets and the models of dbt read.
_TABLES = {
    "ingest_idempotency": "The ledger: a row for each event that was metered, and the only authority of an invoice.",
    "sites": "What sends events.",
    "site_plans": "Versions of what sites may send and pay.",
    "usage_counters": "What was accepted of a site's month, reserved with the rows it counts.",
    "usage_periods": "Months of tenants, and whether they still take usage.",
    "usage_outbox": "Captured events that are handed on.",
    "ingest_fallback_buffer": "Captured events that could not be published at once.",
    "billing_reconciliation_jobs": "Months of sites that changed, and what every place said when they were compared.",
}
_COUNTED = ("ingest_idempotency", "usage_counters", "usage_outbox", "ingest_fallback_buffer")
_COMPARED = [dg.AssetKey(["analytics", name]) for name in ("usage_ledger_daily", "site_usage_monthly")]


def _now() -> datetime:
    return datetime.now(UTC)


@cache
def months() -> dg.MonthlyPartitionsDefinition:
    return dg.MonthlyPartitionsDefinition(start_date=f"{settings().partition_start:%Y-%m}", fmt="%Y-%m")


@cache
def tables() -> list[dg.AssetSpec]:
    return [
        dg.AssetSpec(
            ["usage", name], description=text, group_name="usage", owners=[OWNER], kinds={"postgres"},
            metadata={"dagster/table_name": f"usage.{name}"},
        )
        for name, text in _TABLES.items()
    ]  # fmt: skip


def _of_usage(key: dg.AssetKey, description: str, *reads: str, **more) -> dict:
    return {
        "key": key,
        "deps": [["usage", name] for name in reads],
        "group_name": "usage",
        "owners": [OWNER],
        "kinds": {"python", "postgres"},
        "description": description,
        **more,
    }


@cache
def reconciliation() -> dg.AssetsDefinition:
    nothing_dead = dg.AssetCheckSpec(
        "no_count_was_given_up", asset=RECONCILIATION,
        description="A month that cannot be counted cannot be closed.",
    )  # fmt: skip
    nothing_off = dg.AssetCheckSpec(
        "nobody_is_off", asset=RECONCILIATION,
        description="No place is off by more than ten and one in a hundred in a month that is not closed.",
    )  # fmt: skip
    text = "What every place that counts said of the months that changed, beside the ledger."

    @dg.asset(
        **_of_usage(
            RECONCILIATION, text,
            check_specs=[nothing_dead, nothing_off],
        )
        | {"deps": [*_COMPARED, *(["usage", name] for name in _COUNTED)]}
    )  # fmt: skip
    def compare_months(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from kernel.usage import recount

        tenants = _tenants()
        for tenant in tenants:
            with engine().begin() as connection:
                recount.find(connection, tenant.id, _now())
        done = recount.work(engine(), context.run_id, _now)
        rows, dead, off = [], 0, 0
        for tenant in tenants:
            with engine().begin() as connection:
                for job in recount.jobs(connection, tenant.id):
                    dead += job["status"] == "DEAD"
                    alarms = (job["drift"] or {}).get("alarms") or []
                    off += bool(alarms)
                    if job["status"] != "COMPLETED" or job["last_drift_pct"]:
                        rows.append(
                            {"tenant": tenant.slug, "month": job["year_month"], "site": job["site"],
                             "status": job["status"], "off": ", ".join(alarms), "why": job["last_error"]}
                        )  # fmt: skip
        return dg.MaterializeResult(
            metadata={"counted": len(done), "not_right": table(rows[:_SHOWN], "Everybody counts the same.")},
            check_results=[
                dg.AssetCheckResult(check_name=nothing_dead.name, asset_key=RECONCILIATION, passed=not dead),
                dg.AssetCheckResult(check_name=nothing_off.name, asset_key=RECONCILIATION, passed=not off),
            ],
        )

    return compare_months


class Closing(dg.Config):
    dry_run: bool = Field(False, description="Only tell what stands in the way of each tenant's close.")


@cache
def snapshots() -> dg.AssetsDefinition:
    chained = dg.AssetCheckSpec(
        "every_snapshot_follows_the_one_before", asset=SNAPSHOTS, blocking=True,
        description="Each tenant's snapshots are what their hashes say, without a gap.",
    )  # fmt: skip
    text = "Months as they were closed: counts of every site, bound to the rows they were counted from."

    @dg.asset(
        **_of_usage(
            SNAPSHOTS,
            text,
            "ingest_idempotency",
            "site_plans",
            "usage_periods",
            check_specs=[chained],
            partitions_def=months(),
        )
        | {"deps": [RECONCILIATION, ["usage", "site_plans"], ["usage", "usage_periods"]]}
    )
    def close_month(context: dg.AssetExecutionContext, config: Closing) -> dg.MaterializeResult:
        from kernel.errors import RefusedError
        from kernel.usage import close

        month, rows, refused, broken = context.partition_key, [], [], []
        for tenant in _tenants():
            with engine().begin() as connection:
                if not _has_sites(connection, tenant.id, month):
                    continue
            try:
                with engine().begin() as connection:
                    if config.dry_run:
                        checks = close.preflight(connection, tenant.id, month, at=_now())
                        rows += [
                            {"tenant": tenant.slug, "check": each.name, "ok": each.is_ok, "why": each.why}
                            for each in checks
                        ]
                        continue
                    done = close.close(connection, tenant.id, month, at=_now(), actor=_OPERATOR)
                    rows.append({"tenant": tenant.slug, "sites": done.sites, "events": done.events,
                                 "overage": done.overage, "rows": done.rows, "new": done.is_new, "hash": done.hash[:12]})  # fmt: skip
            except RefusedError as error:
                # One tenant's month does not keep the others' open.
                refused.append(f"{tenant.slug}: {error}")
            with engine().begin() as connection:
                if gap := close.broken_chain(connection, tenant.id):
                    broken.append(f"{tenant.slug}: {gap}")
        if refused:
            raise dg.Failure(
                f"{len(refused)} tenants are not closed: {refused[0]}",
                metadata={"closed": table(rows[:_SHOWN], "None."), "refused": refused[:_SHOWN]},
                allow_retries=False,
            )
        return dg.MaterializeResult(
            metadata={
                "tenants": len(rows),
                "closed": table(rows[:_SHOWN], "No tenant has a site in this month."),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=chained.name,
                    asset_key=SNAPSHOTS,
                    passed=not broken,
                    metadata={"first": broken[:_SHOWN]},
                )
            ],
        )

    return close_month


@cache
def watch() -> dg.AssetsDefinition:
    from kernel.usage.watchtower import CHECKS

    specs = [dg.AssetCheckSpec(name, asset=WATCH, description=text) for name, text in CHECKS.items()]
    text = "What stands still, waits too long or does not add up, of all tenants."

    @dg.asset(
        **_of_usage(WATCH, text, "ingest_fallback_buffer", "usage_outbox", "usage_periods", check_specs=specs)
    )
    def look_around() -> Iterator[dg.MaterializeResult]:
        from kernel.usage import watchtower

        with engine().begin() as connection:
            found = watchtower.look(connection, at=_now())
        error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
        yield dg.MaterializeResult(
            metadata={
                "status": watchtower.overall(found),
                "checks": table(
                    [{"check": each.check, "status": each.status, "found": each.told} for each in found], "None."
                ),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=each.check, asset_key=WATCH, passed=each.status == "ok",
                    severity=error if each.status in ("alarm", "critical") else warn,
                    metadata={"status": each.status, "found": each.told},
                )
                for each in found
            ],
        )  # fmt: skip

    return look_around


class Retention(dg.Config):
    dry_run: bool = Field(True, description="Only tell what would leave the ledger.")


@cache
def archives() -> dg.AssetsDefinition:
    text = "Closed months whose keys have expired, in files that give the invoiced root; their rows leave the ledger."

    @dg.asset(**_of_usage(ARCHIVES, text, "ingest_idempotency") | {"deps": [SNAPSHOTS]})
    def archive_months(context: dg.AssetExecutionContext, config: Retention) -> dg.MaterializeResult:
        from kernel.usage import archive

        with engine().begin() as connection:
            due = archive.due(connection, at=_now())
        for each in due if not config.dry_run else ():
            file = archive.archive(engine(), each, settings().usage_archive, at=_now(), actor=_OPERATOR)
            context.log.info(f"{each.rows} rows of {each.year_month} of {each.site} stand in {file}")
        rows = [
            {"tenant": each.tenant, "site": each.site, "month": each.year_month, "rows": each.rows}
            for each in due
        ]
        return dg.MaterializeResult(
            metadata={
                "dry_run": config.dry_run,
                "rows": sum(each.rows for each in due),
                "months": table(rows[:_SHOWN], "Nothing has expired."),
            }
        )

    return archive_months


def _tenants() -> list[tenancy.Tenant]:
    with engine().begin() as connection:
        tenancy.service(connection)
        return tenancy.all_tenants(connection)


def _has_sites(connection, tenant_id, month: str) -> bool:
    from kernel.usage import periods

    tenancy.service(connection, tenant_id)
    first = periods.first(connection, tenant_id)
    return first is not None and first <= month


close_usage_month = dg.define_asset_job(
    "close_usage_month",
    selection=dg.AssetSelection.assets(*marts().keys, RECONCILIATION, SNAPSHOTS),
    description="Counts what changed, compares, and closes a month of every tenant that had sites in it.",
)


@dg.schedule(
    job=close_usage_month,
    # Five hours after the month, when what came before midnight is captured and counted.
    cron_schedule="0 5 1 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def usage_close_monthly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """The month before, of every tenant; what stands in the way fails the run by name and leaves the others closed."""
    from kernel.usage import periods

    month = periods.before(periods.month_of(context.scheduled_execution_time))
    return dg.RunRequest(partition_key=month, run_key=month)


review_usage = dg.define_asset_job(
    "review_usage",
    selection=dg.AssetSelection.assets(WATCH),
    description="Looks whether usage stands still, waits or does not add up.",
)
review_usage_quarterly = dg.ScheduleDefinition(
    job=review_usage,
    cron_schedule="*/15 * * * *",
    name="review_usage_every_quarter",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[*tables(), reconciliation(), snapshots(), watch(), archives()],
        jobs=[close_usage_month],
        schedules=[usage_close_monthly, review_usage_quarterly],
    )
