"""Whatever is tried with entries, in any order: the journal balances, and says what a list of what was posted says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kernel.books import ledger
from kernel.books.ledger import Entry, Line
from kernel.errors import RefusedError
from tests.integration.books import bookkeeping
from tests.integration.books.bookkeeping import CHART

LATER = datetime(2026, 6, 1, tzinfo=UTC)  # every month of the test is over
_CODES = st.sampled_from([code for code, _, _ in CHART])
_AMOUNTS = st.integers(1, 10**12).map(lambda cents: Decimal(cents).scaleb(-2))
_DAYS = st.sampled_from([date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 28)])


class Bookkeeping(RuleBasedStateMachine):
    engine: sa.Engine
    proposals, approved, posted = Bundle("proposals"), Bundle("approved"), Bundle("posted")

    def __init__(self) -> None:
        super().__init__()
        self.books = bookkeeping.books(self.engine)
        self.entries: dict[UUID, Entry] = {}
        self.said: Counter[str] = Counter()
        self.locked: set[str] = set()
        self.live: set[UUID] = set()

    @rule(
        target=proposals,
        on=_DAYS,
        sides=st.lists(st.tuples(_CODES, _AMOUNTS, st.booleans()), max_size=4),
        is_even=st.booleans(),
    )
    def propose(self, on: date, sides: list[tuple[str, Decimal, bool]], is_even: bool) -> UUID:
        lines = [
            Line(code, **{"debit" if is_debit else "credit": amount}) for code, amount, is_debit in sides
        ]
        rest = sum((line.debit - line.credit for line in lines), Decimal(0))
        if is_even and rest:
            lines.append(Line("1000", **{"credit" if rest > 0 else "debit": abs(rest)}))
        made = Entry(on, "USD", tuple(lines), id=uuid4())
        self.books.do(ledger.propose, [made])
        self.entries[made.id] = made
        return made.id

    @rule(target=approved, which=consumes(proposals))
    def approve(self, which: UUID) -> UUID:
        lines = self.entries[which].lines
        is_right = len(lines) > 1 and sum(line.debit - line.credit for line in lines) == 0
        try:
            self.books.do(ledger.approve, [which])
            assert is_right
        except RefusedError:
            assert not is_right
        return which

    @rule(target=posted, which=consumes(approved))
    def post(self, which: UUID) -> UUID:
        made = self.entries[which]
        try:
            self.books.do(ledger.post, [which])
        except RefusedError:
            lines = made.lines
            is_right = len(lines) > 1 and sum(line.debit - line.credit for line in lines) == 0
            assert not is_right or f"{made.on:%Y-%m}" in self.locked
            return which
        assert f"{made.on:%Y-%m}" not in self.locked
        self._say(made, 1)
        self.live.add(which)
        return which

    @rule(which=posted, on=_DAYS)
    def reverse(self, which: UUID, on: date) -> None:
        try:
            self.books.do(ledger.reverse, which, on=on, reason="no")
        except RefusedError:
            assert which not in self.live or f"{on:%Y-%m}" in self.locked
            return
        assert which in self.live
        assert f"{on:%Y-%m}" not in self.locked
        self.live.discard(which)
        self._say(self.entries[which], -1)

    @rule(month=st.sampled_from(["2026-01", "2026-02"]))
    def turn_the_key(self, month: str) -> None:
        if month in self.locked:
            self.books.do(ledger.reopen, month, reason="again")
            self.locked.remove(month)
        else:
            self.books.do(ledger.lock, month, at=LATER)
            self.locked.add(month)

    @invariant()
    def the_journal_says_what_was_posted(self) -> None:
        found = self.books.balances()
        assert sum(found.values()) == 0
        assert {code: value for code, value in found.items() if value} == {
            code: value for code, value in self.said.items() if value
        }

    def _say(self, made: Entry, sign: int) -> None:
        for line in made.lines:
            self.said[line.account] += sign * (line.debit - line.credit)


@pytest.mark.parametrize("examples", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_the_journal_says_what_was_posted_and_balances(books_engine: sa.Engine, examples: int) -> None:
    machine = type("OfThisDatabase", (Bookkeeping,), {"engine": books_engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
