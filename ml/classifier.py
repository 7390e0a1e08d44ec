"""The account of a bank line, with a probability: memories pooled log-linearly, corrected by a linear model.

A model is made of the labels that were known before an instant and of nothing else. Whether its probabilities hold is
found out by `calibrate`, what may be done with them by `certify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml import features, linear, model_file, pooling
from ml.features import Keys
from ml.linear import Linear
from ml.memory import Chain, Diary, Level, Memory
from ml.pooling import Floats

TOP = 3
_CHUNK = 16384  # lines that are scored at once; bounds memory
_KNOWN_CARD, _KNOWN_TENANT = ("card", "vendor"), ("tenant", "vendor")
_REGIMES = 3  # the vendor is known to the card, to its tenant, to neither


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is learnt and how. Months are of line dates."""

    chains: tuple[Chain, ...]
    pool_months: int
    linear_half_life_days: float
    epochs: int
    seed: int


def _chain(name: str, half_life_days: float, *levels: tuple[str, float]) -> Chain:
    coarse = (Level(("all",), 1), Level(("tenant",), 5))
    return Chain(
        name, half_life_days, (*coarse, *(Level(tuple(keys.split()), strength) for keys, strength in levels))
    )


_VENDOR = (("prefix", 5), ("stem", 3), ("vendor", 2), ("tenant vendor", 2))
_CARD_VENDOR = (("card prefix", 1), ("card stem", 1), ("card vendor", 0.5))
RECIPE = Recipe(
    chains=(
        _chain("vendor", 500, ("card", 5), *_VENDOR, *_CARD_VENDOR),
        _chain("card", 120, *_VENDOR, ("card", 5), *_CARD_VENDOR),
        _chain(
            "size", 180, ("band", 50), ("tenant band", 20), ("card", 5), ("card band", 3), ("card prefix band", 1),
            ("card vendor band", 1),
        ),
        _chain(
            "amount", 240, ("prefix", 5), ("vendor", 2), ("vendor band", 3), ("vendor amount", 1),
            ("tenant vendor amount", 1), ("card amount", 1), ("card vendor amount", 0.5),
        ),
    ),
    pool_months=4,
    linear_half_life_days=1000,
    epochs=1,
    seed=20180701,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scores:
    """Of each line, in its order: the likeliest `account` (None when no label is known at all), its raw probability `p`,
    the three likeliest with theirs, whether no label of the vendor was known to its tenant, what memory alone said of the
    account and what the linear model added (`sources`, log probabilities as plain numbers), and a hash of what was seen
    of the line.
    """

    account: NDArray[Any]
    p: NDArray[np.float64]
    top: list[tuple[tuple[str, float], ...]]
    is_new_vendor: NDArray[np.bool_]
    sources: list[dict[str, float]]
    feature_hash: list[str]


@dataclass(frozen=True)
class Model:
    """Frozen knowledge of one instant; `version` is made of its content."""

    accounts: tuple[str, ...]
    memory: Memory
    weights: NDArray[np.float64]
    linear: Linear
    trained_before: datetime
    labels: int
    version: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", model_file.digest(self)[:16])

    def score(self, frame: pd.DataFrame) -> Scores:
        """Says of each line what it is; labels in the frame are not looked at."""
        parts = [
            self._scored(frame.iloc[begin : begin + _CHUNK]) for begin in range(0, max(1, len(frame)), _CHUNK)
        ]
        return Scores(
            np.concatenate([part.account for part in parts]),
            np.concatenate([part.p for part in parts]),
            [line for part in parts for line in part.top],
            np.concatenate([part.is_new_vendor for part in parts]),
            [line for part in parts for line in part.sources],
            [line for part in parts for line in part.feature_hash],
        )

    def save(self, folder: Path) -> Path:
        """Writes the model into a file that is named after its version; the same model gives the same bytes."""
        return model_file.write(self, folder)

    def _opinion(self, frame: pd.DataFrame, found: Keys) -> tuple[Floats, Floats]:
        regime = _regime(self.memory.knows(found, _KNOWN_CARD), self.memory.knows(found, _KNOWN_TENANT))
        remembered = pooling.pooled(self.memory.look(found), self.weights, regime)
        shift = self.linear.shift(features.columns(frame, found))
        return remembered, pooling.log_softmax(remembered + shift)

    def _scored(self, frame: pd.DataFrame) -> Scores:
        found = features.keys(frame)
        lines, is_new = len(frame), ~self.memory.knows(found, _KNOWN_TENANT)
        hashes = [f"{value:016x}" for value in features.combined(found, tuple(found))]
        if not self.accounts or not lines:
            nobody = np.full(lines, None, dtype=object)
            return Scores(nobody, np.zeros(lines), [()] * lines, is_new, [{}] * lines, hashes)
        remembered, log_p = self._opinion(frame, found)
        best = _largest(log_p, TOP)
        p = np.exp(np.take_along_axis(log_p, best, axis=1).astype(np.float64))
        names = np.array(self.accounts, dtype=object)[best]
        before = np.take_along_axis(remembered, best[:, :1], axis=1)[:, 0].astype(np.float64)
        added = np.log(p[:, 0]) - before
        return Scores(
            names[:, 0],
            p[:, 0],
            list(
                zip(
                    *(
                        zip(names[:, at].tolist(), p[:, at].tolist(), strict=True)
                        for at in range(names.shape[1])
                    ),
                    strict=True,
                )
            ),
            is_new,
            [
                {"memory": memory, "linear": linear_}
                for memory, linear_ in zip(before.round(4).tolist(), added.round(4).tolist(), strict=True)
            ],
            hashes,
        )


def fit(frame: pd.DataFrame, *, before: datetime, recipe: Recipe = RECIPE) -> Model:
    """A model of the lines whose label was known before an instant; the order of the lines does not matter.

    Memories are weighed and corrected on what they said of each month when they knew the months before it, so that
    nothing is learnt from an opinion which knew the label.
    """
    known = frame[frame["account"].notna() & (frame["labelled_at"] < pd.Timestamp(before))]
    known = known.sort_values(["post_date", "tenant", "txn"], kind="stable")
    accounts, codes = _coded(known["account"])
    found = features.keys(known)
    days = _days(known["post_date"])
    diary = Diary(recipe.chains, found, codes, days, len(accounts))
    read = list(_reread(diary, days))
    weights = _weights(recipe, read, codes)
    corrected = linear.nothing(len(accounts))
    if read:
        at = np.concatenate([month.lines for month in read])
        offset = np.concatenate([pooling.pooled(month.opinions, weights, month.regime) for month in read])
        age = np.exp2((days[at] - days[-1]) / recipe.linear_half_life_days)
        lines = features.columns(known.iloc[at], {name: hashes[at] for name, hashes in found.items()})
        corrected = linear.fit(lines, codes[at], age, offset, epochs=recipe.epochs, seed=recipe.seed)
    diary.move(_day(before))
    return Model(accounts, diary.memory(), weights, corrected, before, len(known))


def load(path: Path) -> Model:
    """Raises ValueError when the content is not what the name of the file says."""
    model = Model(**model_file.read(path))
    if model.version != path.stem:
        raise ValueError(
            f"{path.name}: the content is that of {model.version}; take the file from where it was made"
        )
    return model


@dataclass(frozen=True, slots=True)
class _Month:
    """What was thought of a month's lines before it was learnt. Opinions in half precision: there are many."""

    lines: NDArray[np.int64]
    opinions: list[NDArray[np.float16]]
    regime: NDArray[np.int64]


def _reread(diary: Diary, days: NDArray[np.float64]) -> Iterator[_Month]:
    """Every month but the first; at the end all of them are learnt."""
    for number, (end, lines) in enumerate(_months(days)):
        if number:
            regime = _regime(diary.knows(lines, _KNOWN_CARD), diary.knows(lines, _KNOWN_TENANT))
            yield _Month(lines, [opinion.astype(np.float16) for opinion in diary.look(lines)], regime)
        diary.move(end)
        diary.learn(lines)


def _weights(recipe: Recipe, read: list[_Month], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    newest = read[-recipe.pool_months :]
    if not newest:
        return np.full((_REGIMES, len(recipe.chains)), 1 / len(recipe.chains))
    opinions = [
        np.concatenate(of_chain) for of_chain in zip(*(month.opinions for month in newest), strict=True)
    ]
    lines, regime = (
        np.concatenate([getattr(month, name) for month in newest]) for name in ("lines", "regime")
    )
    return pooling.fit(opinions, codes[lines], regime, _REGIMES)


def _months(days: NDArray[np.float64]) -> Iterator[tuple[float, NDArray[np.int64]]]:
    """The end of each month (as a day number) and its lines."""
    month = days.astype("datetime64[D]").astype("datetime64[M]")
    for each in np.unique(month):
        yield float((each + 1).astype("datetime64[D]").astype(int)), np.flatnonzero(month == each)


def _regime(card: NDArray[np.bool_], tenant: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(card, 0, np.where(tenant, 1, 2))


def _coded(accounts: pd.Series) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    codes, names = pd.factorize(accounts, sort=True)
    return tuple(str(name) for name in names), codes.astype(np.int64)


def _days(dates: pd.Series) -> NDArray[np.float64]:
    return pd.to_datetime(dates).to_numpy().astype("datetime64[D]").astype(np.float64)


def _day(instant: datetime) -> float:
    return pd.Timestamp(instant).timestamp() / 86400


def _largest(log_p: Floats, count: int) -> NDArray[np.int64]:
    """Columns of the greatest values of each row, the greatest first; of equal ones the first column."""
    count = min(count, log_p.shape[1])
    some = np.sort(np.argpartition(-log_p, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(log_p, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)
