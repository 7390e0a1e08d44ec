"""Roots of rows, and proofs that one row is among them. The tree itself stands in `verify`, which strangers run alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from kernel.usage.verify import Tree, leaf, root_of

_BATCH = 4096  # lines; a tree takes many faster than one


@dataclass(frozen=True, slots=True)
class Proof:
    """That a line is the `index`th of `size`, counted from 0: the hashes beside its branch, from the leaf upwards."""

    index: int
    size: int
    path: tuple[bytes, ...]

    def holds(self, line: bytes, root: bytes) -> bool:
        return root_of(line, self.index, self.size, self.path) == root


def root(lines: Iterable[bytes]) -> bytes:
    """The root over lines without their ends, in O(log n) memory; SHA-256 of nothing when there is none."""
    return _grown(Tree(), lines).root()


def prove(lines: Iterable[bytes], index: int) -> Proof:
    """The proof of the `index`th line from 0, in O(log n) memory. Raises IndexError when there are not so many."""
    tree = Tree()
    tree.watched = index
    _grown(tree, lines)
    if not 0 <= index < tree.size:
        raise IndexError(f"there is no line {index} among {tree.size}")
    return Proof(index, tree.size, tuple(tree.path()))


def _grown(tree: Tree, lines: Iterable[bytes]) -> Tree:
    for batch in _batches(lines):
        tree.add([leaf(line) for line in batch])
    return tree


def _batches(lines: Iterable[bytes]) -> Iterator[Sequence[bytes]]:
    rest = iter(lines)
    while batch := tuple(islice(rest, _BATCH)):
        yield batch
