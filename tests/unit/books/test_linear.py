from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from ml import linear, pooling

WIDTH = 64


def _lines(columns: list[int]) -> sparse.csr_array:
    ones = np.ones(len(columns), dtype=np.float32), (np.arange(len(columns)), columns)
    return sparse.csr_array(ones, shape=(len(columns), WIDTH))


def _offset(rows: int, p: float) -> np.ndarray:
    return np.log(np.tile([p, 1 - p], (rows, 1))).astype(np.float32)


def _fit(rows: int = 2000, *, seed: int = 1, weight: float = 1.0) -> linear.Linear:
    """Feature 3 goes with account 1, feature 5 with account 0; the offset says account 0 of all."""
    columns, accounts = [3, 5] * (rows // 2), np.array([1, 0] * (rows // 2))
    weights = np.full(rows, weight)
    return linear.fit(_lines(columns), accounts, weights, _offset(rows, 0.6), epochs=20, seed=seed)


def test_a_wrong_opinion_is_corrected_where_a_feature_tells() -> None:
    log_p = pooling.log_softmax(_offset(2, 0.6) + _fit().shift(_lines([3, 5])))
    assert list(log_p.argmax(axis=1)) == [1, 0]


def test_the_same_arguments_give_the_same_weights() -> None:
    assert np.array_equal(_fit().weights, _fit().weights)


def test_only_the_proportion_of_weights_matters() -> None:
    assert np.array_equal(_fit(weight=1.0).weights, _fit(weight=4.0).weights)


def test_a_feature_that_was_never_seen_adds_nothing() -> None:
    assert not _fit().shift(_lines([9])).any()
    assert not linear.nothing(2).shift(_lines([3])).any()


def test_an_opinion_that_is_right_is_hardly_changed() -> None:
    rows = 2000
    accounts = (np.arange(rows) % 10 == 0).astype(np.int64)
    found = linear.fit(_lines([3] * rows), accounts, np.ones(rows), _offset(rows, 0.9), epochs=2, seed=1)
    assert np.abs(found.shift(_lines([3]))).max() < 0.2


def test_the_pool_trusts_whoever_was_right() -> None:
    generator = np.random.default_rng(3)
    accounts = generator.integers(0, 2, 500)
    good = np.where(np.eye(2)[accounts] > 0, np.log(0.8), np.log(0.2)).astype(np.float32)
    bad = np.log(generator.dirichlet([1, 1], 500)).astype(np.float32)
    weights = pooling.fit([good, bad], accounts, np.zeros(500, dtype=np.int64), 2)
    assert weights[0, 0] > 1
    assert abs(weights[0, 1]) < 0.3
    assert weights[1] == pytest.approx([0.5, 0.5], abs=1e-6)  # a regime without lines
