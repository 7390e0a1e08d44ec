"""The daily run: load what was handed over, then compute yesterday and restate what is still provisional."""

import dagster as dg

from dagster_project.lib.partitions import daily, range_tags
from dagster_project.settings import settings

# Loading comes first in the same run, so the day is computed from what was handed over by now.
_WAREHOUSE = dg.AssetSelection.groups("dictionary", "staging", "metrics")
compute_metrics = dg.define_asset_job(
    "compute_metrics",
    selection=dg.AssetSelection.groups("spine") | _WAREHOUSE,
    description="Loads landing files, computes the run's days for every tenant, and checks what came out.",
)
restate_metrics = dg.define_asset_job(
    "restate_metrics",
    selection=_WAREHOUSE,
    description="Computes the run's days again from what is already loaded.",
)


# At six in the morning UTC every tenant from Kiritimati to New York has closed its day; those further west
# are caught up by the next run's restated days.
@dg.schedule(
    job=compute_metrics,
    cron_schedule="0 6 * * *",
    name="compute_metrics_daily",
    execution_timezone="UTC",
    # A nightly pipeline that nobody switched on is a trap. Whoever stops it in the UI has stopped it for good.
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="One run over yesterday and the days before it that may still change, as a range of partitions.",
)
def compute_metrics_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    at = context.scheduled_execution_time
    keys = daily().get_partition_keys(current_time=at)
    if not keys:
        return dg.SkipReason("no day has closed since the first partition")
    first = keys[max(0, len(keys) - 1 - settings().restate_days)]
    return dg.RunRequest(tags=range_tags(first, keys[-1]))


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(jobs=[compute_metrics, restate_metrics], schedules=[compute_metrics_daily])
