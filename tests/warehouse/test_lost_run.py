"""dbt outlives a program that is killed; it must not build for a run that has ended."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.warehouse import lock
from tests.warehouse.build import dbt

MODEL = "int_fx_daily"
WINDOW = {
    "DBT_WINDOW_START": "2026-03-01",
    "DBT_WINDOW_END": "2026-03-03",
    "DBT_AS_OF": "2026-03-10T00:00:00Z",
    "DBT_RUN_ID": "test",
    "DBT_TENANT_IDS": "",
}


def test_dbt_builds_while_its_run_holds_the_lock_and_not_after(engine: sa.Engine, database_url: str) -> None:
    with lock.serialized(engine) as holder:
        done = dbt(database_url, "run", "--select", f"+{MODEL}", DBT_LOCK_HOLDER=str(holder), **WINDOW)
        assert done.returncode == 0, done.stdout
    done = dbt(database_url, "run", "--select", MODEL, DBT_LOCK_HOLDER=str(holder), **WINDOW)
    assert done.returncode == 1
    assert "the run that this belongs to has ended" in done.stdout
