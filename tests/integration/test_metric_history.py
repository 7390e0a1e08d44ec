"""Reading a metric's history: a dimension that never was is told apart from days without rows."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from kernel import metrics, tenancy
from kernel.errors import RefusedError
from tests.integration.decisions import world


@pytest.fixture
def database(engine: sa.Engine) -> sa.Engine:
    world.prepare(engine)
    world.execute(engine, "create table analytics.metric_definitions (metric_id text)")
    world.execute(engine, "create table analytics.metric_aliases (alias text, metric_id text)")
    world.execute(engine, "insert into analytics.metric_definitions values ('win_rate'), ('pipeline_total')")
    world.execute(engine, "grant select on all tables in schema analytics to revenue_service")
    return engine


def test_an_unknown_dimension_is_refused_with_those_that_exist(database: sa.Engine) -> None:
    tenant = world.add_tenant(database, "one", days=2)
    world.execute(
        database,
        "update analytics.metric_snapshots_daily set dimension_key = 'window=T7'"
        f" where metric_id = 'win_rate' and date = '{world.LAST_DAY}'",
    )
    first = world.LAST_DAY - timedelta(days=1)

    def history(metric: str, key: str) -> int:
        with database.begin() as connection:
            tenancy.service(connection)
            return len(metrics.history(connection, tenant, metric, first, world.LAST_DAY, key))

    assert history("win_rate", "window=T7") == 1
    with pytest.raises(RefusedError, match="win_rate has no dimension 'window=T30': choose among window=T7"):
        history("win_rate", "window=T30")
    with pytest.raises(RefusedError, match="it has its total only"):
        history("pipeline_total", "window=T30")
