"""What is learned from results, and when a family is kept out."""

from __future__ import annotations

from decimal import Decimal

import pytest

from kernel.decisions.effects import hurts_economics, posterior
from kernel.decisions.weights import DEFAULT_WEIGHTS, Prior, Weights
from tests.unit.decisions.scenarios import CLOCK, result

WEIGHTS = Weights(version=1, families={"known": Prior(mean_pct=10, stderr_pct=2)})


def learned(*results, family: str = "known", **other):
    return posterior(family, results, WEIGHTS, CLOCK, **other)


def test_without_results_the_prior_is_expected():
    effect = learned()
    assert (effect.mean_pct, effect.stderr_pct, effect.n) == (10, 2, 0)


def test_a_result_as_sure_as_the_prior_meets_it_half_way():
    effect = learned(result("known", 0, days_ago=0, stderr_pct=2))
    assert effect.mean_pct == 5
    assert round(effect.stderr_pct, 3) == Decimal("1.414")
    assert effect.n == 1


def test_a_result_counts_half_after_a_half_life():
    effect = learned(result("known", 0, days_ago=90, stderr_pct=2))
    assert round(effect.mean_pct, 6) == round(Decimal(10) / Decimal("1.5"), 6)


def test_a_result_counts_by_its_share_of_the_credit():
    half = learned(result("known", 0, days_ago=0, stderr_pct=2, weight="0.5"))
    assert round(half.mean_pct, 6) == round(Decimal(10) / Decimal("1.5"), 6)


def test_results_of_other_families_and_of_the_future_teach_nothing():
    assert learned(result("other", -50), result("known", -50, days_ago=-2)).n == 0


def test_shrinkage_makes_the_prior_stand_for_more_results():
    stubborn = WEIGHTS.model_copy(update={"shrinkage": Decimal(3)})
    effect = posterior("known", [result("known", 0, days_ago=0, stderr_pct=2)], stubborn, CLOCK)
    assert effect.mean_pct == Decimal("7.5")


def test_an_unknown_family_is_expected_what_its_lever_is():
    lever = DEFAULT_WEIGHTS.levers["pricing"]
    assert posterior("new", (), DEFAULT_WEIGHTS, CLOCK, lever="pricing").mean_pct == lever.mean_pct
    assert posterior("new", (), DEFAULT_WEIGHTS, CLOCK).mean_pct == DEFAULT_WEIGHTS.otherwise.mean_pct


def test_a_change_that_touches_nothing_is_expected_to_do_nothing():
    assert learned(scale=Decimal(0)).mean_pct == 0


@pytest.mark.parametrize(
    ("results", "kept_out"),
    [
        ([("hurt", 1, 1)], True),
        ([("hurt", 89, 1)], True),
        ([("hurt", 91, 1)], False),
        ([("hurt", 1, "0.4")], False),
        ([("hurt", 1, "0.4"), ("hurt", 2, "0.4")], True),
        ([("hurt", 1, 1), ("improved", 2, 1)], False),
        ([("neutral", 1, 1), ("inconclusive", 2, 1)], False),
    ],
)
def test_harm_to_economics_keeps_a_family_out_for_a_half_life(results: list, kept_out: bool):
    known = [result("known", 20, days_ago=ago, economics=said, weight=share) for said, ago, share in results]
    assert hurts_economics("known", known, WEIGHTS, CLOCK) == kept_out
    assert not hurts_economics("other", known, WEIGHTS, CLOCK)


def test_a_harm_that_four_changes_share_keeps_none_of_them_out():
    alone = result("known", 20, days_ago=1, economics="hurt")
    shared = alone.model_copy(update={"economics_weight": Decimal("0.25")})
    assert hurts_economics("known", [alone], WEIGHTS, CLOCK)
    assert not hurts_economics("known", [shared], WEIGHTS, CLOCK)


def test_a_result_beyond_belief_moves_the_mean_no_more_than_one_at_the_edge_of_it():
    # The prior is 10 with an error of 2: between -10 and 30 a result is believed.
    at_the_edge = learned(result("known", 30, stderr_pct=2))
    assert learned(result("known", Decimal("1e300"), stderr_pct=2)) == at_the_edge
    assert learned(result("known", -11, stderr_pct=2)) == learned(result("known", -10, stderr_pct=2))
    assert learned(result("known", 29, stderr_pct=2)).mean_pct < at_the_edge.mean_pct
