"""Several opinions made one: a log-linear pool, p(account) proportional to the product of opinion ** weight.

Weights come from opinions that were formed before the label was known. Opinions themselves stand in `memory` and `linear`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float32]

_TO_EVEN = 1e-3  # pull of each weight towards an even share: what holds while there is little to learn from
_ROUNDS = 60


def pooled(opinions: Sequence[Floats], weights: NDArray[np.float64], regime: NDArray[np.int64]) -> Floats:
    """Log probabilities (lines, accounts) of the pool. `weights` has a row per regime and a column per opinion."""
    z = np.zeros(opinions[0].shape, dtype=np.float32)
    for number, opinion in enumerate(opinions):
        z += weights[regime, number].astype(np.float32)[:, None] * opinion
    return log_softmax(z)


def fit(
    opinions: Sequence[Floats], accounts: NDArray[np.int64], regime: NDArray[np.int64], regimes: int
) -> NDArray[np.float64]:
    """Weights (regimes, opinions) of the greatest likelihood, by L-BFGS; an even share where there are no lines.

    Args:
        opinions: log probabilities (lines, accounts) of each opinion.
        accounts: of each line the column of its label.
        regime: of each line a number below `regimes`; each has weights of its own, drawn towards an even share.
    """
    count, lines = len(opinions), len(accounts)
    even = np.full((regimes, count), 1 / count)
    if not lines:
        return even
    every = np.arange(lines)
    stacked = np.stack(opinions, axis=1).astype(np.float32)
    of_label = stacked[every, :, accounts]
    of_regime = np.zeros((lines, regimes), dtype=np.float32)
    of_regime[every, regime] = 1

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(regimes, count)
        mine = weights[regime].astype(np.float32)
        log_p = log_softmax(np.matmul(mine[:, None, :], stacked)[:, 0])
        wrong = np.matmul(stacked, np.exp(log_p)[:, :, None])[:, :, 0] - of_label
        slope = of_regime.T @ wrong / lines + 2 * _TO_EVEN * (weights - even)
        value = -log_p[every, accounts].mean() + _TO_EVEN * ((weights - even) ** 2).sum()
        return float(value), slope.astype(np.float64).ravel()

    found = minimize(loss, even.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ROUNDS})
    return found.x.reshape(regimes, count)


def log_softmax(z: Floats) -> Floats:
    """Of each row, in place where it can be."""
    z -= z.max(axis=1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    return z
