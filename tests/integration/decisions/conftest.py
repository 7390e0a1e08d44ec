"""A migrated database that also has the snapshots' table."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.integration.decisions import world


@pytest.fixture
def database(engine: sa.Engine) -> sa.Engine:
    return world.prepare(engine)
