"""A database that also has the table of daily metrics."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from tests.fakes import measured


@pytest.fixture
def world(engine: sa.Engine) -> sa.Engine:
    measured.prepare(engine)
    return engine
