"""Launching runs from a command, in this process, exactly as the scheduler would launch them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from dagster_project import database
from dagster_project.database import engine
from dagster_project.definitions import defs
from dagster_project.instance import instance
from dagster_project.lib.partitions import range_tags
from dagster_project.settings import settings
from kernel.errors import RefusedError
from kernel.warehouse import outcomes


@dataclass(frozen=True, slots=True)
class Computed:
    """How a run ended; `why` is the first failure in one sentence, empty when it succeeded."""

    run_id: str
    succeeded: bool
    row_count: int
    why: str


def compute_metrics(
    first: date, last: date, tenant_ids: Sequence[str] = (), *, load: bool = True
) -> Computed:
    """One run over the days `first` to `last`, both included; without `load`, landing files are left alone.

    Raises RefusedError for a span that is reversed, or reaches before the first day that is kept or past yesterday.
    """
    _refuse_span(first, last)
    database.prepare()
    job = defs().resolve_job_def("compute_metrics" if load else "restate_metrics")
    config = {
        "ops": {"metric_snapshots": {"config": {"tenant_ids": list(tenant_ids)}}},
        # Every line is in the run's record; the terminal gets the outcome.
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    with instance() as running, _dbt_lines_aside():
        result = job.execute_in_process(
            instance=running,
            tags=range_tags(first.isoformat(), last.isoformat()),
            run_config=config,
            raise_on_error=False,
        )
    rows = outcomes.of_run(engine(), result.run_id).row_count
    return Computed(result.run_id, result.success, rows, _why(result))


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
