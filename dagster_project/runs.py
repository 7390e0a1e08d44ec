"""Launching runs from a command, in this process, exactly as the scheduler would launch them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa

from dagster_project import database
from dagster_project.database import engine
from dagster_project.definitions import defs
from dagster_project.instance import instance
from dagster_project.lib.partitions import range_tags
from dagster_project.settings import settings
from kernel.errors import RefusedError
from kernel.warehouse import outcomes

_POOL = "warehouse"
_OWNER = "revenue-os/owner"
_TRY_LOCK = sa.text("select pg_try_advisory_lock(:key)")
_UNLOCK = sa.text("select pg_advisory_unlock(:key)")


@dataclass(frozen=True, slots=True)
class Computed:
    """How a run ended; `why` is the first failure in one sentence, empty when it succeeded."""

    run_id: str
    succeeded: bool
    row_count: int
    why: str


def compute_metrics(
    first: date,
    last: date,
    tenant_ids: Sequence[str] = (),
    *,
    load: bool = True,
    on_wait: Callable[[str], None] = lambda line: None,
) -> Computed:
    """One run over the days `first` to `last`, both included; without `load`, landing files are left alone.

    Waits for a run that is at work on the warehouse, and tells `on_wait` so. Raises RefusedError for a span that is reversed, or reaches before the first day that is kept or past yesterday.
    """
    _refuse_span(first, last)
    result = _done(
        "compute_metrics" if load else "restate_metrics",
        {"metric_snapshots": {"config": {"tenant_ids": list(tenant_ids)}}},
        range_tags(first.isoformat(), last.isoformat()),
        on_wait,
    )
    rows = outcomes.of_run(engine(), result.run_id).row_count
    return Computed(result.run_id, result.success, rows, _why(result))


def rebuild(job: str, *, on_wait: Callable[[str], None] = lambda line: None) -> str:
    """One run of a job that rebuilds marts; why it failed, empty when it did not. Waits as compute_metrics does."""
    return _why(_done(job, {}, {}, on_wait))


def _done(
    job: str, ops: Mapping[str, Any], tags: Mapping[str, str], on_wait: Callable[[str], None]
) -> dg.ExecuteInProcessResult:
    database.prepare()
    made = defs().resolve_job_def(job)
    # Every line is in the run's record; the terminal gets the outcome.
    config = {"ops": dict(ops), "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with instance() as running, _owned() as owner:
        end_lost_runs(running)
        _wait_for_the_warehouse(running, on_wait)
        with _dbt_lines_aside():
            return made.execute_in_process(
                instance=running, tags={**tags, **owner}, run_config=config, raise_on_error=False
            )


def end_lost_runs(running: dg.DagsterInstance) -> list[str]:
    """Ends the runs of commands that were killed, and gives back what they held; gives their ids.

    The daemon looks after the runs it launches; nobody looks after those that ran inside a command.
    """
    ended = []
    unfinished = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for run in running.get_runs(dg.RunsFilter(statuses=unfinished)):
            key = run.tags.get(_OWNER)
            if key is None or not connection.execute(_TRY_LOCK, {"key": int(key)}).scalar():
                continue
            running.report_run_failed(run, "The command that carried this run out was killed.")
            running.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            connection.execute(_UNLOCK, {"key": int(key)})
            ended.append(run.run_id)
    return ended


@contextmanager
def _owned() -> Iterator[dict[str, str]]:
    """Tags for a run that lives as long as this process: a lock that dies with it tells others so."""
    key = secrets.randbits(62)
    with engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(_TRY_LOCK, {"key": key})
        try:
            yield {_OWNER: str(key)}
        finally:
            connection.execute(_UNLOCK, {"key": key})


def _wait_for_the_warehouse(running: dg.DagsterInstance, on_wait: Callable[[str], None]) -> None:
    """Here and not inside the run, where Dagster defers Ctrl-C until a step can begin."""
    told = ""
    while busy := running.event_log_storage.get_concurrency_info(_POOL).active_run_ids:
        if (line := f"run {', '.join(sorted(busy))} is at work on the warehouse") != told:
            on_wait(line)
            told = line
        time.sleep(1)


def _refuse_span(first: date, last: date) -> None:
    start = settings().partition_start
    closed = datetime.now(UTC).date() - timedelta(days=1)
    if last < first:
        raise RefusedError(f"the span is reversed: {last} lies before {first}")
    if first < start:
        raise RefusedError(
            f"{first} lies before {start}, the first day that is computed: set REVENUE_OS_PARTITION_START to an"
            " earlier day and keep it set"
        )
    if last > closed:
        raise RefusedError(f"{last} has not closed yet: the last day that can be computed is {closed}")


@contextmanager
def _dbt_lines_aside() -> Iterator[None]:
    """dbt's lines are in the run's record and go to a file here; the terminal is for the outcome."""
    log = settings().home / "dbt.log"
    with log.open("w", encoding="utf-8") as file, redirect_stdout(file):
        yield


def _why(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            told = (error.cause or error).message if error else "no reason was given"
            return f"step {event.step_key} failed: {told.strip()} (run {result.run_id})"
    return ""
