"""Which line is which, and whether the balances of a file follow from its lines."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from kernel.books.ingest.balances import chain, tie_out
from kernel.books.ingest.identity import identified
from kernel.books.ingest.statement import Line, Statement

ACCOUNT = UUID(int=1)
LINE = Line(1, date(2026, 1, 5), -450, "USD", "Coffee", "Bean")


def ids(*lines: Line, account: UUID = ACCOUNT) -> list[str]:
    return [each.id for each in identified(account, lines)]


def test_equal_lines_of_a_file_are_each_their_own() -> None:
    first, second = ids(LINE, LINE)
    assert first != second
    assert ids(LINE) == [first]


def test_a_line_with_the_same_id_of_the_bank_is_one_line() -> None:
    known = LINE._replace(bank_ref="1")
    found = list(identified(ACCOUNT, [known, known]))
    assert found[0].id == found[1].id
    assert [each.is_repeated for each in found] == [False, True]


def test_whatever_the_bank_says_otherwise_is_another_line() -> None:
    others = [
        LINE._replace(post_date=date(2026, 1, 6)), LINE._replace(amount_minor=-451), LINE._replace(description="Tea"),
        LINE._replace(counterparty="Leaf"), LINE._replace(reference="7"), LINE._replace(bank_ref="1"),
        LINE._replace(card="1234"), LINE._replace(currency="EUR"),
    ]  # fmt: skip
    assert len({*ids(LINE), *(ids(each)[0] for each in others)}) == 9
    assert ids(LINE) != ids(LINE, account=UUID(int=2))


def test_case_of_letters_and_what_stands_beside_make_no_other_line() -> None:
    told = LINE._replace(
        number=9,
        description="COFFEE",
        bank_category="food",
        value_date=date(2026, 1, 6),
        raw={"a": "b"},
    )
    assert ids(told) == ids(LINE)


_AMOUNTS = st.lists(st.integers(-500, 500).filter(bool), min_size=1, max_size=12)


@given(_AMOUNTS, st.integers(1, 4), st.randoms(use_true_random=False), st.booleans())
def test_balances_follow_whatever_the_order_within_a_day(
    amounts: list[int], days: int, random: Random, is_newest_first: bool
) -> None:
    lines, balance = [], 1000
    for at, amount in enumerate(amounts):
        balance += amount
        on = date(2026, 1, 5) + timedelta(days=at * days // len(amounts))
        lines.append(Line(at + 1, on, amount, "USD", "a", balance_minor=balance))
    random.shuffle(lines)
    lines.sort(key=lambda line: line.post_date, reverse=is_newest_first)
    found = tie_out(Statement("csv", "USD", tuple(lines)), lines)
    assert (found.state, found.off_minor) == ("tied", None)
    # A file whose days all end as they began does not say at which of its balances.
    if sum(amounts):
        assert found.closing_minor - found.opening_minor == sum(amounts)


@given(st.lists(st.integers(1, 500), min_size=3, max_size=12), st.data())
def test_a_line_that_is_missing_breaks_the_balances(amounts: list[int], data: st.DataObject) -> None:
    lines, balance = [], 0
    for at, amount in enumerate(amounts):
        balance += amount
        lines.append(
            Line(
                at + 1, date(2026, 1, 5) + timedelta(days=at // 2), amount, "USD", "a", balance_minor=balance
            )
        )
    gone = data.draw(st.integers(1, len(lines) - 2))
    missing = lines.pop(gone)
    found = tie_out(Statement("csv", "USD", tuple(lines)), lines)
    assert (found.state, found.off_minor) == ("off", missing.amount_minor)
    assert found.problem is not None
    assert found.problem.where.startswith("line ")


def test_lines_without_balances_prove_nothing() -> None:
    assert chain([LINE]) is None
    assert tie_out(Statement("csv", "USD", (LINE,)), [LINE]).state == "unknown"
