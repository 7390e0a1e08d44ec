"""Computing days again replaces them: nothing is left of what is gone, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from tests.warehouse.build import build, dbt, window

FIRST, LAST = date(2026, 3, 1), date(2026, 3, 2)
AS_OF = datetime(2026, 3, 20, 12, tzinfo=UTC)
ACME, OTHER = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
WINDOW = window(FIRST, LAST, as_of=AS_OF, run_id="by hand")

# Three customers for 100 make a cost that no decimal number states exactly.
FACTS = """
insert into spine.tenants (id, slug, name, default_currency) values ('{tenant}', '{slug}', '{slug}', 'EUR');
insert into spine.accounts (tenant_id, id, name)
    select '{tenant}', ('00000000-0000-0000-0000-00000000000' || number)::uuid, number
    from generate_series(1, 3) as number;
insert into spine.revenue_events (tenant_id, account_id, type, amount, currency, effective_date, source_key)
    select '{tenant}', ('00000000-0000-0000-0000-00000000000' || number)::uuid, 'new_booking', 1000, 'EUR',
        '2026-03-02', 'booking ' || number
    from generate_series(1, 3) as number;
insert into spine.revenue_events
    (tenant_id, type, amount, currency, effective_date, attributed_channel, source_key)
    values ('{tenant}', 'marketing_spend', 100, 'EUR', '2026-03-01', 'email', 'campaign');
insert into ops.source_coverage (tenant_id, source_system, fact, covered_from, covered_to, is_required, updated_at)
    values ('{tenant}', 'erp', 'revenue_events', '2025-01-01', '2026-03-15', true, now());
"""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The mart as it stands in the database."""

    engine: sa.Engine

    def bytes_of(self, tenant: str) -> list[str]:
        """Every row with its place on disk, which a rewritten row loses."""
        return self._column(
            "select ctid::text || snapshots::text from analytics.metric_snapshots_daily as snapshots"
            " where tenant_id = :tenant order by 1",
            tenant=tenant,
        )

    def values(self, tenant: str, metric_id: str) -> dict[str, str]:
        """What the metric is on the last day, by dimension key; the status where there is no value."""
        query = (
            "select dimension_key, coalesce(round(value, 2)::text, value_status) as shown"
            " from analytics.metric_snapshots_daily"
            " where tenant_id = :tenant and metric_id = :metric_id and date = :day"
        )
        with self.engine.connect() as connection:
            asked = {"tenant": tenant, "metric_id": metric_id, "day": LAST}
            return {row.dimension_key: row.shown for row in connection.execute(sa.text(query), asked)}

    def run_ids(self, tenant: str) -> set[str]:
        return set(
            self._column(
                "select distinct run_id from analytics.metric_snapshots_daily where tenant_id = :tenant",
                tenant=tenant,
            )
        )

    def change(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def _column(self, query: str, **parameters: str) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(query), parameters).scalars())


@pytest.fixture(scope="module")
def snapshots(warehouse_url: str) -> Iterator[Snapshots]:
    """Two tenants alike, two days of them computed."""
    engine = sa.create_engine(warehouse_url)
    made = Snapshots(engine)
    for tenant, slug in ((ACME, "acme"), (OTHER, "other")):
        made.change(FACTS.format(tenant=tenant, slug=slug))
    build(warehouse_url, FIRST, LAST, as_of=AS_OF, run_id="first")
    yield made
    engine.dispose()


def test_a_day_computed_twice_leaves_every_byte_where_it_was(
    snapshots: Snapshots, warehouse_url: str
) -> None:
    before = snapshots.bytes_of(ACME)
    assert snapshots.values(ACME, "cac_blended") == {"": "33.33"}
    build(warehouse_url, FIRST, LAST, as_of=AS_OF.replace(hour=13), run_id="again")
    assert snapshots.bytes_of(ACME) == before
    assert snapshots.run_ids(ACME) == {"first"}


def test_what_a_removed_row_brought_about_vanishes_and_other_tenants_stay(
    snapshots: Snapshots, warehouse_url: str
) -> None:
    others = snapshots.bytes_of(OTHER)
    assert snapshots.values(ACME, "cac_by_channel") == {
        "": "33.33", "channel=email": "infinite", "channel=unattributed": "undefined"
    }  # fmt: skip
    # From both, so that it is the run's scope and not the facts that spares the other.
    snapshots.change("delete from spine.revenue_events where source_key in ('campaign', 'booking 1')")
    build(warehouse_url, FIRST, LAST, as_of=AS_OF, tenant_ids=[ACME], run_id="corrected")
    assert snapshots.values(ACME, "cac_by_channel") == {"": "undefined", "channel=unattributed": "undefined"}
    assert snapshots.values(ACME, "bookings_count")[""] == "2.00"
    assert snapshots.run_ids(ACME) == {"first", "corrected"}
    assert snapshots.bytes_of(OTHER) == others


def test_a_violated_check_takes_the_delete_back_too(snapshots: Snapshots, warehouse_url: str) -> None:
    before = snapshots.bytes_of(ACME)
    snapshots.change("update staging.int_bookings_daily set booking_rows = -1")
    done = dbt(warehouse_url, "run", "--select", "metric_snapshots_daily", **WINDOW)
    assert done.returncode != 0
    assert "violates check constraint" in done.stdout
    assert snapshots.bytes_of(ACME) == before


def test_a_run_without_a_window_is_refused(
    snapshots: Snapshots, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WINDOW:
        monkeypatch.delenv(name, raising=False)
    done = dbt(warehouse_url, "run", "--select", "metric_snapshots_daily")
    assert done.returncode != 0
    assert "Env var required but not provided: 'DBT_WINDOW_START'" in done.stdout
