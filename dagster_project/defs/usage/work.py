"""Taking usage in, handing it on, and counting what changed: jobs that may run again at any time, since everything they
do is in the database, and the sensors that ask for them."""

from datetime import UTC, datetime

import dagster as dg

from dagster_project.database import engine
from dagster_project.lib.busy import is_busy
from dagster_project.settings import settings

_ON = dg.DefaultSensorStatus.RUNNING


def _now() -> datetime:
    return datetime.now(UTC)


@dg.op(description="Meters the files that lie in the inbox; those that cannot be taken are put aside.")
def take_files(context: dg.OpExecutionContext) -> None:
    from kernel.errors import RefusedError
    from kernel.usage import inbox

    lines, refused, left = {}, [], []
    root = settings().usage_inbox
    for file in inbox.waiting(root):
        name = inbox.shown(file)
        try:
            done = inbox.take(engine(), root, file, setting=settings().idempotency_version, clock=_now)
            lines[name] = dict(done.statuses)
        except RefusedError as error:
            refused.append(name)
            context.log.warning(f"{name} was put aside: {error!s:.500}")
        # One that fails does not keep those behind it, which may be others', from being taken.
        except Exception as error:
            left.append(name)
            context.log.error(f"{name} waits for the next run: {type(error).__name__}: {error!s:.500}")
    context.add_output_metadata({"files": len(lines), "lines": lines, "refused": refused, "left": left})
    if left:
        raise dg.Failure(
            f"{len(left)} files could not be taken, {left[0]} the first: see the log of the run. They stay in the inbox"
        )


@dg.op(description="Publishes what could not be published when it was captured, then hands on what waits.")
def hand_on(context: dg.OpExecutionContext) -> None:
    from kernel.usage import recovery, relay

    recovered = recovery.work(engine(), context.run_id, _now)
    handed_on = relay.work(engine(), relay.folder(settings().usage_events), _now)
    if recovered["QUARANTINE"]:
        context.log.warning(f"{recovered['QUARANTINE']} messages were given up: see revenue-os usage buffer")
    context.add_output_metadata({"handed_on": handed_on, **recovered})


@dg.op(description="Finds the months of sites that changed, counts them, and puts their counters right.")
def count_changed(context: dg.OpExecutionContext) -> None:
    from kernel.usage import recount

    found = recount.find_all(engine(), _now)
    done = recount.work(engine(), context.run_id, _now)
    for each in done:
        if each.error or (each.matrix and each.matrix.alarms):
            told = each.error or f"off: {', '.join(each.matrix.alarms)}"
            context.log.warning(f"{each.job.year_month} of site {each.job.site_id}: {told}")
    statuses = [each.status for each in done]
    context.add_output_metadata({"found": found} | {each: statuses.count(each) for each in set(statuses)})


@dg.job(description="Meters files of events that arrived.")
def usage_intake() -> None:
    take_files()


@dg.job(description="Recovers what could not be published, and hands on what was.")
def usage_hand_on() -> None:
    hand_on()


@dg.job(description="Compares every count of the months that changed with the ledger.")
def usage_recount() -> None:
    count_changed()


@dg.sensor(job=usage_intake, minimum_interval_seconds=30, default_status=_ON)
def usage_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Files in the inbox: one run takes all that lie there."""
    from kernel.usage import inbox

    files = inbox.waiting(settings().usage_inbox)
    if not files or is_busy(context, "usage_intake"):
        return dg.SkipReason(f"{len(files)} files wait")
    return dg.RunRequest(tags={"files": str(len(files))})


@dg.sensor(job=usage_hand_on, minimum_interval_seconds=30, default_status=_ON)
def usage_messages(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Messages that wait to be recovered or handed on."""
    from kernel.usage import recovery

    with engine().begin() as connection:
        count = recovery.waiting(connection, _now())
    if not count or is_busy(context, "usage_hand_on"):
        return dg.SkipReason(f"{count} messages wait")
    return dg.RunRequest(tags={"waiting": str(count)})


@dg.sensor(job=usage_recount, minimum_interval_seconds=300, default_status=_ON)
def usage_months_changed(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Months of sites whose ledger changed since it was last looked through, and counts that are due."""
    from kernel.usage import recount

    with engine().begin() as connection:
        count = recount.waiting(connection, _now())
    if not count or is_busy(context, "usage_recount"):
        return dg.SkipReason(f"{count} tenants have something to count")
    return dg.RunRequest(tags={"tenants": str(count)})


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(
        jobs=[usage_intake, usage_hand_on, usage_recount],
        sensors=[usage_files, usage_messages, usage_months_changed],
    )
