"""What words, cards and amounts say beyond an opinion that is there already: a sparse multinomial logistic regression.

The opinion enters as an offset, so that weights only learn where it was wrong. Features stand in `features`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ml.pooling import Floats, log_softmax

_BATCH = 512
_RATE = 0.1
_EASE = 1e-2  # added to the root of the summed squares, so that first steps are not huge
_NEGLIGIBLE = 0.01  # weights below it are dropped


@dataclass(frozen=True, slots=True)
class Linear:
    """`weights` has a row per feature column that was ever seen and a column per account; `columns` are those, sorted."""

    columns: NDArray[np.int32]
    weights: Floats

    def shift(self, features: sparse.csr_array) -> Floats:
        """What is added to log probabilities (lines, accounts)."""
        place = np.full(features.shape[1], -1, dtype=np.int32)
        place[self.columns] = np.arange(len(self.columns), dtype=np.int32)
        at = place[features.indices]
        known = at >= 0
        kept = np.concatenate([[0], np.cumsum(known)])[features.indptr]
        entries = features.data[known], at[known], kept
        return sparse.csr_array(entries, shape=(features.shape[0], len(self.columns))) @ self.weights


def nothing(width: int) -> Linear:
    """Of so many accounts: it adds nothing to any."""
    return Linear(np.empty(0, dtype=np.int32), np.empty((0, width), dtype=np.float32))


def fit(
    features: sparse.csr_array,
    accounts: NDArray[np.int64],
    weight: NDArray[np.float64],
    offset: Floats,
    *,
    epochs: int,
    seed: int,
) -> Linear:
    """Weights by minibatch AdaGrad (Duchi et al. 2011, one rate per feature), which stops after few epochs instead of
    shrinking. The same arguments give the same weights.

    Args:
        features: (lines, columns) as `features.columns` gives them.
        accounts: of each line the column of its label in `offset`.
        weight: of each line, at least 0.
        offset: log probabilities (lines, accounts) that were formed without the line's label.
    """
    seen, narrow = np.unique(features.indices, return_inverse=True)
    entries = features.data, narrow.astype(np.int32), features.indptr
    lines = sparse.csr_array(entries, shape=(features.shape[0], len(seen)))
    weights = np.zeros((len(seen), offset.shape[1]), dtype=np.float32)
    squares = np.zeros((len(seen), 1), dtype=np.float32)
    share = (weight / max(weight.mean(), 1e-12)).astype(np.float32) if len(weight) else weight
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(accounts))
        for begin in range(0, len(order), _BATCH):
            _step(lines, accounts, share, offset, order[begin : begin + _BATCH], weights, squares)
    weights[np.abs(weights) < _NEGLIGIBLE] = 0
    # Half the digits are enough, and what is kept on disk is what is used.
    return Linear(seen.astype(np.int32), weights.astype(np.float16).astype(np.float32))


def _step(
    lines: sparse.csr_array,
    accounts: NDArray[np.int64],
    share: Floats,
    offset: Floats,
    batch: NDArray[np.int64],
    weights: Floats,
    squares: Floats,
) -> None:
    rows = lines[batch]
    touched, narrow = np.unique(rows.indices, return_inverse=True)
    rows = sparse.csr_array((rows.data, narrow, rows.indptr), shape=(len(batch), len(touched)))
    here = weights[touched]
    wrong = np.exp(log_softmax(rows @ here + offset[batch]))
    wrong[np.arange(len(batch)), accounts[batch]] -= 1
    wrong *= share[batch][:, None]
    slope = rows.T @ wrong
    squares[touched] += (slope * slope).sum(axis=1, keepdims=True)
    weights[touched] = here - _RATE * slope / (np.sqrt(squares[touched]) + _EASE)
