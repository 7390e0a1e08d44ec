"""When decisions are made and carried out: the morning after the metrics, and when something asks for it."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dagster_project.database import engine
from dagster_project.defs.decisions.cycles import ACTIONS, CYCLES
from dagster_project.defs.decisions.results import DIGEST, RESULTS, apply_actions, revert_actions
from dagster_project.defs.warehouse.metrics import SNAPSHOTS
from dagster_project.lib.busy import is_busy
from dagster_project.lib.partitions import daily
from kernel import tenancy

# What may happen is decided by people and by each tenant's switch, not by whether a sensor looks.
_ON = dg.DefaultSensorStatus.RUNNING
_FIT = dg.AssetCheckKey(SNAPSHOTS, "kernel_input_is_fit")
decide = dg.define_asset_job(
    "decide",
    # The check of what the kernel reads runs in the same run, so that it can hold the cycles back.
    selection=dg.AssetSelection.assets(RESULTS, CYCLES, ACTIONS) | dg.AssetSelection.checks(_FIT),
    description="Measures what is due, decides for every tenant that asks for it, and reviews what is proposed.",
)
write_digest = dg.define_asset_job(
    "write_digest",
    selection=dg.AssetSelection.assets(DIGEST),
    description="Writes the weekly digest of the week that has just ended.",
)


def _now() -> datetime:
    return datetime.now(UTC)


def _yesterday(at: datetime) -> str:
    return (at.date() - timedelta(days=1)).isoformat()


# Half an hour after the metrics begin. A tenant that is not computed by then is left to the sensor below.
@dg.schedule(
    job=decide,
    cron_schedule="30 6 * * *",
    name="decide_daily",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="One run for every tenant, on the day that has just closed.",
)
def decide_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    at = context.scheduled_execution_time
    if _yesterday(at) not in daily().get_partition_keys(current_time=at):
        return dg.SkipReason("no day has closed since the first partition")
    return dg.RunRequest(partition_key=_yesterday(at))


write_digest_weekly = dg.ScheduleDefinition(
    job=write_digest,
    description="Writes the digest of the week on Monday morning.",
    cron_schedule="0 9 * * 1",
    name="write_digest_weekly",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.sensor(
    job=apply_actions,
    minimum_interval_seconds=30,
    default_status=_ON,
    description="Approved actions whose time has come, or whose worker was lost: one run for all of them.",
)
def actions_approved(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    from kernel.decisions import oversight

    with engine().begin() as connection:
        tenancy.service(connection)
        waiting = oversight.to_apply(connection, _now())
    return _request(context, "apply_actions", waiting)


@dg.sensor(
    job=revert_actions,
    minimum_interval_seconds=300,
    default_status=_ON,
    description="Actions that did harm for as many days as they may: one run takes all of them back.",
)
def abort_conditions_breached(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    from kernel.actions import abort
    from kernel.decisions import oversight

    abort.check(engine(), _now)
    with engine().begin() as connection:
        tenancy.service(connection)
        waiting = oversight.to_revert(connection, _now())
    return _request(context, "revert_actions", waiting)


@dg.sensor(
    job=decide,
    minimum_interval_seconds=900,
    default_status=_ON,
    description="Triggers that wait: a day computed late, a metric far from its target, something in a tenant's life.",
)
def cycles_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    from kernel.decisions import cycles, triggers

    now = _now()
    triggers.collect(engine(), now)
    tenants = cycles.waiting(engine(), now)
    if not tenants or is_busy(context, "decide"):
        return dg.SkipReason(f"{tenants} tenants wait")
    return dg.RunRequest(partition_key=_yesterday(now))


def _request(context: dg.SensorEvaluationContext, job: str, waiting) -> dg.RunRequest | dg.SkipReason:
    if not waiting.actions or is_busy(context, job):
        return dg.SkipReason(f"{waiting.actions} actions wait")
    return dg.RunRequest(run_key=waiting.key, tags={"actions": str(waiting.actions)})


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        jobs=[decide, write_digest],
        schedules=[decide_daily, write_digest_weekly],
        sensors=[actions_approved, abort_conditions_breached, cycles_due],
    )
