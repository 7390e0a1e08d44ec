"""Distances between a baseline and a window, what they mean, and a candidate beside the active model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ml import drift, promote


def amounts(seed: int, lines: int = 3000, shift: float = 0.0) -> np.ndarray:
    return -np.exp(np.random.default_rng(seed).normal(8 + shift, 1.2, lines)).round()


def test_psi_is_the_sum_over_shares():
    expected = (0.3 - 0.5) * np.log(0.3 / 0.5) + (0.7 - 0.5) * np.log(0.7 / 0.5)
    assert drift.psi([50, 50], [300, 700]) == pytest.approx(expected)
    assert drift.psi([50, 50], [100, 100]) == 0
    assert np.isfinite(drift.psi([100, 0], [0, 100]))


def test_equal_amounts_stay_within_what_chance_shows_and_moved_ones_do_not():
    same, moved = drift.psi_amount(amounts(1), amounts(2)), drift.psi_amount(amounts(1), amounts(2, shift=1))
    assert same.value < same.by_chance < 0.05
    assert moved.value > drift.ALERT
    assert moved.low < moved.value < moved.high


def test_amounts_beyond_the_baselines_range_are_counted():
    """Dropping them, as a histogram with closed edges does, would leave a distance of nothing."""
    far = np.where(np.arange(3000) % 3 == 0, -1e9, amounts(2))
    assert drift.psi_amount(amounts(1), far).value > drift.ALERT


def test_a_baseline_of_one_amount_still_tells_below_equal_and_above():
    flat = np.full(500, -1000.0)
    assert drift.psi_amount(flat, flat).value == 0
    for other in (-999.0, -1001.0):
        assert drift.psi_amount(flat, np.full(500, other)).value > drift.ALERT


def test_too_few_lines_give_no_value_and_the_reason_counts_them():
    signal = drift.psi_amount(amounts(1)[:99], amounts(2))
    assert signal.value is None
    assert signal.reason == "99 lines of the baseline and 3000 of the window, 100 of each are needed"


def test_vendors_seen_for_the_first_time_are_expected_as_often_as_they_came_before():
    """A long tail: a fifth of any month's lines are of vendors never seen, and that alone is no drift."""
    random = np.random.default_rng(3)
    before, now = (random.zipf(1.3, 4000).astype(str) for _ in range(2))
    assert (~pd.Series(now).isin(before)).mean() > 0.1
    assert drift.psi_vendor(before, now).value < 0.05


def test_a_new_vendor_that_swamps_the_lines_is_seen():
    random = np.random.default_rng(4)
    before = random.zipf(1.5, 4000).astype(str)
    now = np.where(random.random(4000) < 0.3, "clean air zone", random.zipf(1.5, 4000).astype(str))
    assert drift.psi_vendor(before, now).value > drift.ALERT


def test_the_mix_of_accounts_is_compared_over_all_of_both_sides():
    signal = drift.psi_category(["a"] * 200 + ["b"] * 200, ["a"] * 200 + ["c"] * 200)
    assert signal.value > drift.ALERT
    assert drift.psi_category(["a", "b"] * 100, ["b", "a"] * 100).value == 0


def test_the_kolmogorov_smirnov_distance_is_of_amounts_alone():
    assert drift.ks_amount(amounts(1), amounts(2)).value < drift.ks_amount(amounts(1), amounts(2)).by_chance
    assert drift.ks_amount(amounts(1), amounts(2, shift=1)).value > 0.3
    assert drift.ks_vendor().value is None
    assert "no order" in drift.ks_vendor().reason


@pytest.mark.parametrize(
    ("signals", "severity", "retrain"),
    [
        ({"psi": 0.30}, "high", True),
        ({"psi": 0.05, "accuracy_drop": 0.05}, "high", True),
        ({"psi": 0.15, "new_records": 1500}, "medium", True),
        ({"ocr_z": 2.5}, "none", False),
        ({}, "none", False),
        ({"psi": 0.20}, "high", True),
        ({"psi": 0.15}, "medium", False),
        ({"accuracy_drop": 0.80 - 0.77}, "high", True),
        ({"days_since_train": 30}, "low", False),
        ({"days_since_train": 6}, "none", False),
        ({"psi": 0.12, "days_since_train": 14}, "medium", True),
    ],
)
def test_what_signals_mean(signals, severity, retrain):
    verdict = drift.judge(**signals)
    assert (verdict.severity, verdict.retrain) == (severity, retrain)


def test_an_extractor_that_moved_is_a_reason_and_its_own_scope():
    verdict = drift.judge(ocr_z=-2.5)
    assert verdict.scope == ("ocr_extractor",)
    assert len(verdict.reasons) == 1


def predicted(seed: int, accuracy: float, lines: int = 4000, confidence: float | None = None) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    truth = np.random.default_rng(0).integers(0, 20, lines)
    right = random.random(lines) < accuracy
    return pd.DataFrame(
        {
            "txn": np.arange(lines).astype(str),
            "card": (np.arange(lines) % 200).astype(str),
            "account": truth.astype(str),
            "proposed": np.where(right, truth, (truth + 1) % 20).astype(str),
            "raw_p": confidence or accuracy,
            "is_new_vendor": np.arange(lines) % 4 == 0,
        }
    )


def test_a_better_candidate_is_promoted_with_its_paired_figures():
    compared = promote.compare(predicted(1, 0.70), predicted(2, 0.75))
    assert compared.promote
    assert compared.difference.low < 0.05 < compared.difference.high + 0.03
    assert compared.p_value < 0.01
    assert compared.new_vendors.value > 0


def test_the_same_predictions_are_no_reason_to_refuse():
    compared = promote.compare(predicted(1, 0.70), predicted(1, 0.70))
    assert compared.promote
    assert (compared.difference.value, compared.p_value) == (0, 1)


def test_a_worse_candidate_is_refused_with_the_reason():
    compared = promote.compare(predicted(1, 0.75), predicted(2, 0.70))
    assert not compared.promote
    assert "accuracy differs by -0.0" in compared.reasons[0]


def test_a_candidate_that_boasts_is_refused_although_it_is_as_often_right():
    compared = promote.compare(predicted(1, 0.70), predicted(1, 0.70, confidence=0.9))
    assert not compared.promote
    assert "calibration error" in compared.reasons[0]


def test_a_candidate_that_loses_new_vendors_is_refused():
    candidate = predicted(1, 0.70)
    candidate.loc[candidate["is_new_vendor"] & (candidate.index % 8 == 0), "proposed"] = "none"
    compared = promote.compare(predicted(1, 0.70), candidate)
    assert any("new vendors" in reason for reason in compared.reasons)


def test_models_are_compared_in_whatever_order_their_lines_come():
    active, candidate = predicted(1, 0.70), predicted(2, 0.75)
    assert promote.compare(active, candidate.sample(frac=1, random_state=0)) == promote.compare(
        active, candidate
    )


def test_models_that_saw_other_lines_are_not_compared():
    with pytest.raises(ValueError, match="same lines"):
        promote.compare(predicted(1, 0.70), predicted(2, 0.70)[1:])


def test_few_common_lines_promote_nobody():
    compared = promote.compare(predicted(1, 0.70, 199), predicted(2, 0.75, 199))
    assert compared.reasons == ("199 common lines, 200 are needed",)
