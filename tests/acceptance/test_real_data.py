"""Real files, loaded through the shipped mappings, give what plain pandas makes of the raw CSV."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.landing import load, mapping
from tests.warehouse.build import build

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SETS = {"maven-crm": "maven-crm", "kag-facebook-ads": "kag-facebook-ads", "cdnow": "cdnow"}


@pytest.fixture(scope="module")
def loaded(real_data: Path, warehouse_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(warehouse_url)
    for name, folder in SETS.items():
        with engine.begin() as connection:
            tenancy.service(connection)
            tenancy.create(connection, name, name, "USD")
        report = load.load_path(
            engine, real_data / folder, name, mapping.load_mapping(name), load.Options(now=NOW)
        )
        assert report.rejected == 0
    for first, last in [(date(1998, 6, 1), date(1998, 6, 30)), (date(2017, 8, 25), date(2017, 9, 30))]:
        build(warehouse_url, first, last, as_of=NOW)
    yield engine
    engine.dispose()


@pytest.fixture
def metric(loaded: sa.Engine):
    def _metric(tenant: str, metric_id: str, day: date, dimension_key: str = "") -> tuple:
        query = sa.text(
            "select value, value_status, numerator, denominator from analytics.metric_snapshots_daily as s"
            " join spine.tenants t on t.id = s.tenant_id where t.slug = :tenant and s.metric_id = :metric"
            " and s.date = :day and s.dimension_key = :key"
        )
        asked = {"tenant": tenant, "metric": metric_id, "day": day, "key": dimension_key}
        with loaded.connect() as connection:
            return tuple(connection.execute(query, asked).one())

    return _metric


@pytest.fixture(scope="module")
def deals(real_data: Path) -> pd.DataFrame:
    raw = pd.read_csv(
        real_data / "maven-crm" / "sales_pipeline.csv", parse_dates=["engage_date", "close_date"]
    )
    return raw[raw.engage_date.notna()]


@pytest.mark.parametrize("day", [date(2017, 8, 31), date(2017, 9, 1), date(2017, 9, 30)])
def test_the_crm_pipeline_gives_the_win_rate_and_cycle_of_the_raw_file(metric, deals, day) -> None:
    end = pd.Timestamp(day)
    closed = deals[(deals.close_date <= end) & (deals.close_date > end - pd.Timedelta(days=90))]
    won = closed[closed.deal_stage == "Won"]
    value, status, numerator, denominator = metric("maven-crm", "win_rate", day)
    assert (status, int(numerator), int(denominator)) == ("ok", len(won), len(closed))
    assert float(value) == pytest.approx(len(won) / len(closed), abs=1e-9)

    # A closing stands at 23:59:59 of its day, an opportunity at 0:00 of its own.
    cycle = (won.close_date - won.engage_date).dt.days + 86399 / 86400
    assert float(metric("maven-crm", "avg_sales_cycle_days", day)[0]) == pytest.approx(cycle.mean(), abs=1e-9)
    assert float(metric("maven-crm", "avg_sales_cycle_days", day, "stat=median")[0]) == pytest.approx(
        cycle.median(), abs=1e-9
    )
    assert metric("maven-crm", "avg_deal_size", day)[2] == Decimal(int(won.close_value.sum()))


@pytest.mark.parametrize("day", [date(2017, 8, 31), date(2017, 9, 30)])
def test_the_crm_pipeline_counts_the_deals_open_that_evening(metric, deals, day) -> None:
    end = pd.Timestamp(day)
    is_open = deals[(deals.engage_date <= end) & ~(deals.close_date <= end)]
    assert metric("maven-crm", "pipeline_total", day, "basis=unvalued_count")[0] == len(is_open)
    entered = (deals.engage_date == end).sum()
    assert metric("maven-crm", "qualified_opps_created", day)[0] == int(entered)


def test_the_ad_totals_are_those_of_the_raw_file(metric, real_data) -> None:
    raw = pd.read_csv(real_data / "kag-facebook-ads" / "KAG_conversion_data.csv", dtype={"Spent": "str"})
    day = date(2017, 8, 31)
    spent = sum(map(Decimal, raw.Spent))
    assert metric("kag-facebook-ads", "spend_paid_total", day)[0] == pytest.approx(spent, abs=Decimal("1e-9"))
    for metric_id, numerator, denominator in [
        ("ctr_paid", raw.Clicks.sum(), raw.Impressions.sum()),
        ("cpc_paid", spent, raw.Clicks.sum()),
        ("cpl_paid", spent, raw.Total_Conversion.sum()),
        ("cost_per_opportunity_paid", spent, raw.Approved_Conversion.sum()),
    ]:
        value, status, *_ = metric("kag-facebook-ads", metric_id, day)
        assert status == "ok"
        assert float(value) == pytest.approx(float(numerator) / float(denominator), rel=1e-9)


@pytest.mark.parametrize("day", [date(1998, 6, 1), date(1998, 6, 15), date(1998, 6, 30)])
def test_the_purchase_history_gives_the_bookings_of_first_purchases(metric, real_data, day) -> None:
    raw = pd.read_csv(
        real_data / "cdnow" / "CDNOW_master.txt.gz",
        sep=r"\s+", skiprows=1, names=["customer", "date", "cds", "amount"], dtype="str",
    )  # fmt: skip
    raw["day"] = pd.to_datetime(raw.date, format="%Y%m%d")
    first = raw.groupby("customer", sort=False).head(1)
    of_day = first[first.day == pd.Timestamp(day)]
    assert metric("cdnow", "bookings_count", day)[0] == len(of_day)
    assert metric("cdnow", "bookings_new", day)[0] == sum(map(Decimal, of_day.amount), Decimal(0))
    # Nothing recurs by contract, so what hangs on a ledger says that it is not known.
    assert metric("cdnow", "mrr_total", day)[:2] == (None, "undefined")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("hubspot", "dbt_hubspot"),
        ("salesforce", "dbt_salesforce"),
        ("stripe", "dbt_stripe"),
        ("google-ads", "dbt_google_ads"),
    ],
)
def test_the_synced_tables_of_real_systems_load_through_their_mapping(
    real_data: Path, engine: sa.Engine, name: str, folder: str
) -> None:
    with engine.begin() as connection:
        tenancy.service(connection)
        tenancy.create(connection, name, name, "USD")
    report = load.load_path(
        engine, real_data / "fivetran-seeds" / folder, name, mapping.load_mapping(name), load.Options(now=NOW)
    )
    assert sum(outcome.inserted for outcome in report.outcomes) > 0
    # Their stage names are scrambled, which a value map cannot know: those rows, and only those, are set aside.
    reasons = [reject for outcome in report.outcomes for reject in outcome.rejects]
    assert {reject.field for reject in reasons} <= {"stage"}
    assert all("add it to the value map" in reject.reason for reject in reasons)
