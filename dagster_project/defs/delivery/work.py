"""Sending what is due and settling what is in doubt: jobs that may run again at any time, since every claim, attempt and
outcome is in the database, and the sensors that ask for them."""

import time
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from dagster_project.database import engine
from dagster_project.lib.busy import is_busy
from kernel import tenancy

# What may be sent is decided by approvals, pauses and stops, not by whether a sensor looks.
_ON = dg.DefaultSensorStatus.RUNNING


def _now() -> datetime:
    return datetime.now(UTC)


def _worker(run_id: str, minutes: float):
    from kernel.delivery.providers import registry
    from kernel.delivery.send import Worker

    until = time.monotonic() + minutes * 60
    return Worker(engine(), run_id, registry.make, is_stopping=lambda: time.monotonic() > until)


class Bounds(dg.Config):
    # A run that never ends would keep a new version of the code out for ever.
    minutes: float = Field(10, gt=0, le=60, description="After so long no further wave begins.")


@dg.op(
    description="Claims jobs that are due and sends their items, until nothing is due or its time is over."
)
def send_due(context: dg.OpExecutionContext, config: Bounds) -> None:
    from kernel.delivery import send

    worker = _worker(context.run_id, config.minutes)
    try:
        done = send.work(worker)
    finally:
        worker.close()
    context.add_output_metadata(dict(done))


@dg.op(
    description="Takes jobs back from lost workers, and settles the attempts they left without an outcome."
)
def settle_lost(context: dg.OpExecutionContext, config: Bounds) -> None:
    from kernel.delivery import reconcile

    worker = _worker(context.run_id, config.minutes)
    try:
        taken_back = reconcile.sweep(worker)
        done = reconcile.settle_stalled(worker)
    finally:
        worker.close()
    context.add_output_metadata({"jobs_taken_back": taken_back, **done})


@dg.op(description="Asks providers once more about open cases, and lists those that a person has to answer.")
def look_up_due(context: dg.OpExecutionContext, config: Bounds) -> None:
    from dagster_project.lib.tables import table
    from kernel.delivery import oversight, reconcile

    worker = _worker(context.run_id, config.minutes)
    try:
        done = reconcile.look_up_cases(worker)
    finally:
        worker.close()
    with engine().begin() as connection:
        tenancy.service(connection)
        overdue = oversight.overdue_cases(connection)
    if overdue:
        context.log.warning(f"{len(overdue)} cases are overdue: see revenue-os campaign cases")
    context.add_output_metadata({"overdue": table(overdue, "No case is overdue."), **done})


@dg.job(description="Sends what is due, each item at most once.")
def delivery_work() -> None:
    send_due()


@dg.job(description="Settles what lost workers left behind; what cannot be known becomes a case.")
def delivery_settle() -> None:
    settle_lost()


@dg.job(description="Looks up the messages of open cases at their providers.")
def delivery_look_up() -> None:
    look_up_due()


def _request(context: dg.SensorEvaluationContext, job: str, name: str) -> dg.RunRequest | dg.SkipReason:
    from kernel.delivery import oversight

    with engine().begin() as connection:
        tenancy.service(connection)
        waiting = getattr(oversight, name)(connection, _now())
    told = f"{waiting.count} wait" + (f", {waiting.overdue} cases are overdue" if waiting.overdue else "")
    if not waiting.count or is_busy(context, job):
        return dg.SkipReason(told)
    return dg.RunRequest(run_key=waiting.key, tags={"waiting": str(waiting.count)})


# Promised is a start within two minutes; a run needs some of them to begin.
@dg.sensor(
    job=delivery_work,
    minimum_interval_seconds=15,
    default_status=_ON,
    description="Jobs whose time has come: one run works until nothing is due.",
)
def outbox_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    return _request(context, "delivery_work", "due_jobs")


@dg.sensor(
    job=delivery_settle,
    minimum_interval_seconds=60,
    default_status=_ON,
    description="Leases that ended without a word, and attempts whose outcome is overdue.",
)
def leases_expired(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    return _request(context, "delivery_settle", "silent")


@dg.sensor(
    job=delivery_look_up,
    minimum_interval_seconds=60,
    default_status=_ON,
    description="Open cases whose provider may be asked again, and how many wait too long for a person.",
)
def cases_due(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    return _request(context, "delivery_look_up", "due_cases")


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        jobs=[delivery_work, delivery_settle, delivery_look_up],
        sensors=[outbox_due, leases_expired, cases_due],
    )
