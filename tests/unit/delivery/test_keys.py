"""Keys: no two lists of fields give one key, and only what makes an intent makes its key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.delivery import keys

FIELDS = st.lists(st.text(max_size=6), min_size=1, max_size=4)


@given(FIELDS, FIELDS)
def test_two_lists_of_fields_share_a_key_only_when_they_are_equal(one: list[str], other: list[str]) -> None:
    assert (keys.digest(*one) == keys.digest(*other)) == (one == other)


def test_moving_a_letter_over_the_border_of_two_fields_gives_another_key() -> None:
    assert keys.digest("ab", "c") != keys.digest("a", "bc")
    assert keys.digest("a", "", "b") != keys.digest("a", "b")
    assert keys.digest("1:a") != keys.digest("a")


def test_an_attempt_has_its_own_key_and_a_replay_the_same() -> None:
    item = keys.digest("item")
    assert keys.provider_key(item, 1) == keys.provider_key(item, 1) != keys.provider_key(item, 2)


def test_keys_of_calls_are_short_enough_for_every_provider() -> None:
    item = keys.digest("item")
    assert len(keys.provider_key(item, 10**6)) <= 64
    assert len(keys.batch_key([item] * 100)) <= 64


def test_the_key_of_a_batch_depends_on_its_order() -> None:
    assert keys.batch_key(["a", "b"]) != keys.batch_key(["b", "a"])


def test_ids_are_versions_seven_and_do_not_repeat() -> None:
    made = [keys.new_id() for _ in range(1000)]
    assert {each.version for each in made} == {7}
    assert len(set(made)) == 1000
