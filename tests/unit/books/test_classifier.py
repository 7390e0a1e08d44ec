from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import classifier
from tests.unit.books.bank_lines import VENDORS, lines, year

BEFORE = datetime(2025, 1, 1, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def model() -> classifier.Model:
    return classifier.fit(year(), before=BEFORE)


def test_what_was_booked_before_is_booked_again(model: classifier.Model) -> None:
    asked = lines(*(("2025-01-05", vendor, "1111", None) for vendor in VENDORS))
    assert list(model.score(asked).account) == list(VENDORS.values())


def test_a_new_branch_of_a_known_chain_is_told_by_its_words(model: classifier.Model) -> None:
    scores = model.score(lines(("2025-01-05", "tesco pfs 7777", "1111", None)))
    assert scores.account[0] == "fuel"
    assert scores.is_new_vendor[0]


def test_the_three_likeliest_come_in_order_and_the_proposed_one_first(model: classifier.Model) -> None:
    scores = model.score(year(year=2025, a_month=3))
    for account, p, top in zip(scores.account, scores.p, scores.top, strict=True):
        assert top[0] == (account, p)
        assert len(top) == 3
        assert top[0][1] >= top[1][1] >= top[2][1] > 0
        assert sum(chance for _, chance in top) <= 1 + 1e-6


def test_what_memory_and_words_said_makes_the_probability(model: classifier.Model) -> None:
    scores = model.score(year(year=2025, a_month=3))
    said = [source["memory"] + source["linear"] for source in scores.sources]
    assert said == pytest.approx(list(np.log(scores.p)), abs=1e-3)


def test_the_order_of_lines_makes_no_other_model(model: classifier.Model) -> None:
    assert classifier.fit(year().sample(frac=1, random_state=5), before=BEFORE).version == model.version


def test_a_line_scores_the_same_alone_and_among_others(model: classifier.Model) -> None:
    asked = year(year=2025, a_month=10)
    alone, together = model.score(asked.iloc[[30]]), model.score(asked)
    assert alone.account[0] == together.account[30]
    assert alone.p[0] == pytest.approx(together.p[30], abs=1e-5)
    assert alone.feature_hash[0] == together.feature_hash[30]


def test_a_vendor_that_is_booked_elsewhere_from_one_day_on_is_followed() -> None:
    history = year()
    moved = (history["vendor"] == "argos ltd") & (pd.to_datetime(history["post_date"]) >= "2024-11-01")
    history.loc[moved, "account"] = "office"
    scores = classifier.fit(history, before=BEFORE).score(lines(("2025-01-05", "argos ltd", "1111", None)))
    assert scores.account[0] == "office"


def test_a_saved_model_says_the_same(model: classifier.Model, tmp_path: Path) -> None:
    path = model.save(tmp_path)
    again = classifier.load(path)
    asked = year(year=2025, a_month=10)
    assert again.version == model.version == path.stem
    assert np.array_equal(again.score(asked).p, model.score(asked).p)
    assert again.save(tmp_path / "twice").read_bytes() == path.read_bytes()


def test_a_file_that_is_not_what_its_name_says_is_refused(model: classifier.Model, tmp_path: Path) -> None:
    path = model.save(tmp_path)
    other = path.rename(tmp_path / "0123456789abcdef.npz")
    with pytest.raises(ValueError, match=rf"0123456789abcdef\.npz.* {model.version}"):
        classifier.load(other)


def test_without_any_label_nobody_knows_anything() -> None:
    scores = classifier.fit(year(), before=datetime(2023, 1, 1, tzinfo=UTC)).score(year(a_month=1))
    assert set(scores.account) == {None}
    assert not scores.p.any()
    assert set(scores.top) == {()}


def test_a_single_month_of_labels_is_enough_to_begin_with(tmp_path: Path) -> None:
    model = classifier.fit(year(), before=datetime(2024, 2, 1, 6, tzinfo=UTC))
    asked = lines(("2024-02-05", "esso aston", "1111", None))
    assert model.score(asked).account[0] == "fuel"
    assert classifier.load(model.save(tmp_path)).score(asked).account[0] == "fuel"


def test_no_lines_have_no_scores(model: classifier.Model) -> None:
    scores = model.score(year().iloc[:0])
    assert len(scores.account) == len(scores.top) == 0
