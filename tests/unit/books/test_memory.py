from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ml import features
from ml.memory import DISCOUNT, Chain, Diary, Level, Memory
from tests.unit.books.bank_lines import lines, year

CHAIN = Chain("vendor", 100, (Level(("all",), 1), Level(("vendor",), 2)))


def _diary(frame: pd.DataFrame, *chains: Chain) -> tuple[Diary, dict[str, int]]:
    codes, names = pd.factorize(frame["account"], sort=True)
    days = pd.to_datetime(frame["post_date"]).to_numpy().astype("datetime64[D]").astype(float)
    diary = Diary(chains or (CHAIN,), features.keys(frame), codes.astype(np.int64), days, len(names))
    diary.move(days.max() + 1)
    return diary, {name: number for number, name in enumerate(names)}


def _learnt(frame: pd.DataFrame, *chains: Chain) -> tuple[Memory, dict[str, int]]:
    diary, column = _diary(frame, *chains)
    diary.learn(np.arange(len(frame)))
    return diary.memory(), column


def test_a_finer_level_is_drawn_towards_the_coarser_one() -> None:
    frame = lines(*[("2024-01-31", "a", "", "x")] * 3, ("2024-01-31", "b", "", "y"))
    memory, column = _learnt(frame)
    decayed = 2 ** (-1 / 100)  # a day old
    n_x, n_y = 3 * decayed, decayed
    all_x = (n_x - DISCOUNT + (1 + DISCOUNT + DISCOUNT * n_y) / 2) / (n_x + n_y + 1)
    of_a = (n_x - DISCOUNT + (2 + DISCOUNT) * all_x) / (n_x + 2)
    (told,) = memory.look(features.keys(lines(("2024-02-01", "a", "", None))))
    assert np.exp(told[0, column["x"]]) == pytest.approx(of_a, rel=1e-4)


def test_an_unknown_vendor_is_told_by_the_coarser_level() -> None:
    memory, column = _learnt(lines(*[("2024-01-31", "a", "", "x")] * 9, ("2024-01-31", "b", "", "y")))
    (told,) = memory.look(features.keys(lines(("2024-02-01", "never seen", "", None))))
    assert told[0, column["x"]] > told[0, column["y"]]


def test_probabilities_of_a_line_add_up_to_one() -> None:
    frame = year(a_month=20)
    memory, _ = _learnt(frame, CHAIN, Chain("card", 30, (Level(("all",), 1), Level(("card", "vendor"), 0.5))))
    for told in memory.look(features.keys(frame)):
        assert np.exp(told).sum(axis=1) == pytest.approx(np.ones(len(frame)), abs=1e-4)


def test_a_label_weighs_half_after_its_half_life() -> None:
    frame = lines(("2024-01-01", "a", "", "x"), ("2024-04-10", "a", "", "y"))  # 100 days apart
    memory, column = _learnt(frame, Chain("vendor", 100, (Level(("vendor",), 0),)))
    counts = memory.tables[("vendor",), 100].counts[[0]].toarray()[0]
    assert counts[column["x"]] / counts[column["y"]] == pytest.approx(0.5)


def test_lines_together_are_told_what_each_is_told_alone() -> None:
    frame = year(a_month=40)
    memory, _ = _learnt(frame)
    together = memory.look(features.keys(frame))[0]
    alone = np.vstack([memory.look(features.keys(frame.iloc[[at]]))[0] for at in range(0, 400, 50)])
    assert alone == pytest.approx(together[:400:50], abs=1e-5)


def test_what_is_kept_says_what_the_diary_says() -> None:
    frame = year(a_month=20)
    diary, _ = _diary(frame)
    half = len(frame) // 2
    diary.learn(np.arange(half))
    later = np.arange(half, len(frame))
    (kept,) = diary.memory().look(features.keys(frame.iloc[later]))
    assert kept == pytest.approx(diary.look(later)[0], abs=1e-3)
    assert np.array_equal(
        diary.memory().knows(features.keys(frame.iloc[later]), ("vendor",)), diary.knows(later, ("vendor",))
    )


def test_the_long_forgotten_is_not_kept() -> None:
    diary, _ = _diary(lines(("2024-01-01", "a", "", "x")))
    diary.learn(np.arange(1))
    diary.move(20_000 + 10_000)
    assert not len(diary.memory().tables[("vendor",), 100].groups)
