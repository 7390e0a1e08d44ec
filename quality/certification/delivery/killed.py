"""Q2: a worker is killed at every point of a send, with every kind of provider, and another one carries on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quality.certification.delivery.provider import MODES, Mode
from quality.certification.delivery.worker import POINTS
from quality.certification.delivery.world import World, ended
from quality.certification.prct.checks import Checks

PEOPLE = 3
# At these it is killed over the second message, when the first has gone out already.
_AT_SECOND = ("about to call", "effect")
# What has gone out by then, of three.
_GONE = {
    "claimed": 0, "attempts written": 0, "attempts committed": 0, "about to call": 1, "effect": 2, "called": 3,
    "outcomes written": 3, "outcomes committed": 3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    mode: Mode
    point: str

    @property
    def name(self) -> str:
        return f"{self.mode}-{self.point}".replace(" ", "-")

    @property
    def expected(self) -> dict[str, Any]:
        """By specification §11.6: replayed under a key, else looked up, else unknown with a case; and never sent twice."""
        is_rolled_back = self.point in ("claimed", "attempts written")
        is_recorded = self.point == "outcomes committed"
        gone = _GONE[self.point]
        if self.mode == "keys" or is_rolled_back or is_recorded:
            sent = effects = PEOPLE
        else:
            sent, effects = (gone if self.mode == "lookup" else 0), gone
        doubtful = PEOPLE - sent
        return {
            "killed": True,
            "effects": effects,
            "most_effects_of_one": 1 if effects else 0,
            "items": {name: count for name, count in (("sent", sent), ("unknown", doubtful)) if count},
            "cases": {"open": doubtful} if doubtful else {},
            "run": "needs_reconciliation" if doubtful else "completed",
        }


CASES = tuple(Case(mode, point) for mode in MODES for point in POINTS)


def found(world: World, case: Case) -> dict[str, Any]:
    launched = world.launch(f"killed-{case.name}", PEOPLE, mode=case.mode)
    doomed = world.start("doomed", point=case.point, times=2 if case.point in _AT_SECOND else 1)
    exit_code = ended(doomed)
    world.finish()
    effects = world.effects(launched)
    return {
        "killed": exit_code == -9,
        "effects": effects.total(),
        "most_effects_of_one": max(effects.values(), default=0),
        "items": world.statuses(launched),
        "cases": world.cases(launched),
        "run": world.run(launched).status,
    }


def killed(world: World, checks: Checks) -> None:
    for case in CASES:
        what = f"killed at {case.point!r}, provider with {case.mode}"
        checks.equal(case.name, what, case.expected, found(world, case))
