"""Tables that dbt builds are protected as those of the migrations are."""

from __future__ import annotations

import sqlalchemy as sa

from tests.fakes.policies import not_by_login
from tests.warehouse.build import dbt

MODEL = "int_fx_daily"
WINDOW = {
    "DBT_WINDOW_START": "2026-03-01",
    "DBT_WINDOW_END": "2026-03-03",
    "DBT_AS_OF": "2026-03-10T00:00:00Z",
    "DBT_RUN_ID": "test",
    "DBT_TENANT_IDS": "",
}


def test_the_policies_that_dbt_makes_ask_the_login(engine: sa.Engine, database_url: str) -> None:
    done = dbt(database_url, "run", "--select", f"+{MODEL}", **WINDOW)
    assert done.returncode == 0, done.stdout
    with engine.connect() as connection:
        made = sa.text("select policyname from pg_policies where tablename = :model order by 1")
        assert list(connection.scalars(made, {"model": MODEL})) == ["analyst", "member", "service"]
        assert not_by_login(connection) == []
