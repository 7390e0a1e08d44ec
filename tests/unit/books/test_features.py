from __future__ import annotations

import numpy as np
import pytest

from ml import features
from tests.unit.books.bank_lines import lines, year


@pytest.mark.parametrize(
    ("vendor", "stem"),
    [
        ("amzn mktp ukmi1hc04v4", "amznmktpuk"),
        ("amzn mktp ukmz7ep0kp4", "amznmktpuk"),
        ("tesco pfs 3953", "tescopfs"),
        ("3 mobile", "mobile"),
        ("www.argos.co.uk", "argoscouk"),
        ("кафе пушкин", "кафепушкин"),
        ("4711", "-"),
    ],
)
def test_a_stem_leaves_order_numbers_and_branches_out(vendor: str, stem: str) -> None:
    assert features.stem(vendor) == stem


def test_words_end_at_their_first_digit() -> None:
    assert features.words("Amazon.co.ukmw3xj4034 GB0000 1234") == ("amazon", "co", "ukmw", "gb", "#")
    assert features.words("***") == ("-",)


def test_a_line_has_the_same_keys_and_features_whatever_lines_come_with_it() -> None:
    frame = year(a_month=5)
    found, alone = features.keys(frame), features.keys(frame.iloc[[17]])
    assert all(hashes[17] == alone[name][0] for name, hashes in found.items())
    together = features.columns(frame, found)[[17]].toarray()
    assert np.array_equal(together, features.columns(frame.iloc[[17]], alone).toarray())


def test_a_card_is_another_one_with_another_tenant() -> None:
    mine, theirs = (features.keys(lines(("2024-01-02", "argos", "1111", None), tenant=who)) for who in "ab")
    assert mine["card"][0] != theirs["card"][0]
    assert mine["vendor"][0] == theirs["vendor"][0]


def test_hashes_stay_the_same_from_release_to_release() -> None:
    found = features.keys(lines(("2024-01-02", "argos ltd", "1111", None)))
    assert f"{features.combined(found, ('card', 'vendor'))[0]:016x}" == "7b16d75e7c7d2691"


def test_the_order_of_keys_makes_another_hash() -> None:
    found = features.keys(lines(("2024-01-02", "argos ltd", "1111", None)))
    assert features.combined(found, ("card", "vendor")) != features.combined(found, ("vendor", "card"))


def test_a_long_text_weighs_no_more_than_a_short_one() -> None:
    frame = lines(
        ("2024-01-02", "argos", "1", None), ("2024-01-02", "argos retail group limited uk", "1", None)
    )
    short, long = features.columns(frame, features.keys(frame)).power(2).sum(axis=1)
    assert long == pytest.approx(short)


def test_neither_a_lack_of_text_nor_of_lines_is_an_error() -> None:
    bare = lines(("2024-01-02", "", "", None))
    assert features.columns(bare, features.keys(bare)).shape == (1, 1 << features.BITS)
    nothing = bare.iloc[:0]
    assert features.columns(nothing, features.keys(nothing)).shape == (0, 1 << features.BITS)
