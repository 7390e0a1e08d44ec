"""Pairing bank lines with entries: signed, one to one, nearest first, and never by chance."""

from __future__ import annotations

import time
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.books import matching
from kernel.books.matching import Matched, Side, match

ON = date(2026, 1, 15)
_ids = count(1)


def side(amount: int = -450, days: int = 0, text: str = "coffee", alike: str = "") -> Side:
    return Side(UUID(int=next(_ids)), ON + timedelta(days=days), amount, text, alike)


def pairs(found: Matched) -> set[tuple[UUID, UUID]]:
    return {(pair.line_id, pair.entry_id) for pair in found.pairs}


@pytest.mark.parametrize(
    ("days", "score", "kind"),
    [
        (0, "1", "exact"),
        (1, ".833", "heuristic"),
        (2, ".667", "heuristic"),
        (3, ".5", "heuristic"),
        (4, None, None),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_score_falls_with_the_days_between(
    days: int, sign: int, score: str | None, kind: str | None
) -> None:
    found = match([side()], [side(days=sign * days)])
    assert [(pair.score, pair.kind) for pair in found.pairs] == ([(Decimal(score), kind)] if score else [])
    assert found.ambiguous == ()


def test_a_deposit_does_not_stand_for_a_payment() -> None:
    assert match([side(100)], [side(-100)]) == Matched((), ())


def test_a_line_stands_for_one_entry() -> None:
    line, near, far = side(), side(), side(days=2)
    assert pairs(match([line], [far, near])) == {(line.id, near.id)}


def test_the_same_day_goes_before_the_same_words() -> None:
    line, same_day, same_words = side(text="rent office"), side(text="x"), side(days=1, text="rent office")
    assert pairs(match([line], [same_words, same_day])) == {(line.id, same_day.id)}


def test_words_weigh_against_days() -> None:
    line, near, alike = (
        side(text="rent office"),
        side(days=1, text="paper"),
        side(days=2, text="Office rent May"),
    )
    assert pairs(match([line], [near, alike])) == {(line.id, alike.id)}


def test_two_entries_that_are_as_near_are_told_and_not_chosen() -> None:
    line, before, after = side(), side(days=-1), side(days=1)
    found = match([line], [before, after])
    assert found.pairs == ()
    (told,) = found.ambiguous
    assert (told.line_ids, set(told.entry_ids)) == ((line.id,), {before.id, after.id})


def test_what_is_ambiguous_is_not_paired_with_what_is_left_over() -> None:
    line, before, after, far = side(), side(days=-1), side(days=1), side(days=2)
    assert match([line], [before, after, far]).pairs == ()


def test_words_tell_two_entries_of_a_day_apart() -> None:
    lines = [side(text="STAPLES 12"), side(text="CAFE NERO")]
    entries = [side(text="Cafe"), side(text="Staples paper")]
    assert pairs(match(lines, entries)) == {(lines[0].id, entries[1].id), (lines[1].id, entries[0].id)}


def test_two_equal_lines_stand_for_two_equal_entries() -> None:
    lines, entries = [side(), side()], [side(), side()]
    found = match(lines, entries)
    assert len(found.pairs) == 2
    assert found.ambiguous == ()


def test_of_three_equal_lines_two_stand_for_two_entries_whichever() -> None:
    found = match([side(), side(), side()], [side(text="a"), side(text="b")])
    assert (len(found.pairs), found.ambiguous) == (2, ())


def test_of_two_entries_that_are_booked_otherwise_one_line_chooses_none() -> None:
    assert match([side()], [side(alike="6300"), side(alike="6400")]).pairs == ()
    assert len(match([side()], [side(alike="6300"), side(alike="6300")]).pairs) == 1


@given(st.lists(st.tuples(st.integers(-2, 2).filter(bool), st.integers(0, 5), st.sampled_from("ab")), max_size=8),
       st.lists(st.tuples(st.integers(-2, 2).filter(bool), st.integers(0, 5), st.sampled_from("ab")), max_size=8),
       st.randoms())  # fmt: skip
def test_whatever_the_order_pairs_are_one_to_one_of_one_amount_and_near(
    given_lines: list, given_entries: list, random: object
) -> None:
    lines, entries = [side(*each) for each in given_lines], [side(*each) for each in given_entries]
    found = match(lines, entries)
    by_id = {each.id: each for each in (*lines, *entries)}
    told = [each for pair in found.pairs for each in (pair.line_id, pair.entry_id)]
    told += [each for one in found.ambiguous for each in (*one.line_ids, *one.entry_ids)]
    assert len(told) == len(set(told))
    for pair in found.pairs:
        line, entry = by_id[pair.line_id], by_id[pair.entry_id]
        assert line.amount_minor == entry.amount_minor
        assert pair.score == matching.score(abs((line.on - entry.on).days))
    random.shuffle(lines)
    random.shuffle(entries)
    again = match(lines, entries)
    assert (set(again.pairs), len(again.ambiguous)) == (set(found.pairs), len(found.ambiguous))


@pytest.mark.slow
def test_thirty_thousand_lines_are_paired_within_seconds() -> None:
    lines = [side(-(number % 5000) - 1, number // 90, f"vendor {number}") for number in range(30_000)]
    entries = [
        side(each.amount_minor, (each.on - ON).days + number % 3, each.text)
        for number, each in enumerate(lines)
    ]
    began = time.process_time()
    found = match(lines, entries)
    assert time.process_time() - began < 10
    assert len(found.pairs) > 27_000


def test_many_equal_amounts_in_few_days_end() -> None:
    lines = [side(-999, number % 4, f"vendor {number}") for number in range(3000)]
    entries = [side(-999, number % 4, f"vendor {number}") for number in range(3000)]
    began = time.process_time()
    match(lines, entries)
    assert time.process_time() - began < 60
    assert len(match(lines, entries).pairs) == 3000


def test_of_many_equal_amounts_what_no_text_tells_apart_is_told() -> None:
    lines, entries = [side(-9, 0, f"a{n}") for n in range(500)], [side(-9, 0, f"b{n}") for n in range(500)]
    found = match(lines, entries)
    assert found.pairs == ()
    assert len(found.ambiguous[0].line_ids) == 500
