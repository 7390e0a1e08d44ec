"""Runs the certification of delivery: its scenarios on a scratch database, and what is kept of them as evidence."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from kernel.errors import RefusedError
from quality.certification import circumstances
from quality.certification.delivery import crowded, killed, ledgers, live, rules, stolen, worker
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
    "live": live.live,
    # Last, for it looks at what all others have left.
    "whole": rules.whole,
}
# The checks that each requirement of the specification rests on, by the beginnings of their ids.
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "Q1": ("crowded.", "whole."),
    "Q2": ("killed.",),
    "Q3": ("started.",),
    "Q4": ("stolen.",),
    "Q5": ("retried.",),
    "Q6": ("isolated.",),
    "Q7": ("schema.",),
    "E1": ("live.email",),
    "V1": ("live.voice",),
    "UX1": ("retried.counts", "retried.jobs", "retried.people"),
    "UX2": ("retried.parent", "retried.lineage"),
}


def run(
    engine: sa.Engine,
    root: Path,
    *,
    clock: Callable[[], datetime],
    only: Sequence[str] = (),
    prepare: str | None = None,
    seed: int = 1,
    accounts: Mapping[str, live.Account] = MappingProxyType({}),
    actor: str = "nobody",
    environment: str = "test",
    on_scenario: Callable[[str, Sequence[Check]], None] | None = None,
) -> tuple[Report, dict[str, Any]]:
    """The report of every scenario, or of those named, and the facts that belong into its evidence.

    The database is migrated and nobody else's. `prepare` is called first in every worker. Through `accounts`, by
    channel, one real message each is sent. A scenario that ends early is a check that failed. Raises RefusedError for
    a name that is none.
    """
    if unknown := sorted(set(only) - set(SCENARIOS)):
        raise RefusedError(f"scenario {unknown[0]!r} does not exist: choose among {', '.join(SCENARIOS)}")
    started_at = clock()
    made: list[Check] = []
    with tempfile.TemporaryDirectory() as folder:
        world = World(engine, Path(folder), prepare, seed=seed, live=accounts)
        for name, scenario in SCENARIOS.items():
            if not only or name in only:
                checks = _checked(world, name, scenario)
                made += checks
                if on_scenario:
                    on_scenario(name, checks)
        facts = {"certification": NAME, "parameters": _parameters(world), "measured": world.measured}
        facts |= {"requirements": verdicts(made), "ledgers": world.ledgers}
        facts |= circumstances.of(engine, root, actor=actor, environment=environment)
    return Report(started_at, clock(), components(root), tuple(made)), facts


def verdicts(checks: Iterable[Check | Mapping[str, Any]]) -> dict[str, str]:
    """PASS, FAIL or NOT_RUN by requirement. Anything but PASS keeps a change back."""
    told = [each if isinstance(each, Mapping) else asdict(each) | {"passed": each.passed} for each in checks]
    return {name: _verdict(told, beginnings) for name, beginnings in REQUIREMENTS.items()}


def verify(content: Mapping[str, Any]) -> None:
    """Holds what evidence of this certification says against itself. Raises RefusedError."""
    if content["facts"].get("requirements") != verdicts(content["checks"]):
        raise RefusedError("the verdicts of the evidence do not follow from its checks: certify again")
    ledgers.verify(content)


def _verdict(checks: Sequence[Mapping[str, Any]], beginnings: tuple[str, ...]) -> str:
    mine = [check for check in checks if check["id"].startswith(beginnings)]
    missed = [str(check["found"]) for check in mine if not check["passed"]]
    if mine and not missed:
        return "PASS"
    return "NOT_RUN" if all(found.startswith("NOT_RUN") for found in missed) else "FAIL"


def _checked(world: World, name: str, scenario: Scenario) -> list[Check]:
    checks, ended, begun = Checks(name), "at its end", time.monotonic()
    try:
        scenario(world, checks)
    except Exception as error:
        ended = told(error)
    finally:
        world.leave()
    checks.equal("ends", "the scenario ran to its end", "at its end", ended)
    world.measured.setdefault(name, {})["took_seconds"] = round(time.monotonic() - begun, 1)
    return checks.made


def _parameters(world: World) -> dict[str, Any]:
    of_worker = worker.Settings("", Path(), "")
    return {
        "seed": world.seed, "processes": crowded.PROCESSES, "tenants": crowded.TENANTS,
        "people_of_a_tenant": crowded.PEOPLE, "kills_at_most": crowded.KILLS, "chance_of_a_kill": crowded.CHANCE,
        "lease_seconds": of_worker.lease, "timeout_seconds": of_worker.timeout,
        "margin_seconds": of_worker.margin, "takeover_seconds": of_worker.takeover,
        "is_broken_on_purpose": world.is_broken,
    }  # fmt: skip
