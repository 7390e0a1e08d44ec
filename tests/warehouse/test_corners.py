"""Corners no sample tenant stands in: the warehouse and the oracle agree there, on the value worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.landing import load
from kernel.landing.contracts import FACTS
from models.ops import source_coverage, source_watermarks
from tests import oracle
from tests.oracle.small import TENANT_ID, Metrics, contact, mrr, revenue
from tests.warehouse.build import build

FIRST, LAST = date(2026, 2, 15), date(2026, 6, 30)
AS_OF = datetime(2026, 7, 2, tzinfo=UTC)
DAYS = [
    FIRST,
    date(2026, 2, 22),
    date(2026, 2, 28),
    date(2026, 3, 1),
    date(2026, 3, 6),
    date(2026, 5, 31),
    LAST,
]
FIRST_LEDGER_DAY = date(2025, 12, 1)

# One tenant without any configuration.
WORLD: dict[str, list[dict[str, Any]]] = {
    "accounts": [{"source_key": "a", "name": "a"}],
    "contacts": [
        contact("kept", email="kept@example.com"),
        contact("gone", email="x@example.com", merged_into_key="kept", merged_at="2026-02-10 12:00"),
        contact("back", email="x@example.com", created_at="2026-03-02"),
    ],
    "campaigns": [{"source_key": "spring", "name": "spring"}],
    "campaign_channels": [
        {"source_key": "ads", "campaign_key": "spring", "channel": "paid_search", "is_paid": True}
    ],
    "channel_spend_daily": [{"channel_key": "ads", "date": "2026-02-12", "spend": "50"}],
    "revenue_events": [
        revenue("1", "2026-02-01", "other_revenue", "100", campaign_key="spring"),
        revenue("2", "2026-02-01", "marketing_spend", "40", campaign_key="spring", cost_class="variable"),
        revenue("3", "2026-02-05", "cogs", "10"),
        revenue("4", "2026-03-15", "other_cost", "100"),
        revenue("5", "2026-05-20", "other_cost", "100"),
        revenue("6", "2026-06-10", "other_cost", "100"),
    ],
    "subscription_ledger": [mrr("1", "a", "2025-12-01", "new", "1000")],
    "finance_inputs_monthly": [
        {"month": "2026-01-01", "variable_cost_share": "0.25"},
        {"month": "2026-02-01", "variable_cost_share": "0.5"},
    ],
}
# Two sources of ad spend that begin and end on different days; everything else is covered throughout.
COVERAGE = [
    ("google", "channel_spend_daily", date(2026, 1, 1), date(2026, 3, 5), True),
    ("meta", "channel_spend_daily", date(2026, 2, 20), LAST, True),
    *(
        ("crm", fact, FIRST_LEDGER_DAY if fact == "subscription_ledger" else date(2025, 1, 1), LAST, True)
        for fact in FACTS
        if fact != "channel_spend_daily"
    ),
]


@pytest.fixture(scope="module")
def engine(warehouse_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.Engine]:
    """The world landed and computed."""
    made = sa.create_engine(warehouse_url)
    landing = tmp_path_factory.mktemp("landing")
    for fact, rows in WORLD.items():
        pd.DataFrame(rows).to_csv(landing / f"{fact}.csv", index=False)
    with made.begin() as connection:
        tenancy.create(connection, "small", "Small", "USD", UUID(TENANT_ID))
    report = load.load_path(made, landing, "small", None, load.Options(now=AS_OF, source_system="crm"))
    assert report.rejected == 0
    with made.begin() as connection:
        connection.execute(source_coverage.delete())
        names = ("source_system", "fact", "covered_from", "covered_to", "is_required")
        stated = {"tenant_id": TENANT_ID, "updated_at": AS_OF}
        connection.execute(
            source_coverage.insert(), [dict(zip(names, row, strict=True)) | stated for row in COVERAGE]
        )
    build(warehouse_url, FIRST, LAST, as_of=AS_OF)
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def computed(engine: sa.Engine) -> pd.DataFrame:
    query = sa.text("select * from analytics.metric_snapshots_daily where date = any(:days)")
    with engine.connect() as connection:
        return pd.DataFrame(connection.execute(query, {"days": DAYS}).mappings().all(), dtype=object)


@pytest.fixture(scope="module")
def expected(engine: sa.Engine) -> pd.DataFrame:
    with engine.connect() as connection:
        marks = connection.execute(
            sa.select(source_watermarks.c.source_system, source_watermarks.c.last_ingested_at)
        )
        watermarks = [tuple(row) for row in marks]
    return oracle.compute(
        {
            fact: pd.DataFrame([{"source_system": "crm", **row} for row in rows])
            for fact, rows in WORLD.items()
        },
        oracle.Tenant(TENANT_ID, "small", "USD", []),
        DAYS,
        coverage=COVERAGE,
        as_of=AS_OF,
        watermarks=watermarks,
    )


@pytest.fixture(scope="module", params=["warehouse", "oracle"])
def on(
    request: pytest.FixtureRequest, computed: pd.DataFrame, expected: pd.DataFrame
) -> Callable[..., Metrics]:
    """The rows of a day as either of the two has them."""
    frame = computed if request.param == "warehouse" else expected
    return lambda month, day: Metrics(frame[frame["date"] == date(2026, month, day)])


def test_the_warehouse_equals_the_oracle_in_every_corner(
    computed: pd.DataFrame, expected: pd.DataFrame
) -> None:
    assert oracle.compare(computed, expected) == []


def test_an_identity_without_a_contact_on_the_day_is_no_identity(on) -> None:
    # One contact of the second address was merged in February, the next came on the second of March.
    assert on(3, 1).parts("duplicate_contact_rate") == (0, None, 1)
    assert on(3, 6).parts("duplicate_contact_rate") == (0, None, 2)


def test_an_open_month_takes_the_cost_share_of_the_last_closed_one_for_three_months(on) -> None:
    recognised = 1000 / 31 * 29 + 2000  # from the third of March
    variable = 100 * 0.5 + 100 * 0.5
    assert on(5, 31).near("contribution_margin_pct", (recognised - variable) / recognised * 100)
    assert on(6, 30).status("contribution_margin_pct") == "undefined"


def test_no_spend_is_none_once_every_source_has_begun_and_unknown_before_and_after(on) -> None:
    before, begun, whole, after = on(2, 15), on(2, 22), on(2, 28), on(3, 6)
    assert before.status("spend_paid_total") == "undefined"
    assert before.value("spend_paid_total", "window=T7") == 50
    assert begun.value("spend_paid_total") == 0
    assert begun.status("spend_paid_total", "window=T7") == "undefined"
    assert whole.value("spend_paid_total", "window=T7") == 0
    assert whole.value("spend_paid_total", "window=T30") == 50
    assert after.status("spend_paid_total") == "stale_source"


def test_a_campaigns_return_on_margin_is_unknown_while_the_margins_sources_began_apart(on) -> None:
    (campaign,) = (key for key in on(2, 15).keys("campaign_roas") if key.startswith("campaign="))
    on_margin = f"basis=margin|{campaign}"
    assert on(2, 15).near("campaign_roas", 2.5, campaign)
    assert on(2, 15).status("campaign_roas", on_margin) == "undefined"
    assert on(3, 1).near("campaign_roas", 2.5 * float(on(3, 1).value("gross_margin")), on_margin)


def test_the_defaults_of_the_warehouse_are_those_of_the_configuration(engine: sa.Engine) -> None:
    config = tenancy.Config()
    with engine.connect() as connection:
        promised = connection.execute(
            sa.text(
                "select target_bookings_monthly, follow_up_sla_hours, valid_from_at::text, valid_to_at"
                " from staging.stg_spine__config_versions"
            )
        ).one()
        calendar = connection.execute(
            sa.text(
                "select time_zone, fiscal_year_start_month, bookings_basis from staging.stg_spine__tenants"
            )
        ).one()
    assert tuple(promised) == (config.target_bookings, config.follow_up_sla_hours, "-infinity", None)
    assert tuple(calendar) == (config.time_zone, config.fiscal_year_start_month, config.bookings_basis)
