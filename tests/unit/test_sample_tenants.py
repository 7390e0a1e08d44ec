"""The stories that the sample tenants tell, each found in its facts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from samples import World
from samples.profiles import A, B, C, D, E

DAY = date(2026, 6, 30)
SALES_AND_MARKETING = ("marketing_spend", "sales_comp")


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
