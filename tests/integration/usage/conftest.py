"""A tenant with a site, in a database that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from kernel.usage import gate
from tests.integration.usage import capturing, closing


@pytest.fixture(scope="module")
def usage_engine(module_database_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(module_database_url, pool_size=70)
    yield made
    made.dispose()


@pytest.fixture(params=["looked up", "tried"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captures look their keys up before they write, and as large ones do: only when one of them was seen before."""
    if request.param == "tried":
        monkeypatch.setattr(gate, "_MANY", 1)


@pytest.fixture
def shop(usage_engine: sa.Engine) -> capturing.Shop:
    return capturing.shop(usage_engine)


@pytest.fixture
def closer(usage_engine: sa.Engine) -> closing.Closer:
    return closing.closer(usage_engine)
