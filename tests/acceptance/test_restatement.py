"""What a new fact may change and what it may not: final days stay, a removed fact's effect goes, others' rows keep still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel.landing import folder, load
from samples import END, PROFILES, write_all
from tests.warehouse.build import build

HEALTHY, STRUGGLING = PROFILES[0], PROFILES[1]
FIRST = END - timedelta(days=13)
BOOKED = date(END.year, END.month, 20)
NOW = datetime.combine(END + timedelta(days=1), datetime.min.time(), UTC).replace(hour=12)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str) -> Iterator[sa.Engine]:
    """Two tenants and fourteen days of them, among them a booking that no file holds."""
    landing = tmp_path_factory.mktemp("landing")
    write_all(landing, (HEALTHY, STRUGGLING), scale=0.1)
    engine = sa.create_engine(warehouse_url)
    folder.apply_tenants(engine, landing)
    folder.load_pending(engine, landing, now=NOW)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "insert into spine.revenue_events (tenant_id, type, amount, effective_date, currency)"
                " values (:tenant, 'new_booking', 1, :day, 'USD')"
            ),
            {"tenant": HEALTHY.id, "day": BOOKED},
        )
    build(warehouse_url, FIRST, END, as_of=NOW)
    yield engine
    engine.dispose()


@pytest.fixture
def rebuild(warehouse_url: str) -> Callable[..., None]:
    def _rebuild(**options) -> None:
        build(warehouse_url, FIRST, END, as_of=NOW + timedelta(hours=1), run_id="again", **options)

    return _rebuild


def checksum(engine: sa.Engine, where: str = "true") -> str:
    query = f"select md5(string_agg(s::text || s.ctid::text, '|' order by s::text)) from analytics.metric_snapshots_daily s where {where}"
    with engine.connect() as connection:
        return connection.execute(sa.text(query)).scalar_one()


def test_the_same_days_computed_again_change_not_one_byte(computed: sa.Engine, rebuild) -> None:
    before = checksum(computed)
    rebuild()
    assert checksum(computed) == before


def test_a_stage_change_dated_today_leaves_every_final_day_alone(
    computed: sa.Engine, rebuild, tmp_path: Path
) -> None:
    with computed.connect() as connection:
        deal = connection.execute(
            sa.text(
                "select source_key from spine.opportunities where tenant_id = :tenant"
                " and stage not in ('closed_won', 'closed_lost') and amount > 0 limit 1"
            ),
            {"tenant": HEALTHY.id},
        ).scalar_one()
    final, last = "is_final", f"date = '{END}' and metric_id = 'pipeline_total'"
    before, before_last = checksum(computed, final), checksum(computed, last)
    path = tmp_path / "opportunity_stage_history.csv"
    path.write_text(
        f"opportunity_key,changed_at,stage,amount,currency\n{deal},{END}T20:00:00Z,closed_lost,1,USD\n"
    )
    load.load_path(computed, path, HEALTHY.slug, None, load.Options(now=NOW, source_system="crm"))
    rebuild()
    assert checksum(computed, final) == before
    # The positive control: the day it is dated does change.
    assert checksum(computed, last) != before_last


def test_a_scoped_rerun_removes_a_removed_facts_effect_and_touches_no_other_tenant(
    computed: sa.Engine, rebuild
) -> None:
    booked = f"tenant_id = '{HEALTHY.id}' and metric_id = 'bookings_count' and dimension_key = '' and date = '{BOOKED}'"
    others = f"tenant_id <> '{HEALTHY.id}'"
    before, before_others = _value(computed, booked), checksum(computed, others)
    with computed.begin() as connection:
        connection.execute(sa.text("delete from spine.revenue_events where source_system = 'revenue-os'"))
    rebuild(tenant_ids=[HEALTHY.id])
    assert _value(computed, booked) == before - 1
    assert checksum(computed, others) == before_others


def _value(engine: sa.Engine, where: str) -> int:
    with engine.connect() as connection:
        return int(
            connection.execute(
                sa.text(f"select value from analytics.metric_snapshots_daily where {where}")
            ).scalar_one()
        )
