"""Effects computed by hand, found when they are there, and not found when they are not."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from kernel.actions.results import (
    Estimate,
    economics,
    forecast,
    rounded,
    split,
    t_quantile,
    verdict,
)

APPLIED = 84


def _estimate(effect: float, stderr: float, scale: float = 100.0) -> Estimate:
    return Estimate("forecast", 0.0, effect, stderr, 1e9, scale)


@pytest.mark.parametrize(
    ("probability", "df", "table"),
    [(0.975, 2, 4.303), (0.975, 5, 2.571), (0.975, 12, 2.179), (0.975, 1e9, 1.960), (0.8, 10, 0.879)],
)
def test_quantiles_are_those_of_the_printed_tables(probability: float, df: float, table: float) -> None:
    assert t_quantile(probability, df) == pytest.approx(table, rel=0.01)


def test_two_arms_differ_by_the_interval_that_is_worked_out_by_hand() -> None:
    # Means 10 and 13; sums of squares 8 over four days and 8 over four, so variances 8/3 each, 2/3 of the mean each.
    # Neighbours in each arm move against each other, so no day tells less than a day.
    found = split([12, 10, 10, 8], [15, 13, 13, 11])
    assert found is not None
    assert (found.expected, found.observed, found.effect) == (10, 13, 3)

    alternating = split([12, 8, 12, 8, 12, 8], [15, 11, 15, 11, 15, 11])
    assert alternating is not None
    assert alternating.stderr == pytest.approx(math.sqrt(4.8 / 6 + 4.8 / 6))
    assert alternating.df == pytest.approx(10)
    # The table's t for ten degrees is 2.228.
    assert alternating.half_width == pytest.approx(2.228 * math.sqrt(1.6), rel=0.001)


def test_arms_of_two_days_are_no_experiment() -> None:
    assert split([1, 2], [3, 4, 5]) is None


def test_a_line_is_carried_on() -> None:
    """Two a day, so the days 85 to 91 are at 100 + 2 x 88 = 276 on average; five more were seen."""
    before = {day: 100.0 + 2 * day for day in range(APPLIED)}
    after = {day: 105.0 + 2 * day for day in range(85, 92)}
    found = forecast(before, after, APPLIED)
    assert found is not None
    assert found.expected == pytest.approx(276)
    assert found.effect == pytest.approx(5)
    assert found.stderr == pytest.approx(0, abs=1e-9)


def test_one_day_gone_wrong_does_not_turn_the_trend() -> None:
    before = dict.fromkeys(range(APPLIED), 100.0) | {60: 10_000.0}
    found = forecast(before, dict.fromkeys(range(85, 92), 100.0), APPLIED)
    assert found is not None
    assert found.expected == pytest.approx(100)


def test_six_days_before_the_change_are_no_baseline() -> None:
    assert forecast(dict.fromkeys(range(78, 84), 1.0), {90: 1.0}, APPLIED) is None


@pytest.mark.parametrize(
    ("effect", "stderr", "good", "outcome"),
    [
        (10, 2, 1, "improved"),
        (10, 2, -1, "hurt"),
        (-10, 2, -1, "improved"),
        (1.9, 0.1, 1, "neutral"),  # sure, but less than 2 %
        (1, 1.5, 1, "neutral"),  # the interval ends at 3.9 %, within 5 %
        (4, 3, 1, "inconclusive"),  # the noise is 5.9 %
        (1, 0.5, 0, "improved"),  # it stayed
        (9, 1, 0, "hurt"),
        (4, 3, 0, "inconclusive"),
    ],
)
def test_the_verdict_weighs_effect_noise_and_two_percent(
    effect: float, stderr: float, good: int, outcome: str
) -> None:
    assert verdict(_estimate(effect, stderr), good).outcome == outcome


def test_an_effect_that_was_promised_and_is_not_ruled_out_is_not_neutral() -> None:
    assert verdict(_estimate(1, 1.5), 1, relevant=0.03).outcome == "inconclusive"
    assert verdict(_estimate(1, 1.5), 1, relevant=0.10).outcome == "neutral"


def test_a_baseline_of_zero_is_judged_by_the_noise_alone() -> None:
    assert verdict(_estimate(3, 1, scale=0), 1).outcome == "improved"
    assert verdict(_estimate(1, 1, scale=0), 1).outcome == "inconclusive"
    assert verdict(_estimate(0, 0, scale=0), 1).outcome == "neutral"


def test_confidence_follows_the_interval() -> None:
    """An effect of two standard errors is real with 97.7 %, of four with nearly 100 %."""
    assert verdict(_estimate(10, 5), 1).confidence == pytest.approx(0.977, abs=0.001)
    assert verdict(_estimate(10, 2.5), 1).confidence > 0.9999
    assert verdict(_estimate(0, 50), 1).confidence == pytest.approx(0.5)


def test_the_economics_are_the_mean_of_the_favourable_changes() -> None:
    """Payback down 10 %, CAC down 6 %, margin down 2 %, revenue per FTE up 2 %: (10 + 6 - 2 + 2) / 4 = 4 %."""
    judged = {
        "payback_months": (_estimate(-1.2, 0.12, 12), -1),
        "cac_blended": (_estimate(-150, 25, 2500), -1),
        "gross_margin_pct": (_estimate(-1.2, 0.6, 60), 1),
        "revenue_per_fte": (_estimate(400, 200, 20_000), 1),
    }
    found = economics(judged)
    assert found is not None
    estimate, economic = found
    assert estimate.effect == pytest.approx(4)
    assert estimate.stderr == pytest.approx(1)
    assert economic.outcome == "improved"


def test_economics_that_cannot_be_measured_have_no_verdict() -> None:
    assert economics({}) is None
    assert economics({"payback_months": (_estimate(1, 1, scale=0), -1)}) is None


def test_what_is_stored_has_twelve_digits() -> None:
    assert rounded(2 / 3) == Decimal("0.666666666667")
    assert rounded(1e-7) == Decimal("0.0000001")


# Series with and without a shift, drawn from a seed -----------------------------------------------------------------


def _noise(kind: str, days: int, random: np.random.Generator) -> np.ndarray:
    shocks = random.normal(0, 1, days + 90)
    if kind == "independent":
        return 100 + 10 * shocks[-days:]
    if kind == "persistent":
        level = np.zeros(days + 90)
        for day in range(1, days + 90):
            level[day] = 0.7 * level[day - 1] + shocks[day]
        return 100 + 3 * level[-days:]
    if kind == "look-back":  # a mean of 90 days, as the canonical ratios are
        return 100 + 30 * np.convolve(shocks, np.ones(90) / 90, "valid")[-days:]
    if kind == "weekly":
        return random.poisson(np.array([100, 110, 105, 100, 90, 20, 15])[np.arange(days) % 7]).astype(float)
    return 100 + 0.3 * np.arange(days) + 3 * shocks[-days:]


def _verdicts(kind: str, shift: float, known: int = 84, runs: int = 200) -> list[str]:
    random = np.random.default_rng(20260504)
    found = []
    for _ in range(runs):
        values = _noise(kind, known + 15, random)
        before = {APPLIED - known + place: values[place] for place in range(known)}
        base = values[known - 14 : known].mean()
        after = {APPLIED + ahead: values[known + ahead] + shift * base for ahead in range(8, 15)}
        estimate = forecast(before, after, APPLIED)
        assert estimate is not None
        found.append(verdict(estimate, 1).outcome)
    return found


@pytest.mark.parametrize("kind", ["independent", "persistent", "look-back", "weekly", "trend"])
@pytest.mark.parametrize("known", [14, 84])
def test_where_nothing_happened_fewer_than_a_tenth_are_told_otherwise(kind: str, known: int) -> None:
    told = _verdicts(kind, 0.0, known)
    assert sum(outcome in ("improved", "hurt") for outcome in told) < 0.1 * len(told)


@pytest.mark.parametrize("kind", ["independent", "persistent", "look-back", "weekly", "trend"])
def test_a_fifth_more_is_found_nearly_always_and_never_the_wrong_way(kind: str) -> None:
    told = _verdicts(kind, 0.2)
    assert told.count("improved") > 0.8 * len(told)
    assert "hurt" not in told


def test_a_shift_is_measured_at_its_size() -> None:
    random = np.random.default_rng(7)
    effects = []
    for _ in range(200):
        values = _noise("persistent", 99, random)
        before = {day: values[day] for day in range(APPLIED)}
        estimate = forecast(before, {day: values[day] + 20 for day in range(92, 99)}, APPLIED)
        assert estimate is not None
        effects.append(estimate.effect)
    assert np.mean(effects) == pytest.approx(20, abs=1.5)
