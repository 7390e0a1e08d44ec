"""Every metric of every sample tenant equals what plain pandas and Decimal make of the generator's truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.landing import folder
from samples import END, PROFILES, Truth, read_truth, write_all
from tests import oracle
from tests.warehouse.build import build

NOW = datetime(2026, 7, 2, 12, tzinfo=UTC)

# Month ends, both changes of the clock and the days beside them, the first days of a tenant, ordinary days.
DAYS = sorted(
    {
        *(date(2025, month, 1) - timedelta(days=1) for month in range(8, 13)),
        *(date(2026, month, 1) - timedelta(days=1) for month in range(1, 7)),
        date(2025, 10, 26), date(2025, 10, 27), date(2025, 11, 2), date(2026, 3, 8), date(2026, 3, 29),
        date(2026, 3, 30), date(2025, 6, 10), date(2025, 9, 15), date(2026, 1, 1), date(2026, 2, 14),
        date(2026, 4, 1), date(2026, 5, 2), date(2026, 5, 15), date(2026, 6, 1), date(2026, 6, 7),
        date(2026, 6, 14), date(2026, 6, 21), date(2026, 6, 25), date(2026, 6, 29), END,
    }
)  # fmt: skip


# The one with most facts takes as long as all others: it is landed and computed apart from them.
_LONG = tuple(profile for profile in PROFILES if profile.slug == "europa-high-volume")
_QUICK = tuple(profile for profile in PROFILES if profile not in _LONG)


@dataclass(frozen=True, slots=True)
class Computed:
    """The database, and what the generator knows of the tenants that are in it."""

    engine: sa.Engine
    truths: dict[str, Truth]


@pytest.fixture(scope="module")
def computed(
    request: pytest.FixtureRequest,
    _copied: Callable[[str], AbstractContextManager[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Computed]:
    """The files of some tenants loaded and every day of the calendar computed in one dbt build."""
    landing = tmp_path_factory.mktemp("landing")
    write_all(landing, request.param)
    with _copied("warehouse") as url:
        engine = sa.create_engine(url)
        folder.apply_tenants(engine, landing)
        report = folder.load_pending(engine, landing, now=NOW)
        assert report.refused == {}
        assert sum(counts.rejected for counts in report.facts.values()) == 0
        build(url, DAYS[0], DAYS[-1], as_of=NOW)
        yield Computed(engine, read_truth(landing))
        engine.dispose()


def actual(engine: sa.Engine, tenant_id: str) -> pd.DataFrame:
    query = sa.text(
        "select date, metric_id, dimension_key, value, value_status, numerator, denominator, sample_size,"
        " window_days, is_final from analytics.metric_snapshots_daily"
        " where tenant_id = :tenant and date = any(:days)"
    )
    with engine.connect() as connection:
        rows = connection.execute(query, {"tenant": tenant_id, "days": DAYS})
        return pd.DataFrame(rows.mappings().all())


def test_there_are_thirty_days_to_compare() -> None:
    assert len(DAYS) >= 30


@pytest.mark.parametrize("computed", [pytest.param(_QUICK, id="quick")], indirect=True)
def test_the_pipeline_sees_the_tenants_the_generator_made(computed: Computed) -> None:
    with computed.engine.begin() as connection:
        tenancy.service(connection)
        seen = sorted(tenant.slug for tenant in tenancy.all_tenants(connection))
    assert seen == sorted(profile.slug for profile in _QUICK)


@pytest.mark.parametrize(
    ("computed", "slug"),
    [
        *(pytest.param(_QUICK, profile.slug, id=profile.slug) for profile in _QUICK),
        *(pytest.param(_LONG, profile.slug, id=profile.slug, marks=pytest.mark.slow) for profile in _LONG),
    ],
    indirect=["computed"],
)
def test_every_metric_equals_the_truth(computed: Computed, slug: str) -> None:
    truth = computed.truths[slug]
    tenant = oracle.Tenant(
        truth.tenant.id,
        slug,
        truth.tenant.default_currency,
        [(version.valid_from, version.payload) for version in truth.tenant.config_versions],
    )
    expected = oracle.compute(
        truth.facts,
        tenant,
        DAYS,
        coverage=[
            (row.source_system, row.fact, row.covered_from, row.covered_to, row.is_required)
            for row in truth.coverage
        ],
        as_of=NOW,
        watermarks=list(
            truth.watermarks[["source_system", "last_ingested_at"]].itertuples(index=False, name=None)
        ),
    )
    differences = oracle.compare(actual(computed.engine, truth.tenant.id), expected)
    assert differences == [], f"{len(differences)} differences:\n" + "\n".join(differences[:40])
