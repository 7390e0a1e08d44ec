"""How statements over many of a tenant's lines are planned.

Of a tenant that came after the last analyze the planner takes one row for thousands: a join in loops would take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_MANY = 1000
_LOOPS = sa.text("select set_config('enable_nestloop', :wanted, true)")


@contextmanager
def without_loops(connection: sa.Connection) -> Iterator[None]:
    """Joins by hash and merge where they can be, until the block ends; when it fails, until the transaction does."""
    connection.execute(_LOOPS, {"wanted": "off"})
    yield
    connection.execute(_LOOPS, {"wanted": "on"})


def afresh(connection: sa.Connection, rows: int) -> None:
    """Before many rows are written that refer to others: has plans made for tables as large as they are by now.

    A session keeps the plans by which it looks up what a row refers to. Of a tenant's first rows any index finds one as soon
    as another, and a plan that settled on the wrong one then reads all of its rows for each that comes after.
    """
    if rows > _MANY:
        connection.exec_driver_sql("discard plans")
