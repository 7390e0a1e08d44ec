"""Bounds, the walk to a threshold, and the alarms that close a gate, on streams whose true precision is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ml import certify


def stream(lines: int, seed: int, *, honest: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities from 0.5 up, right as often as said, or ten points less."""
    random = np.random.default_rng(seed)
    p = random.uniform(0.5, 1, lines)
    return p, random.random(lines) < (p if honest else p - 0.1)


@pytest.mark.parametrize(("target", "lines"), [(0.90, 29), (0.95, 59), (0.98, 149), (0.99, 299)])
def test_the_least_number_of_lines_that_could_prove_a_target(target, lines):
    assert certify.least_checked(target) == lines
    assert certify.lower_bound(lines, lines) >= target > certify.lower_bound(lines - 1, lines - 1)


@pytest.mark.parametrize(
    ("target", "truth", "about"), [(0.90, 0.92, 650), (0.90, 0.95, 120), (0.95, 0.97, 365), (0.98, 0.99, 590)]
)
def test_how_many_lines_an_audit_must_check(target, truth, about):
    lines = certify.audit_size(target, truth)
    assert lines == pytest.approx(about, rel=0.04)
    assert certify.lower_bound(int(lines * truth), lines) >= target


def test_no_audit_proves_a_target_that_the_truth_does_not_reach():
    with pytest.raises(ValueError, match="cannot prove"):
        certify.audit_size(0.95, 0.95)


def test_the_bound_is_that_of_clopper_and_pearson():
    # Hahn & Meeker's table: 95 of 100, one-sided 95 %.
    assert certify.lower_bound(95, 100) == pytest.approx(0.8978, abs=1e-4)
    assert certify.lower_bound(0, 10) == 0
    with pytest.raises(ValueError, match="11 right of 10"):
        certify.lower_bound(11, 10)


def test_a_certificate_is_broken_in_no_more_cases_than_delta_allows():
    """The true precision above the threshold is known here: (1 + threshold) / 2 less ten points."""
    broken = 0
    for seed in range(300):
        made = certify.certify(*stream(3000, seed, honest=False), target=0.85)
        broken += made.threshold is not None and (1 + made.threshold) / 2 - 0.1 < 0.85
    assert broken / 300 <= 0.05 + 0.025


def test_the_walk_goes_as_far_down_as_is_proven_and_stops_at_the_first_failure():
    made = certify.certify(*stream(20_000, seed=1), target=0.92)
    assert made.threshold == pytest.approx(0.85, abs=0.02)
    assert made.lower_bound >= 0.92
    assert [step.lower_bound >= 0.92 for step in made.steps] == [True] * (len(made.steps) - 1) + [False]
    assert all(one.threshold > two.threshold for one, two in zip(made.steps, made.steps[1:], strict=False))


def test_nothing_under_the_floor_is_certified_however_good_it_is():
    p = np.linspace(0.5, 1, 5000)
    made = certify.certify(p, np.ones(5000))
    assert made.threshold == pytest.approx(certify.FLOOR, abs=0.001)
    assert certify.certify(p, np.ones(5000), floor=0.6).threshold == pytest.approx(0.60, abs=0.001)


def test_any_monotone_map_of_probabilities_lets_the_same_lines_pass():
    p, right = stream(4000, seed=2)
    made = certify.certify(p, right, target=0.86, floor=0.6)
    squared = certify.certify(p**2, right, target=0.86, floor=0.36)
    assert made.threshold > 0.65
    assert squared.threshold == pytest.approx(made.threshold**2)
    assert (squared.checked, squared.right) == (made.checked, made.right)


def test_the_steps_do_not_depend_on_outcomes():
    p, right = stream(4000, seed=3)
    walked, short = certify.certify(p, right), certify.certify(p, ~right)
    assert short.steps[0].threshold == walked.steps[0].threshold


def test_lines_of_one_probability_pass_together():
    p = np.repeat([0.95, 0.9], [500, 500])
    made = certify.certify(p, np.r_[np.ones(500), np.zeros(500)])
    assert (made.threshold, made.checked) == (0.95, 500)


def test_a_bad_day_among_the_surest_does_not_end_the_walk():
    p = np.linspace(1, 0.8, 3000)
    right = np.ones(3000, dtype=bool)
    right[:40] = False
    assert certify.certify(p, right).threshold == pytest.approx(0.8)


def test_too_few_checked_lines_close_the_gate_and_the_reason_counts_them():
    made = certify.certify(np.full(28, 0.99), np.ones(28))
    assert made.threshold is None
    assert made.reason == "28 checked lines with a probability of 0.79 or above, 29 are needed"
    assert certify.certify([], []).threshold is None


def test_a_gate_that_proves_too_little_is_closed_and_says_how_much():
    made = certify.certify(*stream(2000, seed=4, honest=False), target=0.94)
    assert made.threshold is None
    assert "not 0.94" in made.reason


def test_head_room_widens_at_once_and_narrows_slowly():
    missed = certify.next_target(0.90, checked=1000, right=850)
    assert missed == 0.92
    held = certify.next_target(missed, checked=1000, right=950)
    assert held == 0.915
    assert certify.next_target(0.90, checked=1000, right=950) == 0.90
    assert certify.next_target(0.98, checked=1000, right=500) == 0.98


@pytest.mark.parametrize(("checked", "right"), [(28, 0), (100, 87)])
def test_what_chance_explains_moves_no_target(checked, right):
    assert certify.next_target(0.90, checked, right) == 0.90


def test_only_checks_that_were_drawn_by_lot_count_for_posted_lines():
    logged = pd.DataFrame(
        {
            "txn": ["reviewed", "drawn", "noticed", "unlabelled", "nothing proposed", "stopped"],
            "verdict": ["review", "posted", "posted", "would_post", "review", "review"],
            "is_audited": [False, True, False, False, False, False],
            "proposed": ["a", "a", "a", "a", None, "a"],
            "account": ["a", "a", "b", None, "a", "a"],
            "held": [False, False, False, False, False, True],
        }
    )
    assert certify.checkable(logged)["txn"].tolist() == ["reviewed", "drawn"]
    assert certify.checkable(logged.drop(columns="held"))["txn"].tolist() == ["reviewed", "drawn", "stopped"]


def test_a_new_mix_of_accounts_closes_the_gate_and_names_the_account():
    before = pd.Series(["rent"] * 500 + ["food"] * 500)
    shift = certify.label_shift(before, pd.Series(["rent"] * 10 + ["food"] * 20 + ["clean air"] * 70))
    assert shift.closes
    assert shift.distance == pytest.approx(0.7)
    assert "clean air (0% to 70%)" in shift.reason


def test_the_same_mix_over_many_accounts_closes_nothing_although_few_labels_differ_by_chance():
    random = np.random.default_rng(6)
    share = random.dirichlet(np.full(100, 0.5))
    before, now = (pd.Series(random.choice(100, size, p=share).astype(str)) for size in (5000, 80))
    shift = certify.label_shift(before, now)
    assert shift.distance > 0.25
    assert not shift.closes


def test_few_new_labels_close_nothing():
    assert not certify.label_shift(pd.Series(["a"] * 500), pd.Series(["b"] * 49)).closes


def labels(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["vendor", "card", "account", "labelled_at"])
    frame["labelled_at"] = pd.to_datetime(frame["labelled_at"], utc=True)
    return frame.assign(tenant="t", post_date="2021-01-01", txn=[str(i) for i in range(len(frame))])


def lines(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["vendor", "card", "proposed"]).assign(tenant="t")


def test_a_merchant_that_is_booked_anew_is_held_back():
    """What a car park went through: one account for years, then another for its last two labels."""
    known = labels(
        *(("car park", "1", "K080", f"2021-0{month}-01") for month in range(1, 6)),
        ("car park", "1", "K600", "2021-07-01"),
        ("car park", "1", "K600", "2021-07-02"),
    )
    asked = lines(("car park", "1", "K080"), ("car park", "1", "K600"), ("elsewhere", "1", "K080"))
    assert certify.disputed(asked, known).tolist() == [True, False, False]


@pytest.mark.parametrize("newest", [["a", "b"], ["b", "c"], ["b"]])
def test_a_merchant_whose_labels_only_differ_is_not_held_back(newest):
    known = labels(*(("shop", "1", account, f"2021-0{1 + at}-01") for at, account in enumerate(newest)))
    assert not certify.disputed(lines(("shop", "1", "a")), known).any()


def test_a_cards_own_labels_count_before_those_of_other_cards():
    known = labels(
        ("shop", "1", "a", "2021-01-01"), ("shop", "1", "a", "2021-01-02"),
        ("shop", "2", "b", "2021-02-01"), ("shop", "2", "b", "2021-02-02"),
    )  # fmt: skip
    asked = lines(("shop", "1", "a"), ("shop", "2", "b"), ("shop", "3", "a"), ("shop", "3", "b"))
    assert certify.disputed(asked, known).tolist() == [False, False, True, False]


def test_a_flood_of_a_vendor_nobody_labelled_is_held_back():
    known = labels(("shop", "1", "a", "2021-01-01"))
    asked = lines(
        *[("clean air", "1", "a")] * 31, *[("shop", "1", "a")] * 40, ("new", "1", "a"), *[("", "1", "a")] * 40
    )
    assert certify.floods(asked, known).sum() == 31
    assert certify.floods(asked[1:], known).sum() == 0
