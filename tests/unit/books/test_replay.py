"""A made-up city replayed: nothing of a month is seen before it is predicted, and what was logged makes gates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bench import books, books_report
from ml import certify, confidence, gates, plots

ACCOUNTS = np.array([f"K{number:02}" for number in range(12)])


def city(seed: int = 1, months: int = 6, lines: int = 700) -> pd.DataFrame:
    """Two tenants; four vendors in five always go to their own account, the fifth to any of three."""
    random = np.random.default_rng(seed)
    parts = []
    for period in pd.date_range("2020-01-01", periods=months, freq="MS"):
        vendor = random.integers(0, 60, lines)
        loose = vendor % 5 == 0
        account = ACCOUNTS[(vendor + np.where(loose, random.integers(0, 3, lines), 0)) % 12]
        parts.append(
            pd.DataFrame(
                {
                    "tenant": np.where(vendor % 2, "north", "south"),
                    "txn": [f"{period:%Y%m}-{number:04}" for number in range(lines)],
                    "post_date": (period + pd.to_timedelta(np.sort(random.integers(0, 27, lines)), "D")).date,
                    "amount_minor": -random.integers(100, 90_000, lines),
                    "currency": "GBP",
                    "description": [f"shop {one}" for one in vendor],
                    "counterparty": "",
                    "vendor": [f"shop {one}" for one in vendor],
                    "card": random.integers(0, 9, lines).astype(str),
                    "bank_category": "",
                    "account": account,
                    "labelled_at": (period + pd.offsets.MonthBegin(1)).tz_localize("UTC"),
                    "period": period,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


class Memory:
    """Shares of accounts by vendor, as simple as a classifier can be."""

    def __init__(self, known: pd.DataFrame):
        counted = (
            known.groupby(["vendor", "account"])
            .size()
            .unstack(fill_value=0)
            .reindex(columns=ACCOUNTS, fill_value=0)
        )
        self.shares = counted.add(0.1).div(counted.add(0.1).sum(axis=1), axis=0)

    def score(self, asked: pd.DataFrame) -> SimpleNamespace:
        p = self.shares.reindex(asked["vendor"]).fillna(1 / len(ACCOUNTS)).to_numpy()
        order = np.argsort(-p, axis=1, kind="stable")[:, :3]
        top = [[(ACCOUNTS[at], row[at]) for at in best] for row, best in zip(p, order, strict=True)]
        return SimpleNamespace(
            account=ACCOUNTS[order[:, 0]], p=p.max(axis=1), top=top,
            is_new_vendor=~asked["vendor"].isin(self.shares.index).to_numpy(),
        )  # fmt: skip


def fit(frame: pd.DataFrame, *, before: datetime) -> Memory:
    assert (frame["labelled_at"] < before).all()
    return Memory(frame)


def months(lines: pd.DataFrame) -> list[pd.Timestamp]:
    return sorted(lines["period"].unique())


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return city()


@pytest.fixture(scope="module")
def replayed(lines) -> books.Replay:
    return books.replay(fit, lines, months(lines))


SAID = ["proposed", "p", "raw_p", "calibrated_p", "threshold", "closed", "held"]


def test_labels_of_a_month_that_are_altered_change_nothing_that_was_said_of_it(lines, replayed):
    last = lines["period"].max()
    altered = lines.assign(account=lines["account"].where(lines["period"] < last, "K00"))
    again = books.replay(fit, altered, months(lines))
    pd.testing.assert_frame_equal(again.log[SAID], replayed.log[SAID])


@pytest.mark.slow
def test_labels_of_a_month_that_are_altered_do_change_the_next(lines, replayed):
    """The test above could not fail otherwise."""
    second = months(lines)[-2]
    altered = lines.assign(account=lines["account"].where(lines["period"] != second, "K00"))
    again = books.replay(fit, altered, months(lines))
    later = replayed.log["period"] > second
    assert not again.log.loc[later, SAID].equals(replayed.log.loc[later, SAID])


def test_a_classifier_is_shown_no_label_of_the_month_it_predicts(lines):
    shown = []

    class Curious(Memory):
        def score(self, asked):
            shown.append(asked[["account", "labelled_at"]].notna().to_numpy().any())
            return super().score(asked)

    books.replay(lambda frame, before: Curious(frame), lines, months(lines)[:2])
    assert shown == [False, False]


def test_the_first_months_have_no_gate_and_later_ones_are_certified(replayed):
    first = replayed.log[replayed.log["period"] == replayed.log["period"].min()]
    assert (first["closed"] == "no prediction was logged yet").all()
    last = replayed.log[replayed.log["period"] == replayed.log["period"].max()]
    posted = last[(last["calibrated_p"] >= last["threshold"]) & ~last["held"]]
    assert 0.6 < len(posted) / len(last) < 0.85
    assert (posted["proposed"] == posted["account"]).mean() > 0.95


def test_the_report_adds_up(lines, replayed):
    since = pd.Timestamp("2020-03-01")
    told = books_report.report(
        replayed.log, replayed.costs, lines, since=since, peer=lines.set_index("txn")["account"]
    )
    overall = told["overall"]
    assert overall["lines"] == sum(one["lines"] for one in told["by_month"].values()) == 4 * 700
    assert overall["posted"] == sum(one["posted"] for one in told["by_tenant"].values())
    assert overall["peer_accuracy"] == 1
    assert not told["goals"]["accuracy_4_points_above_peer"]["holds"]
    assert told["goals"]["precision_at_least_0.90_every_month"]["holds"]
    assert (
        overall["precision_interval_by_card"][0]
        <= overall["precision"]
        <= overall["precision_interval_by_card"][1]
    )
    assert [table.row_count for table in books_report.tables(told)][:2] == [5, 4]


def test_a_replay_is_kept_as_files(replayed, tmp_path):
    replayed.save(tmp_path)
    kept = pd.read_parquet(tmp_path / "predictions.parquet")
    assert len(kept) == len(replayed.log)
    assert len(pd.read_parquet(tmp_path / "costs.parquet")) == 6


def test_calibration_files_hold_their_figures_and_a_picture(replayed, tmp_path):
    at = datetime(2020, 7, 1, 6, tzinfo=UTC)
    gate = gates.make(replayed.log, at=at)["north"]
    versions = {"model_version_id": "m1", "calibrator_version_id": "c1"}
    paths = plots.write_calibration(tmp_path / "north", gate.lines, gate.calibrator, versions=versions, at=at)
    told = json.loads(paths[0].read_text())
    metadata = json.loads(paths[1].read_text())
    assert (
        sum(one["count"] for one in told["bins"])
        == sum(one["count"] for one in told["merged"])
        == len(gate.lines)
    )
    assert [one["bin"] for one in told["bins"]][:3] == ["0-0.1", "0.1-0.2", "0.2-0.3"]
    assert metadata["method"] == gate.calibrator.method
    assert metadata["model_version_id"] == "m1"
    assert metadata["ece"]["low"] <= metadata["ece"]["high"]
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert plots.reliability(gate.lines) == paths[2].read_bytes()


def test_gates_are_made_of_what_was_known_at_the_time(replayed):
    at = datetime(2020, 5, 1, 6, tzinfo=UTC)
    early = gates.make(replayed.log, at=at)
    assert early["north"].lines["labelled_at"].max() < at
    cut = replayed.log[replayed.log["labelled_at"] < at]
    assert gates.make(cut, at=at)["north"].certificate == early["north"].certificate


def test_a_missed_month_raises_the_target_of_its_tenant_only(replayed):
    log = replayed.log[replayed.log["period"] == replayed.log["period"].max()]
    wrong = log["proposed"].where((log["tenant"] == "south") | (np.arange(len(log)) % 2 == 0), "wrong")
    at = datetime(2020, 7, 1, 6, tzinfo=UTC)
    assert books._targets({}, log.assign(proposed=wrong), at) == {"north": 0.92, "south": certify.TARGET}


def shown(known: pd.DataFrame, asked: pd.DataFrame, proposed, top_p, at: datetime) -> np.ndarray:
    top = np.tile(top_p, (len(asked), 1))
    return confidence.evidence(
        confidence.Known.of(known, at=at), confidence.Record.empty(), asked, proposed, top
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
    assert of["tenant_vendor_share"][asked["vendor"] == "shop 1"] == pytest.approx(1)
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
    proposed = Memory(known).score(asked).account
    evidence = shown(known, asked, proposed, [0.7, 0.2, 0.1], at)
    right, tenant = (proposed == asked["account"]).to_numpy(), asked["tenant"].to_numpy()
    half = len(asked) // 2
    assert confidence.fit(evidence[:half], right[:half], tenant[:half]) is None
    weights = confidence.fit(
        np.tile(evidence[:half], (3, 1)), np.tile(right[:half], 3), np.tile(tenant[:half], 3)
    )
    p = confidence.apply(weights, evidence[half:], tenant[half:])
    loose = (asked["vendor"].str.removeprefix("shop ").astype(int) % 5 == 0).to_numpy()[half:]
    assert p[~loose].min() > 0.9 > 0.6 > p[loose].mean()
    assert np.array_equal(
        confidence.apply(json.loads(json.dumps(weights)), evidence[half:], tenant[half:]), p
    )
    with pytest.raises(ValueError, match="other features"):
        confidence.apply(weights | {"features": ["other"]}, evidence, tenant)
