"""Monotone maps from raw to calibrated probabilities, on outcomes whose true probability is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from ml import calibrate, evaluate


def drawn(lines: int, seed: int, temperature: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident predictions: the truth is the raw logit divided by the temperature."""
    random = np.random.default_rng(seed)
    raw = expit(random.normal(2, 2, lines))
    return raw, random.random(lines) < expit(logit(raw) / temperature)


def test_a_temperature_is_found_again():
    raw, right = drawn(5000, seed=1)
    found = calibrate._fitted("temperature", raw, right.astype(float), np.ones(5000))
    assert found["temperature"] == pytest.approx(2, abs=0.15)


def test_calibration_holds_on_lines_it_was_not_fitted_on():
    made = calibrate.fit(*drawn(3000, seed=2))
    raw, right = drawn(20_000, seed=3)
    p = calibrate.apply(made.parameters, raw)
    assert evaluate.ece_mass(raw, right) > 0.1
    assert evaluate.ece_mass(p, right) < 0.02
    assert evaluate.log_loss(p, right) < evaluate.log_loss(raw, right)


def test_a_bend_that_no_logistic_curve_has_is_left_to_isotonic():
    random = np.random.default_rng(4)
    raw = random.random(6000)
    right = random.random(6000) < np.where(raw < 0.5, 0.2, np.where(raw < 0.8, 0.75, 0.8))
    made = calibrate.fit(raw, right)
    assert made.method == "isotonic"
    assert made.log_loss["isotonic"] < min(made.log_loss["platt"], made.log_loss["temperature"])


@pytest.mark.parametrize(("lines", "wrong"), [(499, 120), (2000, 49)])
def test_isotonic_takes_no_part_with_few_lines_or_few_errors(lines, wrong):
    raw = np.linspace(0.3, 0.99, lines)
    right = np.ones(lines, dtype=bool)
    right[np.linspace(0, lines - 1, wrong).astype(int)] = False
    assert "isotonic" not in calibrate.fit(raw, right).log_loss


def test_without_fifty_lines_there_is_no_calibrated_probability():
    made = calibrate.fit(*drawn(49, seed=1))
    assert made.method == "none"
    assert "49 lines" in made.reason
    assert np.isnan(calibrate.apply(made.parameters, [0.1, 0.9])).all()


def test_certainty_is_clipped_to_what_n_lines_can_give():
    raw, right = drawn(998, seed=5)
    p = calibrate.apply(calibrate.fit(raw, right).parameters, [0.0, 1.0])
    assert (p >= 1 / 1000).all()
    assert (p <= 1 - 1 / 1000).all()


def test_parameters_survive_json():
    raw, right = drawn(3000, seed=6)
    shared = calibrate.fit(raw, right)
    for made in (shared, calibrate.shrunk(calibrate.fit(raw[:200], right[:200]), shared)):
        again = json.loads(json.dumps(made.parameters))
        assert np.array_equal(calibrate.apply(again, raw), calibrate.apply(made.parameters, raw))


@settings(max_examples=40, deadline=None)
@given(st.integers(50, 900), st.integers(0, 1000), st.sampled_from(["isotonic", "platt", "temperature"]))
def test_a_higher_raw_probability_never_gives_a_lower_calibrated_one(lines, seed, method):
    raw, right = drawn(lines, seed)
    right = right if seed % 3 else ~right  # even where the model is worse than guessing
    parameters = calibrate._fitted(method, np.round(raw, 2), right.astype(float), np.ones(lines))
    assert np.diff(calibrate.apply(parameters, np.linspace(0, 1, 2001))).min() >= -1e-12


def test_isotonic_keeps_lines_apart_that_plain_steps_would_tie():
    random = np.random.default_rng(7)
    raw = random.random(2000)
    parameters = calibrate._fitted("isotonic", raw, (random.random(2000) < raw).astype(float), np.ones(2000))
    inner = np.linspace(0.2, 0.8, 500)
    assert len(np.unique(calibrate.apply(parameters, inner))) > 450


def test_a_tenant_is_drawn_to_the_shared_map_the_more_the_fewer_lines_it_has():
    raw, right = drawn(4000, seed=8)
    shared = calibrate.fit(raw, right)
    own_raw, own_right = drawn(2000, seed=9, temperature=6)

    def distance(lines: int) -> float:
        made = calibrate.shrunk(calibrate.fit(own_raw[:lines], own_right[:lines]), shared)
        return float(
            abs(calibrate.apply(made.parameters, [0.95]) - calibrate.apply(shared.parameters, [0.95]))[0]
        )

    assert distance(20) == 0 < distance(100) < distance(2000)


def test_without_own_lines_the_shared_map_holds_and_without_both_none():
    nothing = calibrate.fit([], [])
    shared = calibrate.fit(*drawn(3000, seed=10))
    assert calibrate.shrunk(nothing, shared).parameters == shared.parameters
    assert calibrate.shrunk(nothing, nothing).method == "none"


def test_the_method_is_chosen_on_lines_it_was_not_fitted_on():
    """The last third contradicts the rest: what was learnt of it may not be what is judged by it."""
    raw = np.tile(np.linspace(0.05, 0.95, 100), 30)
    random = np.random.default_rng(11)
    right = np.where(np.arange(3000) < 2000, random.random(3000) < raw, random.random(3000) < 0.5)
    made = calibrate.fit(raw, right)
    assert made.log_loss["isotonic"] > made.log_loss["raw"]


def test_what_changed_from_the_last_map_is_told():
    before, after = calibrate.fit(*drawn(2000, seed=12)), calibrate.fit(*drawn(2000, seed=13, temperature=4))
    change = calibrate.compare(before.parameters, after.parameters, drawn(100, seed=14)[0])
    assert abs(change.largest) > 0.05
    assert 0 < change.mean <= abs(change.largest)
    assert calibrate.compare(before.parameters, before.parameters, [0.5]).largest == 0


def test_newer_labels_weigh_more():
    at = datetime(2026, 1, 31, tzinfo=UTC)
    decided = pd.Series(pd.to_datetime(["2026-01-31", "2026-01-21"], utc=True))
    assert calibrate.half_life(decided, at=at, days=10).tolist() == [1.0, 0.5]


def test_only_predictions_logged_before_their_label_are_in_the_window():
    at = datetime(2026, 4, 1, 6, tzinfo=UTC)
    rows = [
        ("good", "2026-02-01", "2026-03-01", "a"),
        ("too old", "2025-12-31", "2026-03-01", "a"),
        ("labelled first", "2026-03-02", "2026-03-01", "a"),
        ("not labelled", "2026-03-01", None, None),
        ("labelled later", "2026-03-01", "2026-04-02", "a"),
    ]
    logged = pd.DataFrame(rows, columns=["txn", "decided_at", "labelled_at", "account"])
    logged = logged.assign(raw_p=0.9, post_date="2026-01-01")
    for column in ("decided_at", "labelled_at"):
        logged[column] = pd.to_datetime(logged[column], utc=True)
    assert calibrate.window(logged, at=at)["txn"].tolist() == ["good"]
