"""Tables that dbt builds are protected as those of the migrations are."""

from __future__ import annotations

from datetime import UTC, date, datetime

import sqlalchemy as sa

from tests.fakes.policies import not_by_login
from tests.warehouse.build import dbt, window

MODEL = "int_fx_daily"
WINDOW = window(date(2026, 3, 1), date(2026, 3, 2), as_of=datetime(2026, 3, 10, tzinfo=UTC))


def test_the_policies_that_dbt_makes_ask_the_login(warehouse_url: str) -> None:
    engine = sa.create_engine(warehouse_url)
    done = dbt(warehouse_url, "run", "--select", f"+{MODEL}", **WINDOW)
    assert done.returncode == 0, done.stdout
    with engine.connect() as connection:
        made = sa.text("select policyname from pg_policies where tablename = :model order by 1")
        assert list(connection.scalars(made, {"model": MODEL})) == ["analyst", "member", "service"]
        assert not_by_login(connection) == []
    engine.dispose()
