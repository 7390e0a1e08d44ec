"""One computation of the warehouse at a time: the working sets of a run belong to it alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

_KEY = 7_283_105_002  # any constant that nothing else locks


@contextmanager
def serialized(engine: sa.Engine) -> Iterator[None]:
    """Waits for a running computation to end. The lock dies with its connection, so a killed run frees it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("select pg_advisory_lock(:key)"), {"key": _KEY})
        try:
            yield
        finally:
            connection.execute(sa.text("select pg_advisory_unlock(:key)"), {"key": _KEY})
