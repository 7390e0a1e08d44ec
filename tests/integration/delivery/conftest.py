"""A world of its own per module: tenants, launched campaigns, and workers that are processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from quality.certification.delivery.world import World


@pytest.fixture(scope="module")
def world(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    engine = sa.create_engine(module_database_url)
    made = World(engine, tmp_path_factory.mktemp("provider"))
    yield made
    made.leave()
    engine.dispose()
