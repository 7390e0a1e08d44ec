"""What every metric row of the oracle shares: days, money, coverage, finality; and the comparison."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from tests import oracle
from tests.oracle.results import DICTIONARY
from tests.oracle.small import DAY, accounts, deal, deals, event, everything_covered, mrr, on, revenue

TENANT = oracle.Tenant(
    "t", "t", "USD", [(datetime(2020, 1, 1, tzinfo=UTC), {"time_zone": "America/New_York"})]
)


def _compute(dates: list[date], as_of: datetime, **more: Any) -> pd.DataFrame:
    return oracle.compute({}, TENANT, dates, coverage=everything_covered(DAY), as_of=as_of, **more)


def test_every_metric_of_the_dictionary_has_exactly_one_total_row_a_day() -> None:
    with DICTIONARY.open(encoding="utf-8", newline="") as file:
        wanted = sorted(row["metric_id"] for row in csv.DictReader(file))
    frame = _compute([DAY], datetime(2026, 5, 1, tzinfo=UTC))
    assert sorted(frame.loc[frame["dimension_key"] == "", "metric_id"]) == wanted
    assert not frame.duplicated(["date", "metric_id", "dimension_key"]).any()
    assert list(frame.columns) == oracle.COLUMNS


def test_a_value_is_null_exactly_when_the_status_is_not_ok() -> None:
    frame = _compute([DAY], datetime(2026, 5, 1, tzinfo=UTC))
    assert (frame["value"].isna() == (frame["value_status"] != "ok")).all()


def test_a_day_has_rows_only_once_it_has_closed_in_the_tenants_time_zone() -> None:
    assert _compute([DAY], datetime(2026, 4, 1, 3, 59, tzinfo=UTC)).empty
    assert not _compute([DAY], datetime(2026, 4, 1, 4, 0, tzinfo=UTC)).empty


def test_a_row_is_final_once_it_is_older_than_the_restatement_window() -> None:
    frame = _compute([date(2026, 3, 23), date(2026, 3, 24)], datetime(2026, 4, 1, 3, 59, tzinfo=UTC))
    final = frame.groupby("date")["is_final"].all()
    assert final.to_dict() == {date(2026, 3, 23): True, date(2026, 3, 24): False}
    shorter = _compute([date(2026, 3, 24)], datetime(2026, 4, 1, 3, 59, tzinfo=UTC), restate_days=6)
    assert shorter["is_final"].all()


def test_a_day_that_loses_an_hour_is_twenty_three_hours_long() -> None:
    day = date(2026, 3, 29)
    metrics = on(
        day,
        payload={"time_zone": "Europe/Berlin"},
        watermarks=[("crm", datetime(2026, 3, 28, 23, tzinfo=UTC))],
        events=[event("1", "2026-03-29T21:59:59Z", "lead_created"), event("2", "2026-03-29T22:00:00Z", "lead_created"),
                event("3", "2026-03-28T23:00:00Z", "lead_created"), event("4", "2026-03-28T22:59:59Z", "lead_created")],
    )  # fmt: skip
    assert metrics.value("data_freshness_hours") == 23
    assert metrics.value("leads_created") == 2


def _rate(day: str, rate: str, base: str = "USD") -> dict[str, Any]:
    return {"rate_date": day, "base_currency": base, "quote_currency": "EUR", "rate": rate}


def test_currencies_are_converted_at_the_newest_rate_not_later_than_their_day() -> None:
    facts: dict[str, Any] = {
        "accounts": accounts("a", "b"),
        "fx_rates": [_rate("2026-03-21", "0.9"), _rate("2026-04-01", "0.1"), _rate("2026-03-01", "0.5")],
        "subscription_ledger": [
            mrr("1", "a", "2026-03-31", "new", "100", currency="USD"),
            mrr("2", "a", "2026-03-31", "new", "7", currency="EUR"),
            mrr("3", "b", "2026-03-11", "new", "2"),
        ],
    }
    assert on(payload={"reporting_currency": "EUR"}, **facts).value("mrr_total") == 90 + 7 + 1
    stale = {**facts, "fx_rates": facts["fx_rates"][1:]}
    with pytest.raises(LookupError, match="no USD->EUR rate within 10 days before 2026-03-31"):
        on(payload={"reporting_currency": "EUR"}, **stale)
    too_old = {**facts, "fx_rates": [_rate("2026-03-20", "0.9"), _rate("2026-03-01", "0.5")]}
    with pytest.raises(LookupError, match="2026-03-31"):
        on(payload={"reporting_currency": "EUR"}, **too_old)


def test_what_an_account_gained_and_lost_in_a_foreign_currency_cancels() -> None:
    metrics = on(
        payload={"reporting_currency": "EUR"},
        accounts=accounts("a"),
        fx_rates=[_rate("2026-03-01", "0.5"), _rate("2026-03-31", "0.9")],
        subscription_ledger=[
            mrr("2", "a", "2026-03-31", "churn", "-100", currency="USD"),
            mrr("1", "a", "2026-03-01", "new", "100", currency="USD"),
        ],
    )
    assert metrics.parts("mrr_total") == (0, None, 0)
    assert metrics.value("churn_revenue") == 12 * 50


def test_a_deals_amount_keeps_the_rate_of_the_day_it_was_last_changed() -> None:
    facts = deals(deal("a", ("2026-03-01", "lead", 100, {"currency": "USD"})))
    rates = [_rate("2026-03-01", "0.5"), _rate("2026-03-31", "0.9")]
    assert on(payload={"reporting_currency": "EUR"}, fx_rates=rates, **facts).value("pipeline_total") == 50


def test_the_newest_configuration_restates_history() -> None:
    versions = [
        (datetime(2026, 4, 15, tzinfo=UTC), {"bookings_basis": "tcv"}),
        (datetime(2026, 1, 1, tzinfo=UTC), {"bookings_basis": "acv"}),
    ]
    events = [revenue("1", "2026-03-31", "new_booking", "24", contract_months=24)]
    assert on(versions=versions, revenue_events=events).value("bookings_new") == 24
    assert on(versions=versions[1:], revenue_events=events).value("bookings_new") == 12


def test_a_source_nobody_loaded_makes_its_metrics_undefined_and_no_others() -> None:
    coverage = [row for row in everything_covered(DAY) if row[1] != "subscription_ledger"]
    metrics = on(coverage=coverage)
    assert metrics.status("mrr_total") == "undefined"
    assert metrics.parts("mrr_total") == (None, None, 0)
    assert metrics.status("gross_margin") == "undefined"
    assert metrics.keys("gross_margin") == [""]
    assert metrics.value("bookings_new") == 0


def test_sources_that_begin_on_different_days_must_cover_the_whole_window() -> None:
    facts: dict[str, Any] = {
        "accounts": accounts("a"),
        "subscription_ledger": [mrr("1", "a", "2026-03-01", "new", "31")],
        "revenue_events": [revenue("1", "2026-03-31", "cogs", "3.1")],
    }
    together = on(coverage=everything_covered(DAY, date(2026, 3, 1)), **facts)
    assert together.near("gross_margin", 0.9)
    assert together.row("gross_margin")["sample_size"] == 31
    apart = on(coverage=everything_covered(DAY, subscription_ledger=date(2026, 3, 1)), **facts)
    assert apart.status("gross_margin") == "undefined"
    assert apart.parts("gross_margin") == (None, None, 0)
    assert apart.near("gross_margin", (30 - 3.1) / 30, "window=T30")
    assert apart.row("gross_margin", "window=T30")["window_days"] == 30
    whole = on(coverage=everything_covered(DAY, subscription_ledger=date(2026, 1, 1)), **facts)
    assert whole.near("gross_margin", 0.9)


def test_a_reference_is_looked_for_in_its_own_source_system_first() -> None:
    metrics = on(
        accounts=[{"source_key": "1"}, {"source_key": "1", "source_system": "billing"}, {"source_key": "2"}],
        subscription_ledger=[
            mrr("1", "1", "2026-03-01", "new", "1", source_system="billing"),
            mrr("2", "2", "2026-03-01", "new", "1", source_system="billing"),
            mrr("3", "1", "2026-03-01", "new", "1"),
        ],
    )
    assert metrics.parts("mrr_total") == (3, None, 3)


ROW = {
    "date": DAY, "metric_id": "m", "dimension_key": "", "value": Decimal("0.5"), "value_status": "ok",
    "numerator": Decimal(1), "denominator": Decimal(2), "sample_size": 2, "window_days": 30, "is_final": True,
}  # fmt: skip


def _frames(**changes: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.DataFrame([{**ROW, **changes}]), pd.DataFrame([ROW])


def test_rows_that_agree_within_the_tolerance_are_no_difference() -> None:
    assert oracle.compare(*_frames(value=Decimal("0.5000000009"), date="2026-03-31", sample_size=2.0)) == []
    big, bigger = (
        pd.DataFrame([{**ROW, "value": 1_000_000}]),
        pd.DataFrame([{**ROW, "value": "1000000.0009"}]),
    )
    assert oracle.compare(big, bigger) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"value": Decimal("0.50000001")}, "m: value is 0.50000001, expected 0.5"),
        ({"value": None}, "m: value is None, expected 0.5"),
        ({"value_status": "undefined"}, "m: value_status is undefined, expected ok"),
        ({"numerator": float("nan")}, "m: numerator is None, expected 1"),
        ({"denominator": 3}, "m: denominator is 3, expected 2"),
        ({"sample_size": 3}, "m: sample_size is 3, expected 2"),
        ({"window_days": 7}, "m: window_days is 7, expected 30"),
        ({"is_final": False}, "m: is_final is False, expected True"),
    ],
)
def test_a_difference_is_told_with_both_values(changes: dict[str, Any], says: str) -> None:
    assert oracle.compare(*_frames(**changes)) == [f"2026-03-31 {says}"]


def test_missing_and_extra_rows_are_told_apart() -> None:
    actual, expected = _frames(dimension_key="window=T7")
    assert oracle.compare(actual, expected) == [
        "2026-03-31 m: the row is missing, expected 0.5",
        "2026-03-31 m window=T7: the row should not exist, it holds 0.5",
    ]


def test_large_money_may_not_differ_by_more_than_a_cent() -> None:
    big = pd.DataFrame([{**ROW, "value": Decimal(100_000_000)}])
    off = pd.DataFrame([{**ROW, "value": Decimal("100000000.02")}])
    assert len(oracle.compare(off, big)) == 1
