"""Months: what is compared before one is closed, the close, the watch over all of it, and what leaves the ledger."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache

import dagster as dg
from pydantic import Field

from dagster_project.database import engine
from dagster_project.defs.usage.marts import marts
from dagster_project.lib.tables import table
from dagster_project.settings import settings
from kernel import tenancy
from kernel.members import OPERATOR

OWNER = "team:billing"
RECONCILIATION = dg.AssetKey(["usage", "reconciliation"])
PREFLIGHT = dg.AssetKey(["usage", "close_preflight"])
SNAPSHOTS = dg.AssetKey(["usage", "invoice_snapshot"])
WATCH = dg.AssetKey(["usage", "watchtower"])
ARCHIVES = dg.AssetKey(["usage", "usage_archives"])
_SHOWN = 50
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


def _keys(*names: str) -> list[dg.AssetKey]:
    return [dg.AssetKey(["usage", name]) for name in names]


def _of_usage(key: dg.AssetKey, description: str, reads: Sequence[dg.AssetKey], **more) -> dict:
    return {
        "key": key,
        "deps": list(reads),
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
        description="No place was off by more than ten and one in a hundred when it was last compared.",
    )  # fmt: skip
    text = "What every place that counts said of the months that changed, beside the ledger."

    @dg.asset(
        **_of_usage(
            RECONCILIATION,
            text,
            [
                *_COMPARED,
                *_keys("ingest_idempotency", "usage_counters", "usage_outbox", "ingest_fallback_buffer"),
            ],
            check_specs=[nothing_dead, nothing_off],
        )
    )
    def compare_months(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from kernel.usage import recount

        recount.find_all(engine(), _now)
        done = recount.work(engine(), context.run_id, _now)
        rows, dead, off = [], 0, 0
        for tenant in _tenants():
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


@cache
def preflight() -> dg.AssetsDefinition:
    text = (
        "What stands in the way of each tenant's close; the close asks the same once more, and refuses by it."
    )

    @dg.asset(
        **_of_usage(
            PREFLIGHT,
            text,
            [RECONCILIATION, *_keys("site_plans", "usage_periods")],
            partitions_def=months(),
        )
    )
    def look_ahead(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from kernel.usage import close

        month = context.partition_key
        with engine().begin() as connection:
            rows = [
                {"tenant": tenant.slug, "check": each.name, "ok": each.is_ok, "why": each.why}
                for tenant in close.concerned(connection, month)
                for each in close.preflight(connection, tenant.id, month, at=_now())
            ]
        in_the_way = [row for row in rows if not row["ok"]]
        return dg.MaterializeResult(
            metadata={
                "in_the_way": len(in_the_way),
                "first": table(in_the_way[:_SHOWN], "Nothing stands in the way."),
            }
        )

    return look_ahead


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
            [PREFLIGHT],
            check_specs=[chained],
            partitions_def=months(),
        )
    )
    def close_month(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from kernel.usage import close

        month = context.partition_key
        closed, refused = close.close_all(engine(), month, at=_now(), actor=OPERATOR)
        rows = [
            {"tenant": slug, "sites": each.sites, "events": each.events, "overage": each.overage, "rows": each.rows,
             "new": each.is_new, "hash": each.hash[:12]}
            for slug, each in closed.items()
        ]  # fmt: skip
        told = {"tenants": len(rows), "closed": table(rows[:_SHOWN], "No tenant has a site in this month.")}
        if refused:
            why = [f"{slug}: {each}" for slug, each in refused.items()]
            raise dg.Failure(
                f"{len(refused)} tenants are not closed: {why[0]}",
                metadata=told | {"refused": why[:_SHOWN]},
                allow_retries=False,
            )
        broken = _broken(month)
        check = dg.AssetCheckResult(
            check_name=chained.name,
            asset_key=SNAPSHOTS,
            passed=not broken,
            metadata={"first": broken[:_SHOWN]},
        )
        return dg.MaterializeResult(metadata=told, check_results=[check])

    return close_month


@cache
def watch() -> dg.AssetsDefinition:
    from kernel.usage.watchtower import CHECKS

    specs = [dg.AssetCheckSpec(name, asset=WATCH, description=text) for name, text in CHECKS.items()]
    text = "What stands still, waits too long or does not add up, of all tenants."

    @dg.asset(
        **_of_usage(
            WATCH, text, _keys("ingest_fallback_buffer", "usage_outbox", "usage_periods"), check_specs=specs
        )
    )
    def look_around(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        from kernel.usage import telling, watchtower

        with engine().begin() as connection:
            found = watchtower.look(connection, at=_now())
        tellers = settings().tellers()
        told = telling.tell(engine(), tellers, _now) if tellers else telling.Told()
        for why in told.failures:
            context.log.warning(f"{why}; what nobody took is told the next time")
        error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
        yield dg.MaterializeResult(
            metadata={
                "status": watchtower.overall(found),
                "told": {"ways": len(tellers), "alarms": told.alarms, "thresholds": told.notices},
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

    @dg.asset(**_of_usage(ARCHIVES, text, [SNAPSHOTS]))
    def archive_months(context: dg.AssetExecutionContext, config: Retention) -> dg.MaterializeResult:
        from kernel.usage import archive

        with engine().begin() as connection:
            due = archive.due(connection, at=_now())
        for each in due if not config.dry_run else ():
            file = archive.archive(engine(), each, settings().usage_archive, at=_now(), actor=OPERATOR)
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


def _broken(month: str) -> list[str]:
    """The first snapshot that does not follow, of each tenant that has one."""
    from kernel.usage import close

    with engine().begin() as connection:
        gaps = {
            each.slug: close.broken_chain(connection, each.id) for each in close.concerned(connection, month)
        }
    return [f"{slug}: {gap}" for slug, gap in gaps.items() if gap]


close_usage_month = dg.define_asset_job(
    "close_usage_month",
    selection=dg.AssetSelection.assets(*marts().keys, RECONCILIATION, PREFLIGHT, SNAPSHOTS),
    description="Counts what changed, compares, and closes a month of every tenant that had sites in it.",
)


@dg.schedule(
    job=close_usage_month,
    # Five hours after the month, when what came before midnight is captured and counted.
    cron_schedule="0 5 1 * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The month before, of every tenant; what stands in the way fails the run by name and leaves the others closed.",
)
def usage_close_monthly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    from kernel.usage import periods

    month = periods.before(periods.month_of(context.scheduled_execution_time))
    return dg.RunRequest(partition_key=month, run_key=month)


review_usage = dg.define_asset_job(
    "review_usage",
    selection=dg.AssetSelection.assets(WATCH),
    description="Looks whether usage stands still, waits or does not add up, and tells people.",
)
review_usage_quarterly = dg.ScheduleDefinition(
    job=review_usage,
    description="Looks every quarter of an hour whether usage stands still, waits or does not add up, and tells people.",
    cron_schedule="*/15 * * * *",
    name="review_usage_every_quarter",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        assets=[*tables(), reconciliation(), preflight(), snapshots(), watch(), archives()],
        jobs=[close_usage_month],
        schedules=[usage_close_monthly, review_usage_quarterly],
    )
