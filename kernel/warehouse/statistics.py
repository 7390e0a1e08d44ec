"""The planner's statistics of the facts, refreshed before they are read."""

from __future__ import annotations

import sqlalchemy as sa

from kernel.landing.contracts import FACTS


def refresh(engine: sa.Engine) -> None:
    """Analyzes every fact table. Takes seconds at most: the server samples, it does not read the whole table.

    Autovacuum looks once a minute; a computation that starts right after a load would be planned from nothing, in
    nested loops over tables it takes for empty. A login that does not own the tables is told so by the server and
    nothing happens.
    """
    tables = sorted({fact.table for fact in FACTS.values()})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in tables:
            connection.execute(sa.text(f"analyze {table}"))
