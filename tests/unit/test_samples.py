"""The sample tenants: files that repeat to the byte, keep their contracts, and tell the stories they claim."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

import samples
from kernel.landing.contracts import FACTS, Column
from samples import World
from samples.deliveries import CORRECTIONS, INITIAL
from samples.profiles import A, E


@pytest.fixture(scope="module")
def small_worlds() -> dict[str, World]:
    """The same kinds with few rows, for what is asked of every row."""
    return {
        profile.slug: samples.generate(profile, scale=0.02 if profile is E else 0.15)
        for profile in samples.PROFILES
    }


@pytest.fixture(params=[profile.slug for profile in samples.PROFILES])
def world(request: pytest.FixtureRequest, small_worlds: dict[str, World]) -> World:
    return small_worlds[request.param]


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        # Large enough for a compressed file.
        samples.write_all(tmp_path / name, [E], seed=seed, days=90, scale=0.8)
    one, again, other = (_digest(tmp_path / name) for name in ("one", "again", "other"))
    assert any(name.endswith(".csv.gz") for name in one)
    assert one == again
    assert {name for name in one if one[name] == other.get(name)} <= {
        "europa-high-volume/tenant.yaml",
        "europa-high-volume/01-initial/crm/campaigns.csv",
    }


def test_what_is_read_back_is_the_truth_that_was_written(tmp_path: Path, world: World) -> None:
    samples.write(world, tmp_path)
    wrote = world.truth
    read = samples.read_truth(tmp_path)[wrote.tenant.slug]
    assert (read.tenant, read.coverage) == (wrote.tenant, wrote.coverage)
    assert set(read.facts) == set(wrote.facts)
    pd.testing.assert_frame_equal(read.watermarks, wrote.watermarks)
    for fact, frame in wrote.facts.items():
        pd.testing.assert_frame_equal(read.facts[fact], frame)


def test_of_two_writers_of_a_tenant_the_second_waits_and_both_end_well(tmp_path: Path) -> None:
    world = samples.generate(A, days=60, scale=0.2)
    samples.write(world, tmp_path / "alone")
    with ThreadPoolExecutor(4) as pool:
        for written in [pool.submit(samples.write, world, tmp_path / "together") for _ in range(8)]:
            written.result()
    assert _digest(tmp_path / "together") == _digest(tmp_path / "alone")


def test_writing_again_leaves_nothing_of_the_first_writing(tmp_path: Path) -> None:
    samples.write_all(tmp_path, [A], days=60, scale=0.2)
    samples.write_all(tmp_path, [replace(A, absent=frozenset({"ads"}))], days=60, scale=0.2)
    assert not list(tmp_path.rglob("*channel_spend_daily*"))


def _problem(column: Column, values: pd.Series) -> str:
    known = values.dropna()
    if column.required and len(known) < len(values):
        return "is empty somewhere"
    if column.choices and not set(known.unique()) <= set(column.choices):
        return f"holds {set(known.unique()) - set(column.choices)}"
    if column.minimum is not None and (known < Decimal(str(column.minimum))).any():
        return f"holds less than {column.minimum}"
    if column.maximum is not None and (known > Decimal(str(column.maximum))).any():
        return f"holds more than {column.maximum}"
    return ""


def test_every_delivery_keeps_its_contract(world: World) -> None:
    for delivery in world.deliveries:
        fact = FACTS[delivery.fact]
        assert list(delivery.rows.columns) == [column.name for column in fact.columns]
        for column in fact.columns:
            assert not _problem(column, delivery.rows[column.name]), (delivery.fact, column.name)


def test_no_two_rows_of_the_truth_are_the_same_row(world: World) -> None:
    for name, frame in world.truth.facts.items():
        identity = [*FACTS[name].identity, "source_system"]
        assert not frame.duplicated(identity).any(), name


def test_every_reference_is_loaded_before_what_points_at_it(world: World) -> None:
    known: dict[str, set[str]] = {}
    for delivery in world.deliveries:
        rows = delivery.rows
        if "source_key" in rows:
            known.setdefault(delivery.fact, set()).update(rows["source_key"])
        for column in FACTS[delivery.fact].columns:
            if column.kind == "reference":
                missing = set(rows[column.name].dropna()) - known.get(column.refers_to, set())
                assert not missing, (delivery.drop, delivery.fact, column.name)


def test_loading_every_delivery_in_order_leaves_the_truth(world: World) -> None:
    for name, truth in world.truth.facts.items():
        loaded = pd.concat(
            delivery.rows.assign(source_system=delivery.source_system)
            for delivery in world.deliveries
            if delivery.fact == name
        )
        key = [*FACTS[name].identity, "source_system"]
        newest, expected = (
            frame.sort_values(key).reset_index(drop=True)
            for frame in (loaded.drop_duplicates(key, keep="last"), truth)
        )
        pd.testing.assert_frame_equal(newest, expected, check_dtype=False, obj=name)


def test_facts_come_late_and_corrected_and_twice(worlds: dict[str, World]) -> None:
    by_file = {(row.drop, row.source_system, row.fact): row.rows for row in worlds[A.slug].deliveries}
    first = by_file[INITIAL, "crm", "events"].set_index("source_key")
    second = by_file[CORRECTIONS, "crm", "events"].set_index("source_key")
    late = second.index.difference(first.index)
    both = second.index.intersection(first.index)
    same = (
        (first.loc[both, "event_type"] == second.loc[both, "event_type"])
        & (first.loc[both, "ingested_at"] == second.loc[both, "ingested_at"])
    ).to_numpy(dtype=bool)
    assert len(late) > 100
    assert 0 < same.sum() < len(both)
    delay = second.loc[late, "ingested_at"] - second.loc[late, "occurred_at"]
    assert delay.min() >= timedelta(days=1)


def test_a_first_version_always_differs_from_its_correction(world: World) -> None:
    by_file = {(row.drop, row.source_system, row.fact): row.rows for row in world.deliveries}
    for (drop, source, name), second in by_file.items():
        if drop != CORRECTIONS:
            continue
        key = list(FACTS[name].identity)
        pairs = by_file[INITIAL, source, name].merge(second, on=key, suffixes=("_first", ""))
        replaced = pairs[pairs["ingested_at_first"] != pairs["ingested_at"]]
        told = [c.name for c in FACTS[name].columns if c.name not in (*key, "ingested_at")]
        differs = pd.concat(
            [
                replaced[f"{column}_first"]
                .astype(object)
                .fillna("")
                .ne(replaced[column].astype(object).fillna(""))
                for column in told
            ],
            axis=1,
        ).any(axis=1)
        assert differs.all(), (name, source)


def test_nothing_is_handed_over_before_it_happened_or_after_the_end(world: World) -> None:
    end = datetime(2026, 7, 1, 12, tzinfo=UTC)
    for delivery in world.deliveries:
        rows = delivery.rows
        assert rows["ingested_at"].max() <= end, delivery.fact
        if delivery.fact == "activities":
            assert (rows["ingested_at"] > rows["occurred_at"]).all()


def test_the_watermark_of_a_day_is_its_newest_hand_over(worlds: dict[str, World]) -> None:
    world = worlds[A.slug]
    handed_over = pd.concat(row.rows["ingested_at"] for row in world.deliveries if row.source_system == "ads")
    local = handed_over.dt.tz_convert("America/New_York").dt.date
    expected = handed_over.groupby(local).max()
    found = world.truth.watermarks.query("source_system == 'ads'").set_index("date")["last_ingested_at"]
    assert found.to_dict() == expected.to_dict()


def test_an_opportunity_stands_as_its_newest_change_left_it(world: World) -> None:
    facts = world.truth.facts
    newest = (
        facts["opportunity_stage_history"].sort_values("changed_at").groupby("opportunity_key").tail(1)
    ).set_index("opportunity_key")
    deals = facts["opportunities"].set_index("source_key")
    assert set(deals.index) == set(newest.index)
    for column in ("stage", "amount", "currency", "win_probability", "expected_close_date"):
        left, right = (frame.loc[deals.index, column].astype(object).fillna("") for frame in (deals, newest))
        assert (left == right).all(), column


def test_mrr_of_no_account_falls_below_zero(world: World) -> None:
    ledger = world.truth.facts.get("subscription_ledger")
    if ledger is None:
        assert world.truth.tenant.slug == "delta-new"
        return
    in_order = ledger.sort_values("effective_date", kind="stable")
    running = in_order["mrr_delta"].astype(float).groupby(in_order["account_key"]).cumsum()
    assert running.min() > -0.005


def test_a_dial_at_zero_switches_its_phenomenon_off() -> None:
    quiet = replace(
        A,
        late_share=0,
        corrected_share=0,
        repeated_share=0,
        duplicate_share=0,
        refund_share=0,
        reopened_share=0,
    )
    world = samples.generate(quiet, days=120, scale=0.3)
    assert {row.drop for row in world.deliveries} == {INITIAL}
    assert world.truth.facts["contacts"]["merged_into_key"].isna().all()
    assert not world.truth.facts["revenue_events"]["refunds_booking"].any()


@pytest.mark.parametrize(("days", "scale"), [(1, 1.0), (10, 0.01), (45, 0.1)])
def test_a_history_may_be_short_and_thin(days: int, scale: float) -> None:
    for profile in samples.PROFILES:
        assert samples.generate(profile, days=days, scale=scale).truth.facts["accounts"].size


def test_more_tenants_have_ids_and_slugs_of_their_own() -> None:
    profiles = samples.tenants(12)
    assert profiles[:5] == samples.PROFILES
    assert len({profile.id for profile in profiles}) == len({profile.slug for profile in profiles}) == 12
    leads = [
        samples.generate(profile, days=60, scale=0.3).truth.facts["events"] for profile in (A, profiles[5])
    ]
    assert len(leads[0]) != len(leads[1])
