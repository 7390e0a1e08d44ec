"""Whether a job is at work already."""

import dagster as dg

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def is_busy(context: dg.SensorEvaluationContext, job: str) -> bool:
    """Whether a run of the job goes on: it works until nothing is due, so a second beside it would only take its turn."""
    asked = dg.RunsFilter(job_name=job, statuses=_UNFINISHED)
    return bool(context.instance.get_runs(asked, limit=1))
