"""Which bank line stands for which entry, by amount, day and words. What is equally likely is told, never chosen.

Where lines and entries come from, and what people match by hand, stands in `reconcile`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from typing import Literal
from uuid import UUID

# A transfer over a weekend is booked three days before it is seen.
MOST_DAYS = 3
# Texts that share no word weigh as much as so many days.
_WORDS_WEIGH = 3
# Lines and entries of one amount. Where there are more, only those of the very same text are paired.
_MOST_COMPARED = 200_000
_Edge = tuple[float, int, "_Class", "_Class"]  # what speaks against it, days, line, entry
_WORD = re.compile(r"[^\W_]{2,}")


@dataclass(frozen=True)
class Side:
    """A bank line, or what an entry says of the bank's account: the amount as the holder of the account sees it.

    `alike`: what else must be the same for two of a day, amount and text to be the same to a reader.
    """

    id: UUID
    on: date
    amount_minor: int
    text: str
    alike: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    line_id: UUID
    entry_id: UUID
    kind: Literal["exact", "heuristic"]
    score: Decimal


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """Lines and entries that could be paired in several ways of the same likelihood."""

    line_ids: tuple[UUID, ...]
    entry_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    pairs: tuple[Pair, ...]
    ambiguous: tuple[Ambiguity, ...]


def score(days: int) -> Decimal | None:
    """1 on the same day, less a sixth for each day between; None beyond MOST_DAYS."""
    return round(1 - Decimal(days) / 6, 3) if days <= MOST_DAYS else None


def match(lines: Iterable[Side], entries: Iterable[Side]) -> Matched:
    """Pairs each line with one entry of the same amount and sign: those of a day first, then those that are days apart.

    Lines that nothing tells apart are one to choose among, and so are entries: which of two equal lines stands for an
    entry is no question. Everything is of one account and one currency.
    """
    pairs: list[Pair] = []
    ambiguous: list[Ambiguity] = []
    by_amount: dict[int, tuple[list[Side], list[Side]]] = defaultdict(lambda: ([], []))
    for place, sides in enumerate((lines, entries)):
        for side in sides:
            by_amount[side.amount_minor][place].append(side)
    for _, (of_lines, of_entries) in sorted(by_amount.items()):
        if of_lines and of_entries:
            _Amount(_classes(of_lines), _classes(of_entries), pairs, ambiguous).work()
    return Matched(tuple(pairs), tuple(ambiguous))


@dataclass(eq=False)
class _Class:
    """Sides that nothing tells apart; `left` are those without a partner."""

    on: date
    text: str
    left: list[UUID]
    is_ambiguous: bool = False

    @cached_property
    def words(self) -> frozenset[str]:
        return frozenset(_WORD.findall(self.text.casefold()))

    @property
    def is_open(self) -> bool:
        return bool(self.left) and not self.is_ambiguous


def _classes(sides: Iterable[Side]) -> list[_Class]:
    def same(side: Side) -> tuple[date, str, str]:
        return side.on, side.text, side.alike

    ordered = sorted(sides, key=lambda side: (*same(side), side.id.bytes))
    return [_Class(key[0], key[1], [side.id for side in of]) for key, of in groupby(ordered, same)]


@dataclass
class _Amount:
    """Lines and entries of one amount."""

    lines: Sequence[_Class]
    entries: Sequence[_Class]
    pairs: list[Pair]
    ambiguous: list[Ambiguity]
    is_crowded: bool = False

    def work(self) -> None:
        for days in (range(1), range(1, MOST_DAYS + 1)):
            edges = sorted(self._near(days), key=lambda edge: edge[0])
            for _, of_cost in groupby(edges, lambda edge: edge[0]):
                for component in _components(
                    [edge for edge in of_cost if edge[2].is_open and edge[3].is_open]
                ):
                    self._settle(component)
        left = [each for each in self.lines if each.is_open], [each for each in self.entries if each.is_open]
        if self.is_crowded and all(left):
            self._tell(*left)

    def _near(self, days: range) -> Iterator[_Edge]:
        """Lines and entries that are so many days apart, each with what speaks against it."""
        on_day: dict[date, list[_Class]] = defaultdict(list)
        for entry in self.entries:
            if entry.is_open:
                on_day[entry.on].append(entry)
        apart = sorted({sign * each for each in days for sign in (-1, 1)})
        near = [
            (abs(each), line, on_day[on])
            for line in self.lines
            if line.is_open
            for each in apart
            if (on := line.on + timedelta(each)) in on_day
        ]
        if sum(len(of_day) for _, _, of_day in near) > _MOST_COMPARED:
            self.is_crowded = True
            by_text = {on: _by_text(of_day) for on, of_day in on_day.items()}
            near = [(each, line, by_text[of_day[0].on].get(line.text, [])) for each, line, of_day in near]
        for each, line, of_day in near:
            for entry in of_day:
                # To a tenth: less than that is no reason to prefer one to the other.
                yield round(each + _WORDS_WEIGH * _unlike(line, entry), 1), each, line, entry

    def _settle(self, component: Sequence[_Edge]) -> None:
        """Pairs what hangs together at one cost, where it can be paired in one way only."""
        lines = {id(edge[2]): edge[2] for edge in component}
        entries = {id(edge[3]): edge[3] for edge in component}
        # Around one class of equals, enough of them for all others, everything has a partner whoever is taken.
        has_enough = (len(lines) == 1 and _count(lines) >= _count(entries)) or (
            len(entries) == 1 and _count(entries) >= _count(lines)
        )
        if not has_enough and not (len(lines) == len(entries) == 1):
            self._tell(lines.values(), entries.values())
            return
        for _, days, line, entry in component:
            while line.left and entry.left:
                self.pairs.append(
                    Pair(line.left.pop(0), entry.left.pop(0), "heuristic" if days else "exact", score(days) or Decimal(0))
                )  # fmt: skip

    def _tell(self, lines: Iterable[_Class], entries: Iterable[_Class]) -> None:
        told = []
        for classes in (lines, entries):
            told.append(tuple(each for of in classes for each in of.left))
            for each in classes:
                each.is_ambiguous = True
        self.ambiguous.append(Ambiguity(*told))


def _by_text(classes: Iterable[_Class]) -> dict[str, list[_Class]]:
    found: dict[str, list[_Class]] = defaultdict(list)
    for each in classes:
        found[each.text].append(each)
    return found


def _count(classes: dict[int, _Class]) -> int:
    return sum(len(each.left) for each in classes.values())


def _unlike(line: _Class, entry: _Class) -> float:
    """How few of the words of the shorter text the other one has: 0 all, 1 none."""
    least = min(len(line.words), len(entry.words))
    return 1 - len(line.words & entry.words) / least if least else 1.0


def _components(
    edges: Sequence[_Edge],
) -> list[list[_Edge]]:
    """Edges that hang together, in the order of their first."""
    root: dict[int, int] = {}

    def find(node: int) -> int:
        while root.setdefault(node, node) != node:
            root[node] = node = root[root[node]]
        return node

    for _, _, line, entry in edges:
        root[find(id(line))] = find(id(entry))
    found: dict[int, list[_Edge]] = {}
    for edge in edges:
        found.setdefault(find(id(edge[2])), []).append(edge)
    return list(found.values())
