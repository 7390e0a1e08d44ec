"""The code location, loaded once for all tests of a process since that takes seconds, and what tests ask of it."""

from __future__ import annotations

from functools import cache

import dagster as dg

from dagster_project.definitions import defs


@cache
def location() -> dg.Definitions:
    return defs()


def tick(sensor: str, instance: dg.DagsterInstance) -> dg.RunRequest | str | None:
    """The first run that a sensor asks for; why it asks for none, otherwise."""
    loaded = location()
    context = dg.build_sensor_context(instance=instance, definitions=loaded)
    found = loaded.resolve_sensor_def(sensor).evaluate_tick(context)
    return found.run_requests[0] if found.run_requests else found.skip_message


def run(job: str, instance: dg.DagsterInstance, **given) -> dg.ExecuteInProcessResult:
    return location().resolve_job_def(job).execute_in_process(instance=instance, **given)
