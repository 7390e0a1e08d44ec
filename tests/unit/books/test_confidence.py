"""The second stage: what it sees of a line, and that it tells sure proposals from unsure ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from ml import confidence
from tests.unit.books.bank_lines import ACCOUNTS, LOOSE, city, shop


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return city()


def likeliest(known: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """The account that most lines of the vendor were booked on."""
    counted = (
        known.groupby(["vendor", "account"])
        .size()
        .unstack(fill_value=0)
        .reindex(columns=ACCOUNTS, fill_value=0)
    )
    return ACCOUNTS[counted.reindex(asked["vendor"]).fillna(0).to_numpy().argmax(axis=1)]


def shown(known: pd.DataFrame, asked: pd.DataFrame, proposed, top_p, at: datetime) -> np.ndarray:
    top = np.tile(top_p, (len(asked), 1))
    nothing = known.iloc[:0].assign(proposed=None, decided_at=pd.Timestamp(at))
    return confidence.evidence(
        confidence.Known.of(known, at=at), confidence.Record.of(nothing, at=at), asked, proposed, top
    )


def test_evidence_is_of_the_same_card_and_vendor(lines):
    at = datetime(2020, 2, 1, 6, tzinfo=UTC)
    known = lines[lines["labelled_at"] < at]
    asked = known.groupby("vendor").head(1)
    of = dict(
        zip(confidence.FEATURES, shown(known, asked, asked["account"], [0.6, 0.3, 0.1], at).T, strict=True)
    )
    place = ["tenant", "vendor"]
    counted = known.groupby(place).size().reindex(pd.MultiIndex.from_frame(asked[place])).to_numpy()
    assert np.expm1(of["tenant_vendor_lines"]) == pytest.approx(counted)
    assert of["tenant_vendor_share"][asked["vendor"] == shop(1)] == pytest.approx(1)
    newest = known.groupby(place)["account"].last().reindex(pd.MultiIndex.from_frame(asked[place])).to_numpy()
    assert of["tenant_vendor_last_same"].tolist() == (newest == asked["account"]).astype(float).tolist()
    stranger = asked.assign(vendor="nobody", card="none")
    nothing = shown(known, stranger, asked["account"], [0.0, 0.0, 0.0], at)
    of = dict(zip(confidence.FEATURES, nothing.T, strict=True))
    assert of["card_vendor_unseen"].all()
    assert not of["vendor_share"].any()


def test_the_record_counts_how_often_the_machine_was_right_at_a_place():
    at = datetime(2020, 4, 1, tzinfo=UTC)
    logged = pd.DataFrame(
        {
            "tenant": "north", "card": ["1", "1", "1", "2"], "vendor": "shop", "proposed": ["a", "a", "b", "a"],
            "account": ["a", "c", "b", "a"], "decided_at": pd.Timestamp(at),
        }
    )  # fmt: skip
    asked = pd.DataFrame({"tenant": ["north", "south"], "card": "1", "vendor": ["shop", "else"]})
    told = confidence.Record.of(logged, at=at).evidence(asked, ["a", "a"])
    of = dict(zip(confidence.FEATURES[-told.shape[1] :], told.T, strict=True))
    assert of["record_card_right"].tolist() == pytest.approx([(2 + 1.4) / 5, 0.7])
    assert of["record_card_account_right"].tolist() == pytest.approx([(1 + 1.4) / 4, 0.7])
    assert np.expm1(of["record_vendor_weight"]).tolist() == pytest.approx([4, 0])


def test_evidence_tells_sure_lines_from_unsure_ones_where_the_model_does_not(lines):
    """The model says 0.7 of every line; only what people said of the vendor tells them apart."""
    at = datetime(2020, 5, 1, 6, tzinfo=UTC)
    known, asked = lines[lines["labelled_at"] < at], lines[lines["labelled_at"] >= at]
    proposed = likeliest(known, asked)
    evidence = shown(known, asked, proposed, [0.7, 0.2, 0.1], at)
    right, tenant = (proposed == asked["account"]).to_numpy(), asked["tenant"].to_numpy()
    half = len(asked) // 2
    assert confidence.fit(evidence[:half], right[:half], tenant[:half]) is None
    weights = confidence.fit(
        np.tile(evidence[:half], (3, 1)), np.tile(right[:half], 3), np.tile(tenant[:half], 3)
    )
    of = {each: weights.of(each) for each in ("north", "south")}
    p = np.array(
        [confidence.apply(of[each], row) for each, row in zip(tenant[half:], evidence[half:], strict=True)]
    )
    loose = asked["vendor"].isin(LOOSE).to_numpy()[half:]
    assert p[~loose].min() > 0.9 > 0.6 > p[loose].mean()
    kept = json.loads(json.dumps(of["north"]))
    assert np.array_equal(confidence.apply(kept, evidence), confidence.apply(of["north"], evidence))
    with pytest.raises(ValueError, match="other features"):
        confidence.apply(kept | {"features": "0" * 12}, evidence)


def test_what_was_seen_comes_back_as_it_was_kept_and_of_other_features_not_at_all(lines):
    at = datetime(2020, 2, 1, 6, tzinfo=UTC)
    known = lines[lines["labelled_at"] < at]
    seen = shown(known, known[:3], known["account"][:3], [0.6, 0.3, 0.1], at)
    kept = confidence.kept(seen)
    back = confidence.restored([kept[0], None, b"x" * len(kept[0]), kept[2]])
    assert np.array_equal(back[[0, 3]], seen[[0, 2]])
    assert np.isnan(back[1:3]).all()


def test_nothing_kept_gives_no_rows():
    assert confidence.restored([]).shape == (0, len(confidence.FEATURES))
