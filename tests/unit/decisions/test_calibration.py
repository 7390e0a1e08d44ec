"""Claims are held against results, and the next claims are as wide as the misses were."""

from __future__ import annotations

import random
from decimal import Decimal
from uuid import UUID

import pytest

from kernel.decisions.calibration import Outcome, recalibrated, reliability
from kernel.decisions.weights import DEFAULT_WEIGHTS

FAMILY = "scale_channel"
CLAIMED = DEFAULT_WEIGHTS.families[FAMILY].stderr_pct


def outcome(realised: object, *, predicted: object = 12, family: str = FAMILY, version: int = 1) -> Outcome:
    return Outcome(
        UUID(int=1), family, version, Decimal(str(predicted)), CLAIMED, Decimal(str(realised)), Decimal(1)
    )


def stderr(outcomes: list[Outcome], family: str = FAMILY) -> Decimal | None:
    found = recalibrated(DEFAULT_WEIGHTS, outcomes)
    return found and found.families[family].stderr_pct


def test_a_family_is_told_by_its_means_and_its_miss():
    (found,) = reliability([outcome(12), outcome(24)])
    assert (found.family, found.results) == (FAMILY, 2)
    assert (found.predicted_pct, found.realised_pct) == (12, 18)
    # One of two is off by 12 points where the error together is the root of 6 squared and 1 squared.
    assert found.miss == (Decimal(144) / 37 / 2).sqrt()


def test_families_are_told_apart_and_in_order():
    assert [found.family for found in reliability([outcome(1, family="b"), outcome(1, family="a")])] == [
        "a",
        "b",
    ]


def test_twice_the_claimed_misses_double_the_error():
    off = Decimal(2) * (CLAIMED**2 + 1).sqrt()
    assert stderr([outcome(12 + sign * off) for sign in (1, -1, 1, -1, 1)]) == CLAIMED * 2


def test_an_error_grows_twofold_at_most_and_halves_at_most():
    assert stderr([outcome(500)] * 5) == CLAIMED * 2
    assert stderr([outcome(12)] * 5) == CLAIMED / 2


def test_four_results_change_nothing():
    assert recalibrated(DEFAULT_WEIGHTS, [outcome(500)] * 4) is None


def test_misses_as_large_as_claimed_change_nothing():
    off = (CLAIMED**2 + 1).sqrt()
    assert recalibrated(DEFAULT_WEIGHTS, [outcome(12 + sign * off) for sign in (1, -1, 1, -1, 1)]) is None


def test_what_was_claimed_under_earlier_weights_counts_no_more():
    first = recalibrated(DEFAULT_WEIGHTS, [outcome(500)] * 5)
    assert first is not None
    assert first.version == 2
    assert recalibrated(first, [outcome(500)] * 5) is None
    assert recalibrated(first, [outcome(500, version=2)] * 5).version == 3


def test_the_assumed_effects_stay_as_they_are():
    found = recalibrated(DEFAULT_WEIGHTS, [outcome(500)] * 5)
    assert {name: prior.mean_pct for name, prior in found.families.items()} == {
        name: prior.mean_pct for name, prior in DEFAULT_WEIGHTS.families.items()
    }


def test_weeks_of_recalibration_end_at_the_error_there_is():
    """The true error is three times the one assumed."""
    rng, weights, true = random.Random(5), DEFAULT_WEIGHTS, float(CLAIMED) * 3
    for _ in range(30):
        claimed = weights.families[FAMILY].stderr_pct
        found = [
            Outcome(
                UUID(int=1), FAMILY, weights.version, Decimal(12), claimed,
                Decimal(str(round(rng.gauss(12, true), 6))), Decimal("0.01"),
            )
            for _ in range(40)
        ]  # fmt: skip
        weights = recalibrated(weights, found) or weights
    assert float(weights.families[FAMILY].stderr_pct) == pytest.approx(true, rel=0.25)


def test_a_measurement_is_trusted_to_no_more_than_results_are_in_learning():
    sure = Outcome(UUID(int=1), FAMILY, 1, Decimal(12), Decimal(0), Decimal(15), Decimal(0))
    (found,) = reliability([sure])
    assert found.miss == 3 / DEFAULT_WEIGHTS.least_stderr_pct


def test_an_error_that_is_halved_each_week_never_becomes_none():
    prior = DEFAULT_WEIGHTS.families[FAMILY].model_copy(update={"stderr_pct": Decimal("0.01")})
    weights = DEFAULT_WEIGHTS.model_copy(update={"families": {FAMILY: prior}})
    assert recalibrated(weights, [outcome(12)] * 5) is None
