"""A small world in which one family helps and another hurts: ten cycles are enough to tell them apart."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest

from kernel.decisions.contract import ActionResult
from kernel.decisions.decide import decide
from kernel.decisions.scoring import DEFAULT_WEIGHTS
from tests.unit.decisions.scenarios import (
    AS_OF,
    CLOCK,
    CYCLE,
    DAYS,
    SETTINGS,
    A,
    AnalysisWindow,
    Trigger,
    given,
    metrics,
    result,
)

HELPS, HURTS = "clear_call_to_action", "max_touches"
TRUE_PCT = {HELPS: 8.0, HURTS: -8.0}
NOISE_PCT = 4.0
CYCLES, APART = 10, timedelta(days=14)


@dataclass(frozen=True)
class Ending:
    """Whether the helpful family was ever and is still above the harmful one, and the harmful one is kept out."""

    ranks_above: bool
    is_suppressed: bool
    cycles_until_suppressed: int | None


def lived(seed: int) -> Ending:
    """The real decision in every cycle; what it proposes is carried out, and measured with noise."""
    draw = random.Random(seed)
    known: list[ActionResult] = []
    suppressed_at = None
    output = None
    for cycle in range(CYCLES + 1):
        moved = APART * cycle
        clock = CLOCK + moved
        readings = tuple(r.model_copy(update={"date": r.date + moved}) for r in metrics(A))
        asked = given(
            A,
            readings=readings,
            channel_rows=(),
            settings=tuple(s for s in SETTINGS if s.field in ("cta_text", "max_touches")),
            results=tuple(known),
            trigger=Trigger(type="scheduled", source="daily", triggered_at=clock),
            analysis_window=AnalysisWindow(
                start_date=AS_OF + moved - timedelta(days=DAYS - 1), end_date=AS_OF + moved
            ),
        )
        output = decide(asked, clock, cycle_id=CYCLE, weights=DEFAULT_WEIGHTS)
        proposed = {action.family for action in output.actions}
        if suppressed_at is None and HURTS not in proposed:
            suppressed_at = cycle
        for family in sorted(proposed & set(TRUE_PCT)):
            seen = Decimal(str(round(draw.gauss(TRUE_PCT[family], NOISE_PCT), 3)))
            closed = result(family, seen, days_ago=0, stderr_pct=str(NOISE_PCT), clock=clock + APART)
            known.append(closed)
    assert output is not None
    scores = {candidate.family: candidate.cfo_score for candidate in output.trace}
    dropped = {candidate.family: candidate.dropped for candidate in output.trace}
    return Ending(scores[HELPS] > scores[HURTS], dropped[HURTS] is not None, suppressed_at)


def test_before_anything_is_known_the_harmful_family_stands_first():
    # Otherwise the endings below would prove nothing.
    output = decide(given(A, channel_rows=()), CLOCK, cycle_id=CYCLE, weights=DEFAULT_WEIGHTS)
    families = [action.family for action in output.actions]
    assert families.index(HURTS) < families.index(HELPS)


def test_in_ten_worlds_the_helpful_family_comes_out_above_the_harmful_one():
    endings = [lived(seed) for seed in range(10)]
    assert all(ending.ranks_above for ending in endings)
    assert sum(ending.is_suppressed for ending in endings) >= 9


@pytest.mark.slow
def test_in_a_hundred_worlds_the_harmful_family_is_suppressed_in_95():
    endings = [lived(seed) for seed in range(100)]
    assert sum(ending.is_suppressed for ending in endings) >= 95
    assert sum(ending.ranks_above for ending in endings) >= 95
