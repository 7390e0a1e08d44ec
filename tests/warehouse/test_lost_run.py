"""dbt outlives a program that is killed; it must not build for a run that has ended."""

from __future__ import annotations

from datetime import UTC, date, datetime

import sqlalchemy as sa

from kernel.warehouse import lock
from tests.warehouse.build import dbt, window

MODEL = "int_fx_daily"
WINDOW = window(date(2026, 3, 1), date(2026, 3, 2), as_of=datetime(2026, 3, 10, tzinfo=UTC))


def test_dbt_builds_while_its_run_holds_the_lock_and_not_after(warehouse_url: str) -> None:
    engine = sa.create_engine(warehouse_url)
    with lock.serialized(engine) as holder:
        done = dbt(warehouse_url, "run", "--select", f"+{MODEL}", DBT_LOCK_HOLDER=str(holder), **WINDOW)
        assert done.returncode == 0, done.stdout
    done = dbt(warehouse_url, "run", "--select", MODEL, DBT_LOCK_HOLDER=str(holder), **WINDOW)
    assert done.returncode == 1
    assert "the run that this belongs to has ended" in done.stdout
    engine.dispose()
