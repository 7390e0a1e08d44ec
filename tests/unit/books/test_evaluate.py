"""Measures of predictions and their probabilities, against definitions worked out by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from ml import evaluate


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    """20 000 lines that are right exactly as often as said."""
    random = np.random.default_rng(1)
    p = random.beta(4, 2, 20_000)
    return p, (random.random(len(p)) < p).astype(float)


def test_every_bin_is_listed_and_the_last_is_closed_at_one():
    bins = evaluate.width_bins([0.05, 0.1, 0.3, 0.95, 1.0], [0, 0, 1, 1, 1])
    assert [one.count for one in bins] == [1, 1, 0, 1, 0, 0, 0, 0, 0, 2]
    assert (bins[2].pred, bins[2].obs, bins[2].gap) == (None, None, 0.0)
    assert bins[9].pred == pytest.approx(0.975)


def test_ece_is_the_count_weighted_gap():
    p, right = [0.9, 0.9, 0.9, 0.9, 0.2], [1, 1, 1, 0, 1]
    expected = 4 / 5 * abs(0.9 - 0.75) + 1 / 5 * abs(0.2 - 1)
    assert evaluate.ece(evaluate.width_bins(p, right)) == pytest.approx(expected)
    assert evaluate.ece_width(p, right) == pytest.approx(expected)


def test_both_forms_of_ece_agree_with_their_bins(honest):
    assert evaluate.ece_width(*honest) == pytest.approx(evaluate.ece(evaluate.width_bins(*honest)))
    assert evaluate.ece_mass(*honest) == pytest.approx(evaluate.ece(evaluate.mass_bins(*honest)))


def test_bins_of_equal_mass_hold_as_many_lines_each(honest):
    counts = [one.count for one in evaluate.mass_bins(*honest)]
    assert len(counts) == 15
    assert max(counts) - min(counts) <= 1


def test_equal_probabilities_are_never_divided_between_bins_of_equal_mass():
    p = np.repeat([0.3, 0.6], [700, 300])
    right = np.r_[np.ones(300), np.zeros(400), np.ones(300)]
    assert [one.count for one in evaluate.mass_bins(p, right)] == [700, 300]
    shuffled = np.random.default_rng(0).permutation(1000)
    assert evaluate.ece_mass(p[shuffled], right[shuffled]) == pytest.approx(evaluate.ece_mass(p, right))


def test_an_honest_model_stays_under_its_noise_floor_and_a_boaster_does_not(honest):
    p, right = honest
    mean, high = evaluate.noise_floor(p)
    assert 0 < mean < high
    assert evaluate.ece_mass(p, right) < high
    boast = np.sqrt(p)
    assert evaluate.ece_mass(boast, right) > evaluate.noise_floor(boast)[1]


def test_the_noise_floor_rises_as_lines_get_fewer(honest):
    p, _ = honest
    assert evaluate.noise_floor(p[:500])[0] > 3 * evaluate.noise_floor(p)[0]


def test_bins_are_merged_until_each_has_a_hundred_lines_and_the_log_says_which():
    p = np.repeat([0.05, 0.15, 0.25, 0.35, 0.95], [60, 60, 200, 150, 20])
    merged, log = evaluate.merged(evaluate.width_bins(p, np.ones(len(p))))
    assert [one.count for one in merged] == [120, 200, 170]
    assert sum(one.count for one in merged) == len(p)
    assert log == ("0-0.2 (120 lines)", "0.3-1 (170 lines)")
    assert merged[0].pred == pytest.approx(0.1)


def test_too_few_lines_make_one_merged_bin():
    merged, _ = evaluate.merged(evaluate.width_bins([0.1, 0.9], [0, 1]))
    assert [one.count for one in merged] == [2]


def test_scores_are_those_of_scikit_learn(honest):
    p, right = honest
    assert evaluate.brier(p, right) == pytest.approx(brier_score_loss(right, p))
    assert evaluate.log_loss(p, right) == pytest.approx(sklearn_log_loss(right, p))
    random = np.random.default_rng(3)
    told, truth = random.integers(0, 30, 500).astype(str), random.integers(5, 35, 500).astype(str)
    told[:200] = truth[:200]
    expected = f1_score(truth, told, average="macro", zero_division=0)
    assert evaluate.macro_f1(told, truth) == pytest.approx(expected)


def test_the_parts_of_the_brier_score_add_up(honest):
    parts = evaluate.brier_parts(*honest)
    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(
        parts.score
    )
    assert parts.reliability < 0.001 < parts.resolution
    # Within fifteen bins little is left over.
    assert abs(parts.within) < 0.002


def test_the_multiclass_brier_counts_what_is_not_logged_as_one_more_account():
    top_p, top = [[0.7, 0.2, 0.05]], [["a", "b", "c"]]
    assert evaluate.brier_multiclass(top_p, top, ["a"]) == pytest.approx(0.3**2 + 0.2**2 + 0.05**2 + 0.05**2)
    assert evaluate.brier_multiclass(top_p, top, ["z"]) == pytest.approx(0.7**2 + 0.2**2 + 0.05**2 + 0.95**2)
    assert evaluate.brier_multiclass([[1.0, np.nan]], [["a", None]], ["b"]) == pytest.approx(2)


def test_the_curve_puts_the_surest_first_and_takes_ties_together():
    curve = evaluate.risk_coverage([0.9, 0.9, 0.5, 0.1], [1, 0, 1, 0])
    assert curve.coverage.tolist() == [0.5, 0.75, 1.0]
    assert curve.accuracy.tolist() == pytest.approx([0.5, 2 / 3, 0.5])
    assert curve.area == pytest.approx((2 * 0.5 + 1 / 3 + 0.5) / 4)
    assert curve.accuracy_at(0.6) == pytest.approx(2 / 3)


def test_lines_of_one_card_that_go_wrong_together_widen_the_interval():
    random = np.random.default_rng(5)
    card = np.repeat(np.arange(100), 50)
    right = np.repeat(random.random(100) < 0.8, 50).astype(float)
    alone = evaluate.bootstrap(np.mean, right)
    together = evaluate.bootstrap(np.mean, right, cluster=card)
    assert alone.value == together.value
    assert together.high - together.low > 3 * (alone.high - alone.low)
    assert evaluate.bootstrap(np.mean, right) == alone


def test_the_human_ceiling_counts_pairs_of_one_card_vendor_and_month():
    frame = pd.DataFrame(
        {
            "tenant": "t",
            "card": ["1", "1", "1", "2", "1"],
            "vendor": ["shop", "shop", "shop", "shop", ""],
            "post_date": ["2020-01-02", "2020-01-03", "2020-01-30", "2020-01-02", "2020-01-02"],
            "account": ["a", "a", "b", "b", "a"],
        }
    )
    ceiling = evaluate.human_ceiling(frame)
    assert (ceiling.pairs, ceiling.lines, ceiling.agreement) == (3, 3, pytest.approx(1 / 3))


@pytest.mark.parametrize(
    ("p", "right", "told"),
    [([1.2], [1], "outside 0 to 1"), ([np.nan], [1], "missing"), ([0.5], [1, 0], "one length")],
)
def test_what_is_no_probability_is_refused(p, right, told):
    with pytest.raises(ValueError, match=told):
        evaluate.brier(p, right)
