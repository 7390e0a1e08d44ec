"""Q1: four processes, ten tenants, a thousand items, and kills at random: nobody is contacted twice, nobody is lost."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from quality.certification.delivery.provider import MODES
from quality.certification.delivery.world import Launched, World, ended
from quality.certification.prct.checks import Checks

PROCESSES, TENANTS, PEOPLE, KILLS = 4, 10, 100, 25
CHANCE = 0.01  # at each point that a worker comes to
_LONGEST = 90  # seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a crowd of workers left. `effects` are all, `twice` the addresses that were reached more than once."""

    kills: int
    seconds: float
    effects: int
    twice: int
    intended: int
    statuses: dict[str, int]
    # Items that stand as accepted without an effect, or as never sent with one.
    untrue: int
    # Runs whose counts do not add up to what they intended, or that are not ended.
    miscounted: int


def crowd(
    world: World, seed: int, *, kills: int = KILLS, people: int = PEOPLE, tenants: int = TENANTS
) -> Outcome:
    """Workers that die at random are replaced, until so many were killed; then they are left to finish."""
    launched = [
        world.launch(f"crowd-{seed}-{n}", people, mode=MODES[n % 3], batch=5 if n % 3 == 0 else 1, chunk=25)
        for n in range(tenants)
    ]
    begun = time.monotonic()
    died, started, is_done = 0, 0, False
    alive: list[Any] = []
    while (alive or not is_done) and time.monotonic() < begun + _LONGEST:
        died += sum(ended(process) != 0 for process in alive if process.exitcode is not None)
        is_done = is_done or any(process.exitcode == 0 for process in alive)
        alive = [process for process in alive if process.exitcode is None]
        while len(alive) < PROCESSES and not is_done:
            started += 1
            chance = CHANCE if died < kills else 0.0
            alive.append(world.start(f"w{started}", chance=chance, seed=seed * 1000 + started))
        time.sleep(0.02)
    seconds = time.monotonic() - begun
    world.finish()
    return _judged(world, launched, died, seconds)


def _judged(world: World, launched: list[Launched], kills: int, seconds: float) -> Outcome:
    effects = [world.effects(each) for each in launched]
    items = [world.items(each) for each in launched]
    runs = [world.run(each) for each in launched]
    statuses: Counter[str] = Counter()
    untrue = miscounted = 0
    for reached, standing, run in zip(effects, items, runs, strict=True):
        statuses.update(standing.values())
        untrue += sum(status == "sent" and not reached[address] for address, status in standing.items())
        untrue += sum(
            status in ("failed", "queued") and reached[address] > 0 for address, status in standing.items()
        )
        parts = (
            run.accepted, run.rejected, run.suppressed, run.unknown, run.cancelled, run.expired, run.abandoned,
        )  # fmt: skip
        has_ended = run.status not in ("queued", "running", "paused")
        miscounted += not has_ended or sum(parts) != run.intended or run.intended != len(standing)
    return Outcome(
        kills=kills, seconds=round(seconds, 1), effects=sum(each.total() for each in effects),
        twice=sum(count > 1 for each in effects for count in each.values()),
        intended=sum(run.intended for run in runs), statuses=dict(sorted(statuses.items())), untrue=untrue,
        miscounted=miscounted,
    )  # fmt: skip


def crowded(world: World, checks: Checks) -> None:
    outcome = crowd(world, world.seed)
    world.measured["crowded"] = {
        "kills": outcome.kills, "seconds": outcome.seconds, "effects": outcome.effects,
        "statuses": outcome.statuses,
    }  # fmt: skip
    checks.equal("twice", "nobody of a thousand was contacted twice", 0, outcome.twice)
    checks.equal("intended", "everybody stands in the counts", PEOPLE * TENANTS, outcome.intended)
    checks.equal(
        "true", "who stands as sent was reached, and who stands as not sent was not", 0, outcome.untrue
    )
    checks.equal("ended", "every run has ended, and its counts add up", 0, outcome.miscounted)
    checks.equal("killed", "workers were killed on the way", True, outcome.kills >= 10)
