"""The other classifier is told no more and no less than ours."""

from __future__ import annotations

import pandas as pd
import pytest

from bench import books_peer
from tests.unit.books.bank_lines import lines

pytest.importorskip("smart_importer", reason="smart_importer is not installed: it is only measured against")
JUNE = pd.Timestamp("2024-06-01")


def _replayed(*asked: tuple[str, str, str, str]) -> pd.Series:
    may = [
        ("2024-05-03", "esso aston", "1111", "fuel"), ("2024-05-04", "screwfix direct", "1111", "tools"),
        ("2024-05-05", "esso oldbury", "1111", "fuel"), ("2024-05-06", "screwfix direct", "2222", "goods"),
    ]  # fmt: skip
    frame = lines(*may, *asked)
    frame["period"] = pd.to_datetime(frame["post_date"]).dt.to_period("M").dt.to_timestamp()
    return books_peer.replay(frame, [JUNE]).proposed.reset_index(drop=True)


def test_each_card_is_told_by_its_own_history() -> None:
    told = _replayed(
        ("2024-06-02", "screwfix direct", "1111", "?"), ("2024-06-02", "screwfix direct", "2222", "?")
    )
    assert list(told) == ["tools", "goods"]


def test_a_card_without_history_stays_unanswered() -> None:
    assert list(_replayed(("2024-06-02", "screwfix direct", "3333", "?"))) == [None]


def test_labels_of_the_month_itself_are_not_known() -> None:
    one, other = (
        _replayed(("2024-06-02", "esso aston", "1111", label), ("2024-06-03", "esso aston", "1111", label))
        for label in ("fuel", "wrong")
    )
    assert list(one) == list(other) == ["fuel", "fuel"]
