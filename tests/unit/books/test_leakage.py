"""Nothing of a month is known before it: neither its labels, nor anything that gives them away."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from ml import classifier, features
from ml.memory import Diary
from tests.unit.books.bank_lines import year

BEFORE = datetime(2024, 12, 1, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def whole() -> pd.DataFrame:
    return year()


@pytest.fixture(scope="module")
def december(whole: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(whole["post_date"]) >= "2024-12-01"


@pytest.fixture(scope="module")
def model(whole: pd.DataFrame) -> classifier.Model:
    return classifier.fit(whole, before=BEFORE)


def test_changed_labels_of_the_month_change_no_prediction_of_it(
    whole: pd.DataFrame, december: pd.Series, model: classifier.Model
) -> None:
    changed = whole.copy()
    changed.loc[december, "account"] = "nonsense"
    again = classifier.fit(changed, before=BEFORE)
    assert again.version == model.version
    assert np.array_equal(again.score(changed[december]).p, model.score(whole[december]).p)


def test_a_label_that_came_at_the_instant_itself_is_not_known_yet(whole: pd.DataFrame) -> None:
    instant = datetime(2024, 12, 1, tzinfo=UTC)  # when the labels of November become known
    november = pd.to_datetime(whole["post_date"]).dt.month == 11
    assert (
        classifier.fit(whole, before=instant).labels
        == (~november).sum() - (whole["labelled_at"] > instant).sum()
    )


def test_a_late_label_of_an_old_line_is_not_known_before_it_came(
    whole: pd.DataFrame, model: classifier.Model
) -> None:
    late = whole.copy()
    late.loc[3, "labelled_at"] = pd.Timestamp("2025-03-01", tz="UTC")
    told, changed = (
        classifier.fit(frame, before=BEFORE)
        for frame in (late, late.assign(account=late["account"].mask(late.index == 3, "nonsense")))
    )
    assert told.version == changed.version != model.version


def test_a_column_that_gives_the_label_away_is_not_seen(
    whole: pd.DataFrame, december: pd.Series, model: classifier.Model
) -> None:
    planted = whole.assign(answer=whole["account"], account_next_month=whole["account"].shift(-1))
    again = classifier.fit(planted, before=BEFORE)
    assert again.version == model.version
    assert np.array_equal(again.score(planted[december]).p, model.score(whole[december]).p)


def test_labels_of_lines_that_are_asked_about_are_not_looked_at(
    whole: pd.DataFrame, december: pd.Series, model: classifier.Model
) -> None:
    asked = whole[december]
    bare = asked.assign(account=None, labelled_at=pd.NaT)
    assert np.array_equal(model.score(asked).p, model.score(bare).p)


def test_the_identity_of_a_line_says_nothing_of_it(
    whole: pd.DataFrame, december: pd.Series, model: classifier.Model
) -> None:
    asked = whole[december]
    telling = asked.assign(txn=asked["account"] + asked["txn"])
    assert np.array_equal(model.score(asked).p, model.score(telling).p)


def test_opinions_that_are_weighed_did_not_know_the_month_they_speak_of(whole: pd.DataFrame) -> None:
    """Both the pool and the linear model learn from these; were they informed, both would be overconfident."""
    frame = whole.sort_values("post_date", kind="stable")
    days = pd.to_datetime(frame["post_date"]).to_numpy().astype("datetime64[D]").astype(float)
    codes = pd.factorize(frame["account"], sort=True)[0].astype(np.int64)
    of_june = pd.to_datetime(frame["post_date"]).dt.month.to_numpy() >= 6
    other = np.where(of_june, codes.max() - codes, codes)
    told = [_opinions(frame, days, labels)[:5] for labels in (codes, other)]  # of February to June
    for mine, theirs in zip(*told, strict=True):
        assert all(np.array_equal(one, two) for one, two in zip(mine, theirs, strict=True))


def _opinions(frame: pd.DataFrame, days: np.ndarray, codes: np.ndarray) -> list[list[np.ndarray]]:
    diary = Diary(classifier.RECIPE.chains, features.keys(frame), codes, days, int(codes.max()) + 1)
    return [month.opinions for month in classifier._reread(diary, days)]
