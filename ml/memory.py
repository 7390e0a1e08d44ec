"""What was booked for lines like this one before: decayed counts by card, vendor and amount, backed off to coarser keys.

Each chain is a hierarchy of Dirichlet priors: the distribution of a finer key is drawn towards that of the coarser one
before it (interpolated absolute discounting; Chen & Goodman 1999, Teh 2006). Weighing chains against each other stands in
`pooling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ml.features import Hashes, Keys, combined

Floats = NDArray[np.float32]

DISCOUNT = 0.5  # taken from each count of at least one, given to the coarser level
_ALIKE = 8  # as many lines must share a coarse distribution for it to be worked out once
_FORGOTTEN = 1e-3  # counts below it are dropped from what is kept


@dataclass(frozen=True, slots=True)
class Level:
    """Lines that agree in these keys; the coarser level weighs as much as `strength` of their labels."""

    keys: tuple[str, ...]
    strength: float


@dataclass(frozen=True, slots=True)
class Chain:
    """Levels from coarse to fine. A label's weight halves every `half_life_days` after the line's date."""

    name: str
    half_life_days: float
    levels: tuple[Level, ...]


Name = tuple[tuple[str, ...], float]  # of a table: its keys and its half-life
Place = tuple[sparse.csr_array, NDArray[np.int64]]  # a table's counts, and of each line its row there


@dataclass(frozen=True, slots=True)
class Table:
    """`groups`: sorted hashes of the keys; `counts`: a row per group and an empty one behind for unknown groups, a column
    per account."""

    groups: Hashes
    counts: sparse.csr_array

    def rows(self, wanted: Hashes) -> NDArray[np.int64]:
        at = np.searchsorted(self.groups, wanted)
        at[at == len(self.groups)] = 0
        known = self.groups[at] == wanted if len(self.groups) else np.zeros(len(wanted), dtype=bool)
        return np.where(known, at, len(self.groups))


@dataclass(frozen=True, slots=True)
class Memory:
    """Counts as they stand at one day."""

    chains: tuple[Chain, ...]
    tables: Mapping[Name, Table]

    def look(self, found: Keys) -> list[Floats]:
        """Of each chain the log probabilities, a row per line, a column per account."""
        hashes = {keys: combined(found, keys) for keys, _ in self.tables}
        places = {name: (table.counts, table.rows(hashes[name[0]])) for name, table in self.tables.items()}
        return [_log_probabilities(chain, places) for chain in self.chains]

    def knows(self, found: Keys, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """Whether there is a label of a line that agrees in these keys."""
        table = next(table for (names_, _), table in self.tables.items() if names_ == names)
        return table.rows(combined(found, names)) < len(table.groups)


class Diary:
    """Counts of a growing history, so that each month can be predicted from the months before it."""

    def __init__(
        self,
        chains: Sequence[Chain],
        found: Keys,
        accounts: NDArray[np.int64],
        days: NDArray[np.float64],
        width: int,
    ) -> None:
        """Of each line its keys, its account (0 to width - 1) and its date as a day number. Nothing is learnt yet."""
        self._chains, self._accounts, self._days, self._width = tuple(chains), accounts, days, width
        self._groups, self._codes = {}, {}
        self._counts: dict[Name, sparse.csr_array] = {}
        self._day = 0.0
        for name in _tables(chains):
            if name[0] not in self._codes:
                self._groups[name[0]], self._codes[name[0]] = np.unique(
                    combined(found, name[0]), return_inverse=True
                )
            self._counts[name] = self._empty(name)

    def move(self, day: float) -> None:
        """On to a later day: what is known weighs less."""
        passed, self._day = day - self._day, day
        for (_, half_life), counts in self._counts.items():
            counts.data *= np.float32(np.exp2(-passed / half_life))

    def learn(self, lines: NDArray[np.int64]) -> None:
        """Adds lines of the history; of those dated after the day it has come to each weighs more than one."""
        for name, counts in self._counts.items():
            weight = np.exp2((self._days[lines] - self._day) / name[1]).astype(np.float32)
            where = self._codes[name[0]][lines], self._accounts[lines]
            self._counts[name] = counts + sparse.csr_array((weight, where), shape=counts.shape)

    def look(self, lines: NDArray[np.int64]) -> list[Floats]:
        """As Memory.look, of lines of the history that were not learnt yet."""
        places = {name: (counts, self._codes[name[0]][lines]) for name, counts in self._counts.items()}
        return [_log_probabilities(chain, places) for chain in self._chains]

    def knows(self, lines: NDArray[np.int64], names: tuple[str, ...]) -> NDArray[np.bool_]:
        counts = next(counts for (names_, _), counts in self._counts.items() if names_ == names)
        return np.diff(counts.indptr)[self._codes[names][lines]] > 0

    def memory(self) -> Memory:
        """What is known now, without what is as good as forgotten."""
        tables = {}
        for name, counts in self._counts.items():
            counts = counts.copy()
            counts.data[counts.data < _FORGOTTEN] = 0
            counts.eliminate_zeros()
            kept = np.flatnonzero(np.diff(counts.indptr))
            indptr = np.concatenate([[0], np.cumsum(np.diff(counts.indptr)[kept]), [counts.nnz]])
            entries = counts.data, counts.indices, indptr
            table = sparse.csr_array(entries, shape=(len(kept) + 1, self._width))
            tables[name] = Table(self._groups[name[0]][kept], table)
        return Memory(self._chains, tables)

    def _empty(self, name: Name) -> sparse.csr_array:
        return sparse.csr_array((len(self._groups[name[0]]), self._width), dtype=np.float32)


def _tables(chains: Sequence[Chain]) -> dict[Name, None]:
    return {(level.keys, chain.half_life_days): None for chain in chains for level in chain.levels}


def _log_probabilities(chain: Chain, places: Mapping[Name, Place]) -> Floats:
    """Lines that are the same to the coarse levels are worked out once; to the fine levels hardly two lines are the same,
    but their counts are few."""
    found = [places[level.keys, chain.half_life_days] for level in chain.levels]
    lines, width = len(found[0][1]), found[0][0].shape[1]
    p = np.full((1, width), 1 / width, dtype=np.float32)
    code, done = np.zeros(lines, dtype=np.int64), 0
    for level, (counts, rows) in zip(chain.levels, found, strict=True):
        joint, first, inverse = np.unique(
            code * counts.shape[0] + rows, return_index=True, return_inverse=True
        )
        if len(joint) * _ALIKE > lines:
            break
        p = _mixed(p, code[first], [(level, counts[rows[first]])])
        code, done = inverse, done + 1
    fine = [(level, counts[rows]) for level, (counts, rows) in zip(chain.levels, found, strict=True)][done:]
    return np.log(_mixed(p, code, fine))


def _mixed(p: Floats, code: NDArray[np.int64], levels: Sequence[tuple[Level, sparse.csr_array]]) -> Floats:
    """The distribution of each line: of `p` the row `code`, refined by the counts of levels from coarse to fine.

    The finest comes first: what it leaves of a line's probability is the share of the levels before it.
    """
    lines = len(code)
    left, shares = np.ones(lines, dtype=np.float32), []
    for level, counts in reversed(levels):
        at = np.repeat(np.arange(lines), np.diff(counts.indptr))
        total = np.bincount(at, weights=counts.data, minlength=lines).astype(np.float32)
        taken = DISCOUNT * np.minimum(1, counts.data)
        given = np.bincount(at, weights=taken, minlength=lines).astype(np.float32)
        whole = total + np.float32(level.strength)
        shares.append((at, counts.indices, (counts.data - taken) * (left / whole)[at]))
        left = left * (given + np.float32(level.strength)) / whole
    mixed = p[code]
    mixed *= left[:, None]
    flat = mixed.reshape(-1)
    for at, column, value in shares:
        # No column comes twice in a row of one level.
        flat[at * p.shape[1] + column] += value
    return mixed
