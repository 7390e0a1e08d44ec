"""A tenant with a chart of accounts, in a database that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.integration.books import bookkeeping


@pytest.fixture(scope="module")
def books_engine(module_database_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(module_database_url)
    yield made
    made.dispose()


@pytest.fixture
def books(books_engine: sa.Engine) -> bookkeeping.Books:
    return bookkeeping.books(books_engine)
