"""Whether a statement adds up: opening balance, lines and closing balance, and the balances that lines carry.

The order of lines within a day proves nothing: banks sort them as they like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from kernel.books.ingest.statement import Line, Problem, Statement
from kernel.money import major


@dataclass(frozen=True, slots=True)
class TieOut:
    """`off_minor` is the closing balance less the opening one and the lines; None unless the state is `off`."""

    state: Literal["tied", "off", "unknown"]
    opening_minor: int | None
    closing_minor: int | None
    off_minor: int | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """Between two balances of the file money moved that no line tells of."""

    number: int
    before: int
    expected: int


@dataclass(frozen=True, slots=True)
class Chain:
    """The balances of the lines, from the first to the last, and where one does not follow from another."""

    opening: int
    closing: int
    breaks: tuple[Break, ...]


def tie_out(statement: Statement, lines: Sequence[Line]) -> TieOut:
    """By the balances that the file names, else by those of its lines; `lines` are the statement's, each once."""
    if statement.opening_minor is not None and statement.closing_minor is not None:
        opening, closing = statement.opening_minor, statement.closing_minor
        off = closing - opening - sum(line.amount_minor for line in lines)
        return _told(
            statement, opening, closing, off, "the lines do not lead from the opening to the closing balance"
        )
    found = chain(lines)
    if found is None:
        return TieOut("unknown", statement.opening_minor, statement.closing_minor)
    if not found.breaks:
        return TieOut("tied", found.opening, found.closing)
    first = found.breaks[0]
    off = found.closing - found.opening - sum(line.amount_minor for line in lines)
    told = (
        f"the balance before it is {major(first.before, statement.currency)}, and the lines before lead to"
        f" {major(first.expected, statement.currency)}"
    )
    # What is missing at one place may be made up for at another: the sum is then right, the file is not.
    off = off or first.before - first.expected
    return _told(statement, found.opening, found.closing, off, told, f"line {first.number}")


def _told(statement: Statement, opening: int, closing: int, off: int, told: str, where: str = "") -> TieOut:
    if not off:
        return TieOut("tied", opening, closing)
    rejected = len(statement.rejected)
    hint = f"repair the {rejected:,} rejected lines" if rejected else "ask the bank for the statement anew"
    amount = f"{major(off, statement.currency)} {statement.currency}"
    problem = Problem("422_RECONCILIATION_FAILED", f"off by {amount}: {told}", hint, where)
    return TieOut("off", opening, closing, off, problem)


def chain(lines: Sequence[Line]) -> Chain | None:
    """The balances of the lines; None when a line carries none."""
    if not lines or any(line.balance_minor is None for line in lines):
        return None
    breaks: list[Break] = []
    opening: int | None = None
    reached: int | None = None  # by the days before
    for _, of_day in groupby(_by_day(lines), key=lambda line: line.post_date):
        day = list(of_day)
        opens, closes = _loose(day)
        if not opens:
            # The day ends as it began, at a balance that it cannot tell by itself.
            if reached is not None and all(_balance(line) != reached for line in day):
                breaks.append(Break(day[0].number, _before(day[0]), reached))
                reached = _balance(day[-1])
            continue
        begins = reached if reached in opens else next(iter(opens))
        if reached is not None and begins != reached:
            breaks.append(Break(_number(day, begins), begins, reached))
        opening = begins if opening is None else opening
        reached = next(_balance(line) for line in reversed(day) if _balance(line) in closes)
        breaks += [
            Break(_number(day, before), before, reached) for before in (opens - Counter([begins])).elements()
        ]
    if opening is None or reached is None:
        opening = reached = _balance(lines[-1])
    return Chain(opening, reached, tuple(breaks))


def _by_day(lines: Sequence[Line]) -> list[Line]:
    """Oldest day first; within a day as the file has them, turned where the file begins with the newest."""
    is_newest_first = lines[0].post_date > lines[-1].post_date
    return sorted(reversed(lines) if is_newest_first else lines, key=lambda line: line.post_date)


def _loose(day: list[Line]) -> tuple[Counter[int], Counter[int]]:
    """Balances before lines that are after none of the day, and after lines that are before none."""
    before, after = Counter(map(_before, day)), Counter(map(_balance, day))
    return before - after, after - before


def _balance(line: Line) -> int:
    return line.balance_minor or 0  # of lines that all have one


def _before(line: Line) -> int:
    return _balance(line) - line.amount_minor


def _number(day: list[Line], before: int) -> int:
    return next(line.number for line in day if _before(line) == before)
