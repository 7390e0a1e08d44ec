"""Runs the certification of delivery: its scenarios on a scratch database, and what is kept of them as evidence."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kernel.errors import RefusedError
from models import migrate
from quality.certification.delivery import crowded, killed, rules, stolen
from quality.certification.delivery.world import World
from quality.certification.prct.checks import Check, Checks
from quality.certification.prct.run import Report, components, told

NAME = "delivery"
# The ids of all checks, one a line.
KNOWN = Path(__file__).with_name("checks.txt")
Scenario = Callable[[World, Checks], None]

# By name, in the order in which they run; each is a requirement of the specification's table of certification.
SCENARIOS: Mapping[str, Scenario] = {
    "crowded": crowded.crowded,
    "killed": killed.killed,
    "started": rules.started,
    "stolen": stolen.stolen,
    "retried": rules.retried,
    "isolated": rules.isolated,
    "schema": rules.schema,
    "whole": rules.whole,
    "live": rules.live,
}


def run(
    engine: sa.Engine,
    root: Path,
    *,
    clock: Callable[[], datetime],
    only: Sequence[str] = (),
    prepare: str | None = None,
    on_scenario: Callable[[str, Sequence[Check]], None] | None = None,
) -> tuple[Report, dict[str, Any]]:
    """The report of every scenario, or of those named, and the facts that belong into its evidence.

    The database is migrated and nobody else's. `prepare` is called first in every worker. A scenario that ends early is
    a check that failed. Raises RefusedError for a name that is none.
    """
    if unknown := sorted(set(only) - set(SCENARIOS)):
        raise RefusedError(f"scenario {unknown[0]!r} does not exist: choose among {', '.join(SCENARIOS)}")
    started_at = clock()
    made: list[Check] = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(engine, Path(folder), prepare)
        for name, scenario in SCENARIOS.items():
            if not only or name in only:
                checks = _checked(world, name, scenario)
                made += checks
                if on_scenario:
                    on_scenario(name, checks)
        facts = _facts(world)
    return Report(started_at, clock(), components(root), tuple(made)), facts


def _checked(world: World, name: str, scenario: Scenario) -> list[Check]:
    checks, ended = Checks(name), "at its end"
    try:
        scenario(world, checks)
    except Exception as error:
        ended = told(error)
    finally:
        world.leave()
    checks.equal("ends", "the scenario ran to its end", "at its end", ended)
    return checks.made


def _facts(world: World) -> dict[str, Any]:
    with world.engine.connect() as connection:
        system = connection.exec_driver_sql(
            "select system_identifier::text from pg_control_system()"
        ).scalar_one()
        version = connection.exec_driver_sql("show server_version").scalar_one()
    url = world.engine.url.render_as_string(hide_password=False)
    return {
        "certification": NAME, "migration": migrate.current(url), "database": f"{system}/{world.engine.url.database}",
        "postgresql": version, "python": platform.python_version(), "processes": crowded.PROCESSES,
        "measured": world.measured,
    }  # fmt: skip
