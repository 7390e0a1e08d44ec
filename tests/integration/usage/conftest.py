"""A tenant with a site, in a database that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.integration.usage import capturing, closing


@pytest.fixture(scope="module")
def usage_engine(module_database_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(module_database_url, pool_size=70)
    yield made
    made.dispose()


@pytest.fixture
def shop(usage_engine: sa.Engine) -> capturing.Shop:
    return capturing.shop(usage_engine)


@pytest.fixture
def closer(usage_engine: sa.Engine) -> closing.Closer:
    return closing.closer(usage_engine)
