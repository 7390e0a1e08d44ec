"""Runs the certification: the scenarios, each in the same scratch database after the one before, and their report."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.warehouse import snapshots
from models import address, migrate
from models.errors import RevenueOsError
from quality.certification import freeze
from quality.certification.prct import (
    applying,
    boundaries,
    healthy,
    learning,
    people,
    replay,
    stopping,
    strained,
    tenants,
)
from quality.certification.prct.checks import Check, Checks
from quality.certification.prct.provider import WorkerKilled
from quality.certification.prct.world import World

Scenario = Callable[[World, Checks], None]

# By name, in the order in which they run.
SCENARIOS: Mapping[str, Scenario] = {
    "healthy": healthy.healthy,
    "degraded": strained.degraded,
    "failing": strained.failing,
    "boundaries": boundaries.boundaries,
    "readings": boundaries.readings,
    "people": people.people,
    "applying": applying.applying,
    "learning": learning.learning,
    "stopping": stopping.stopping,
    "tenants": tenants.tenants,
    "replay": replay.replay,
}


@dataclass(frozen=True, slots=True)
class Component:
    """A frozen component as it was when it was certified."""

    name: str
    version: str
    digest: str
    is_agreed: bool


@dataclass(frozen=True, slots=True)
class Report:
    started_at: datetime
    finished_at: datetime
    components: tuple[Component, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


@contextmanager
def scratch(url: str) -> Iterator[sa.Engine]:
    """A database of its own on the server of the URL, migrated and empty, dropped in the end. Raises DatabaseError."""
    name = f"prct_{uuid4().hex[:12]}"
    made = address.sibling(url, name)
    address.ensure_database(made)
    try:
        migrate.upgrade(made)
        engine = sa.create_engine(made)
        try:
            prepare(engine)
            yield engine
        finally:
            engine.dispose()
    finally:
        with address.connected(address.sibling(url, "postgres")) as connection:
            connection.execute(sa.text(f'drop database if exists "{name}" with (force)'))


def prepare(engine: sa.Engine) -> None:
    """Adds the table of daily metrics to a migrated database; elsewhere dbt makes it."""
    with engine.begin() as connection:
        snapshots.create(connection)
        # Nothing in it outlives the certification, so no commit has to wait for the disk.
        name = connection.dialect.identifier_preparer.quote_identifier(str(engine.url.database))
        connection.execute(sa.text(f"alter database {name} set synchronous_commit = off"))
    engine.dispose()  # the setting holds for new connections


def run(
    engine: sa.Engine,
    root: Path,
    *,
    clock: Callable[[], datetime],
    only: Sequence[str] = (),
    on_scenario: Callable[[str, Sequence[Check]], None] | None = None,
) -> Report:
    """Runs every scenario, or those named, in a database that `prepare` has seen. `root` holds the frozen components.

    `clock` says when the certification was; the scenarios live on a clock of their own. A scenario that ends early
    is a check that failed. Raises RefusedError for a name that is none.
    """
    if unknown := sorted(set(only) - set(SCENARIOS)):
        raise RefusedError(f"scenario {unknown[0]!r} does not exist: choose among {', '.join(SCENARIOS)}")
    started_at = clock()
    made: list[Check] = []
    for name, scenario in SCENARIOS.items():
        if not only or name in only:
            checks = _checked(engine, name, scenario)
            made += checks
            if on_scenario:
                on_scenario(name, checks)
    return Report(started_at, clock(), components(root), tuple(made))


def _checked(engine: sa.Engine, name: str, scenario: Scenario) -> list[Check]:
    world, checks = World(engine), Checks(name)
    ended = "at its end"
    try:
        scenario(world, checks)
    except (Exception, WorkerKilled) as error:
        ended = told(error)
    finally:
        world.leave()
    checks.equal("ends", "the scenario ran to its end", "at its end", ended)
    return checks.made


def told(error: BaseException) -> str:
    """A sentence of our own, else the place; other messages may name paths of the machine."""
    if isinstance(error, RevenueOsError):
        return f"{type(error).__name__}: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({Path(place.filename).name}:{place.lineno})"


def components(root: Path) -> tuple[Component, ...]:
    return tuple(
        Component(state.component.name, state.version, state.digest, not state.is_changed)
        for state in freeze.states(root)
    )
