"""A made-up city replayed on a database: nothing of a month is seen before it is decided, and what was logged makes gates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from bench import books, books_data, books_gates, books_report
from kernel import chain, tenancy
from kernel.books import decide
from ml import confidence, deciding, evaluate, frames, gate_records, gates, learning, plots, surety
from models.books_learning import decisions
from tests.unit.books.bank_lines import LOOSE, city


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    return city(months=5, lines=500)


@pytest.fixture(scope="module")
def replayed(
    lines, module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[books.City, books.Replay]]:
    """The city from its second month on. The second stage begins with few lines, and models know two months."""
    engine = sa.create_engine(module_database_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confidence, "LEAST_LINES", 700)
        patch.setattr(learning, "TRAIN_MONTHS", 2)
        town = books.city(engine, tmp_path_factory.mktemp("city"), lines, at=datetime(2020, 1, 1, tzinfo=UTC))
        yield town, books.replay(town, lines, sorted(lines["period"].unique())[1:])
    engine.dispose()


@pytest.fixture(scope="module")
def log(replayed) -> pd.DataFrame:
    return replayed[1].log


_SAID = """
select txn_id, proposed_account, raw_p, calibrated_p, threshold, verdict, failures, label_count,
    explain ->> 'brake' as brake, explain -> 'confidence' as confidence
from books.decisions where run_id = :run order by tenant_id, txn_id
"""


def said(connection: sa.Connection, run: str) -> list[Any]:
    tenancy.service(connection)
    return list(connection.execute(sa.text(_SAID), {"run": run}))


def said_again(town: books.City, month: pd.Timestamp, *, known: datetime) -> list[Any]:
    """What is said of a month's lines now that their labels are there, by what was known at an instant. Nothing of it stays."""
    at = books_data.decided(month)
    with town.engine.connect() as connection, connection.begin() as undone:
        for tenant_id in town.tenants.values():
            _, parameters = gate_records.calibrator(connection, tenant_id)
            model = learning.active(connection, tenant_id, town.folder / "models")
            versions = {"models": [], "calibrator_version": "", "ruleset_version": "", "config_version": ""}
            lines = frames.open_lines(connection, tenant_id, at=at, versions=versions)
            others = [each for each in town.tenants.values() if each != tenant_id]
            surely = surety.of(connection, tenant_id, others, lines["vendor"], parameters, at=known)
            modelled = learning.scored(lines, model)
            decide.decide(
                connection, tenant_id, deciding.bank_lines(lines), modelled,
                run_id="again", at=known, surety=surely, again=True,
            )  # fmt: skip
        told = said(connection, "again")
        undone.rollback()
    return told


def test_labels_of_a_month_change_nothing_that_is_said_of_it(replayed):
    town, made = replayed
    last = made.log["period"].max()
    with town.engine.begin() as connection:
        before = said(connection, f"{last:%Y-%m}")
    assert before
    assert said_again(town, last, known=books_data.decided(last)) == before


def test_labels_that_were_known_would_change_it(replayed):
    """The test above could not fail otherwise."""
    town, made = replayed
    last = made.log["period"].max()
    later = books_data.decided(last) + timedelta(hours=2)
    before = said_again(town, last, known=books_data.decided(last))
    assert said_again(town, last, known=later) != before


def test_labels_of_a_month_are_not_learnt_before_it_ends(replayed):
    town, made = replayed
    at = books_data.decided(made.log["period"].max())
    with town.engine.connect() as connection:
        pool = learning.pool_of(connection, next(iter(town.tenants.values())))
        held = learning.holding(connection, pool.tenant_ids[0])
        again = learning.train(connection, pool, town.folder / "models", before=at, at=at)
        later = learning.train(
            connection, pool, town.folder / "models", before=at + timedelta(hours=2), at=at
        )
        connection.rollback()
    assert again.version == held != later.version


def test_a_gate_is_not_made_of_labels_that_came_later(replayed):
    town, made = replayed
    at = books_data.decided(made.log["period"].max())
    with town.engine.connect() as connection:
        for tenant_id in town.tenants.values():
            logged = frames.logged(connection, [tenant_id], since=confidence.first_instant(at), before=at)
            assert logged["labelled_at"].max() < pd.Timestamp(at)
        connection.rollback()


def test_every_line_is_decided_once_before_its_label_is_known(lines, log):
    assert sorted(log["txn"]) == sorted(lines.loc[lines["period"] > lines["period"].min(), "txn"])


def test_the_first_month_has_no_gate_and_later_ones_are_certified(log):
    first = log[log["period"] == log["period"].min()]
    assert (first["closed"] != "").all()
    last = log[log["period"] == log["period"].max()]
    posted = last[(last["calibrated_p"] >= last["threshold"]) & ~last["held"]]
    assert 0.6 < len(posted) / len(last) < 0.85
    assert (posted["proposed"] == posted["account"]).mean() > 0.95


def test_what_is_calibrated_is_the_second_stages_once_enough_was_logged(log):
    by_month = (log["raw_p"] != log["p"]).groupby(log["period"]).mean()
    assert by_month.iloc[:2].eq(0).all()
    assert by_month.iloc[-1] == 1
    last = log[log["period"] == log["period"].max()]
    is_loose = last["vendor"].isin(LOOSE)
    assert last.loc[is_loose, "calibrated_p"].mean() < 0.6 < 0.95 < last.loc[~is_loose, "calibrated_p"].mean()


def test_a_candidate_of_the_same_kind_is_not_refused_for_the_months_that_it_may_not_know(replayed):
    assert replayed[1].costs["refused"].tolist() == [[], [], [], []]


def test_the_log_of_decisions_holds(replayed):
    town, _ = replayed
    with town.engine.begin() as connection:
        for tenant_id in town.tenants.values():
            tenancy.service(connection, tenant_id)
            assert chain.broken(connection, decisions, tenant_id) is None


def test_what_changed_is_told_of_vendors_amounts_and_accounts(replayed):
    town, made = replayed
    at = books_data.decided(made.log["period"].max()) + timedelta(days=10)
    with town.engine.begin() as connection:
        seen = deciding.changed(connection, next(iter(town.tenants.values())), at=at)
    for signal in (seen.psi_vendor, seen.psi_amount, seen.psi_account, seen.ks_amount):
        assert signal.value is not None, signal.reason


def test_the_report_adds_up(lines, replayed):
    made = replayed[1]
    since = pd.Timestamp("2020-03-01")
    told = books_report.report(
        made.log, made.costs, lines, since=since, peer=lines.set_index("txn")["account"]
    )
    overall = told["overall"]
    assert overall["lines"] == sum(one["lines"] for one in told["by_month"].values()) == 3 * 500
    assert overall["posted"] == sum(one["posted"] for one in told["by_tenant"].values())
    assert overall["passed_every_gate"] <= overall["posted"]
    assert overall["peer_accuracy"] == 1
    assert not told["goals"]["accuracy_4_points_above_peer"]["holds"]
    assert told["goals"]["precision_at_least_0.90_every_month"]["holds"]
    low, high = overall["precision_interval_by_card"]
    assert low <= overall["precision"] <= high
    assert [len(rows) for _, rows in books_report.tables(told)][:3] == [4, 4, 2]


def test_gates_are_made_again_from_the_log_as_they_were(replayed):
    last = replayed[1].log["period"].max()
    told = books_gates.compared(replayed[1].log, last)["of_the_second_stage"]
    rows = replayed[1].log[replayed[1].log["period"] == last]
    # Of the same calibrators; the targets alone move in production.
    ece = evaluate.ece_mass(rows["calibrated_p"], rows["proposed"] == rows["account"])
    assert told["ece_mass"] == pytest.approx(ece, abs=1e-6)
    assert told["precision"] > 0.9


def test_a_replay_is_kept_as_files(replayed, tmp_path):
    replayed[1].save(tmp_path)
    assert len(pd.read_parquet(tmp_path / "predictions.parquet")) == len(replayed[1].log)
    assert len(pd.read_parquet(tmp_path / "costs.parquet")) == 4


def logged(log: pd.DataFrame) -> pd.DataFrame:
    """As the log is read for gates."""
    at = (log["period"] + pd.offsets.MonthBegin(1)).dt.tz_localize("UTC") - pd.Timedelta(hours=1)
    return log.assign(decided_at=at, verdict="review", is_audited=False)


def test_calibration_files_hold_their_figures_and_a_picture(log, tmp_path):
    at = datetime(2020, 6, 1, 6, tzinfo=UTC)
    gate = gates.make(logged(log), at=at)["north"]
    versions = {"model_version_id": "m1", "calibrator_version_id": "c1"}
    paths = plots.write_calibration(tmp_path / "north", gate.lines, gate.calibrator, versions=versions, at=at)
    told = json.loads(paths[0].read_text())
    metadata = json.loads(paths[1].read_text())
    counts = [sum(one["count"] for one in told[name]) for name in ("bins", "merged")]
    assert counts == [len(gate.lines)] * 2
    assert [one["bin"] for one in told["bins"]][:3] == ["0-0.1", "0.1-0.2", "0.2-0.3"]
    assert metadata["method"] == gate.calibrator.method
    assert metadata["model_version_id"] == "m1"
    assert metadata["ece"]["low"] <= metadata["ece"]["high"]
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert plots.reliability(gate.lines) == paths[2].read_bytes()


def test_gates_are_made_of_what_was_known_at_the_time(log):
    at = datetime(2020, 5, 1, 6, tzinfo=UTC)
    whole = logged(log)
    early = gates.make(whole, at=at)
    assert early["north"].lines["labelled_at"].max() < at
    cut = whole[whole["labelled_at"] < at]
    assert gates.make(cut, at=at)["north"].certificate == early["north"].certificate


def test_a_brake_keeps_a_line_from_passing(log):
    held = log[log["held"]]
    assert not held["passed"].any()
    assert all("anomaly" in each for each in held["failures"])
    assert np.isin(held["brake"], ["disputed", "flood"]).all()
