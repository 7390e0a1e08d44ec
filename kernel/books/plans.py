"""How statements over all of a tenant's lines are planned.

Of a tenant that came after the last analyze the planner takes one row for thousands: a join in loops would take minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_LOOPS = sa.text("select set_config('enable_nestloop', :wanted, true)")


@contextmanager
def without_loops(connection: sa.Connection) -> Iterator[None]:
    """Joins by hash and merge where they can be, until the block ends; when it fails, until the transaction does."""
    connection.execute(_LOOPS, {"wanted": "off"})
    yield
    connection.execute(_LOOPS, {"wanted": "on"})
