"""The sample tenants: files that repeat to the byte, keep their contracts, and tell the stories they claim."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest

import samples
from kernel.landing.contracts import FACTS, Column
from samples import World
from samples.deliveries import CORRECTIONS, INITIAL
from samples.profiles import A, B, C, D, E

DAY = date(2026, 6, 30)
SALES_AND_MARKETING = ("marketing_spend", "sales_comp")


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    """Every kind of tenant at full size: it takes about two seconds."""
    return {profile.slug: samples.generate(profile) for profile in samples.PROFILES}


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


def _last_90_days(world: World, fact: str) -> pd.DataFrame:
    frame = world.truth.facts[fact]
    day = frame["effective_date"]
    return frame[(day > DAY - timedelta(days=90)) & (day <= DAY)]


def _cac(world: World) -> float:
    revenue = world.truth.facts["revenue_events"]
    first = revenue[revenue["type"] == "new_booking"].groupby("account_key")["effective_date"].min()
    window = _last_90_days(world, "revenue_events")
    is_cost = window["type"].isin(SALES_AND_MARKETING) | (
        (window["type"] == "other_cost") & (window["cost_function"] == "sales_marketing").fillna(False)
    )
    return float(window.loc[is_cost, "amount"].sum()) / (first > DAY - timedelta(days=90)).sum()


def _margin(world: World) -> float:
    ledger = world.truth.facts["subscription_ledger"]
    days = pd.date_range(end=DAY, periods=90)
    mrr = [float(ledger.loc[ledger["effective_date"] <= day.date(), "mrr_delta"].sum()) for day in days]
    revenue = sum(value / day.days_in_month for value, day in zip(mrr, days, strict=True))
    by_type = _last_90_days(world, "revenue_events").groupby("type")["amount"].sum().astype(float)
    revenue += by_type.get("other_revenue", 0) - by_type.get("refund", 0) - by_type.get("discount", 0)
    return (revenue - by_type["cogs"]) / revenue


def _payback(world: World) -> float:
    new = _last_90_days(world, "subscription_ledger").query("reason == 'new'")
    return _cac(world) / (float(new["mrr_delta"].sum()) / new["account_key"].nunique() * _margin(world))


def _runway(world: World) -> float:
    months = world.truth.facts["finance_inputs_monthly"].sort_values("month")
    return float(months["cash_balance"].iloc[-1] / (months["net_burn"].tail(3).sum() / 3))


def test_a_is_healthy(worlds: dict[str, World]) -> None:
    assert 6 < _payback(worlds[A.slug]) < 9
    assert 0.70 < _margin(worlds[A.slug]) < 0.74
    assert _runway(worlds[A.slug]) == pytest.approx(18, abs=0.01)


def test_b_pays_too_much_for_its_customers(worlds: dict[str, World]) -> None:
    assert _payback(worlds[B.slug]) > 15
    assert 0.46 < _margin(worlds[B.slug]) < 0.60
    assert _cac(worlds[B.slug]) > 2500


def test_c_runs_out_of_cash_within_six_months(worlds: dict[str, World]) -> None:
    assert _runway(worlds[C.slug]) == pytest.approx(5, abs=0.01)


def test_d_is_new_and_lacks_half_of_its_sources(worlds: dict[str, World]) -> None:
    truth = worlds[D.slug].truth
    missing = {"finance_inputs_monthly", "subscription_ledger", "activities", "channel_spend_daily"}
    assert not missing & set(truth.facts)
    assert not {row.fact for row in truth.coverage} & missing
    assert {row.covered_from for row in truth.coverage} == {date(2026, 5, 2)}


def test_e_earns_in_three_currencies_with_rates_on_working_days_only(worlds: dict[str, World]) -> None:
    facts = worlds[E.slug].truth.facts
    for fact in ("revenue_events", "subscription_ledger", "opportunity_stage_history"):
        assert set(facts[fact]["currency"]) == {"EUR", "USD", "GBP"}
    rates = facts["fx_rates"]
    assert set(rates["quote_currency"]) == {"EUR"}
    assert all(day.weekday() < 5 for day in rates["rate_date"])
    oldest = facts["subscription_ledger"]["effective_date"].min()
    assert rates["rate_date"].min() < oldest - timedelta(days=4)


@pytest.mark.parametrize(("midnight", "change"), [("2025-10-25T22:00Z", "+2h"), ("2026-03-28T23:00Z", "+1h")])
def test_many_leads_of_e_come_in_the_hours_around_a_change_of_clocks(
    worlds: dict[str, World], midnight: str, change: str
) -> None:
    events = worlds[E.slug].truth.facts["events"]
    at = events.loc[events["event_type"] == "lead_created", "occurred_at"]
    begins = pd.Timestamp(midnight)
    day = at[(at >= begins) & (at < begins + pd.Timedelta(hours=23))]
    early = day[day < begins + pd.Timedelta(hours=4.2)]
    assert len(early) > len(day) / 4
    turns = begins + pd.Timedelta(change)
    assert early.between(turns - pd.Timedelta(hours=1), turns, inclusive="left").any()
    assert early.between(turns, turns + pd.Timedelta(hours=1), inclusive="left").any()


def test_a_has_events_on_the_first_and_on_the_last_second_of_a_local_day(worlds: dict[str, World]) -> None:
    local = worlds[A.slug].truth.facts["events"]["occurred_at"].dt.tz_convert("America/New_York")
    clock = set(local.dt.strftime("%H:%M:%S"))
    assert {"00:00:00", "23:59:59"} <= clock


def test_weekends_bring_fewer_leads(worlds: dict[str, World]) -> None:
    events = worlds[A.slug].truth.facts["events"]
    leads = events.loc[events["event_type"] == "lead_created", "occurred_at"]
    weekday = leads.dt.tz_convert("America/New_York").dt.day_of_week
    assert (weekday >= 5).sum() / 2 < 0.5 * (weekday < 5).sum() / 5


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


def test_deals_are_resized_reopened_unvalued_and_changed_twice_a_day(worlds: dict[str, World]) -> None:
    history = worlds[A.slug].truth.facts["opportunity_stage_history"].sort_values("changed_at")
    by_deal = history.groupby("opportunity_key")
    closed = history["stage"].str.startswith("closed")
    was_closed = closed.groupby(history["opportunity_key"]).shift(fill_value=False)
    resized = (history["amount"] != by_deal["amount"].shift()) & (
        history["stage"] == by_deal["stage"].shift()
    )
    day = history["changed_at"].dt.tz_convert("America/New_York").dt.date
    assert (was_closed & ~closed).sum() > 10
    assert resized.fillna(False).sum() > 50
    assert history["amount"].isna().sum() > 50
    assert history.assign(day=day).duplicated(["opportunity_key", "day"]).sum() > 20


def test_contacts_are_merged_also_in_a_chain_and_some_duplicates_stay(worlds: dict[str, World]) -> None:
    contacts = worlds[A.slug].truth.facts["contacts"].set_index("source_key")
    merged = contacts["merged_into_key"].dropna()
    assert (contacts["merged_into_key"].notna() == contacts["merged_at"].notna()).all()
    assert merged.isin(merged.index).any()
    alone = contacts[contacts["merged_into_key"].isna()]
    assert alone["email"].dropna().str.lower().duplicated().any()


def test_attribution_is_whole_shared_partial_or_absent(worlds: dict[str, World]) -> None:
    facts = worlds[A.slug].truth.facts
    weights = facts["opportunity_channel_attribution"].groupby("opportunity_key")["weight"]
    shapes = {tuple(sorted(map(float, found))) for _, found in weights}
    assert shapes == {(1.0,), (0.4, 0.6), (0.5,)}
    assert set(facts["opportunities"]["source_key"]) - set(weights.groups)


def test_mrr_of_no_account_falls_below_zero(world: World) -> None:
    ledger = world.truth.facts.get("subscription_ledger")
    if ledger is None:
        assert world.truth.tenant.slug == "delta-new"
        return
    in_order = ledger.sort_values("effective_date", kind="stable")
    running = in_order["mrr_delta"].astype(float).groupby(in_order["account_key"]).cumsum()
    assert running.min() > -0.005


def test_subscriptions_begin_grow_shrink_end_and_begin_again(worlds: dict[str, World]) -> None:
    reasons = worlds[A.slug].truth.facts["subscription_ledger"]["reason"]
    assert set(reasons) == {"new", "expansion", "contraction", "churn", "reactivation"}


def test_bookings_are_refunded_in_a_later_month(worlds: dict[str, World]) -> None:
    revenue = worlds[A.slug].truth.facts["revenue_events"]
    booked = revenue[revenue["type"] == "new_booking"].set_index("opportunity_key")["effective_date"]
    refunds = revenue[revenue["refunds_booking"] & revenue["opportunity_key"].isin(booked.index)]
    months = [
        (day.year, day.month) > (start.year, start.month)
        for day, start in zip(refunds["effective_date"], booked.loc[refunds["opportunity_key"]], strict=True)
    ]
    assert any(months)
    assert set(revenue.loc[revenue["refunds_booking"], "type"]) == {"refund"}


def test_costs_come_with_and_without_class_and_function(worlds: dict[str, World]) -> None:
    revenue = worlds[A.slug].truth.facts["revenue_events"]
    for kind in ("cogs", "other_cost", "marketing_spend"):
        assert revenue.loc[revenue["type"] == kind, "cost_class"].isna().any(), kind
    other = revenue[revenue["type"] == "other_cost"]
    assert other["cost_function"].isna().any()
    assert {"sales_marketing", "research_development", "general_administrative"} <= set(
        other["cost_function"]
    )


def test_a_promise_to_answer_sooner_comes_into_force_half_way(worlds: dict[str, World]) -> None:
    before, after = worlds[A.slug].truth.tenant.config_versions
    assert (before.payload["follow_up_sla_hours"], after.payload["follow_up_sla_hours"]) == (24, 4)
    assert after.valid_from == datetime(2025, 12, 13, 17, tzinfo=UTC)


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
