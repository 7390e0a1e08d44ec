"""What an error of the database says: which rule was broken, and nothing of the row that broke it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from models import engines

NEW = "insert into spine.tenants (slug, name, default_currency, status) values (:slug, 'x', 'EUR', :status)"


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = engines.create(database_url)
    yield made
    made.dispose()


def told(engine: sa.Engine, statement: str, *rows: dict[str, str]) -> tuple[str, str]:
    """Of the error as it is raised, and of the driver's behind it."""
    with pytest.raises(sa.exc.DBAPIError) as raised, engine.begin() as connection:
        for row in rows:
            connection.execute(sa.text(statement), row)
    return str(raised.value), str(raised.value.orig)


@pytest.mark.parametrize(
    ("statuses", "rule"),
    [(["strange"], "tenants_status_check"), (["active", "active"], "tenants_slug_key")],
)
def test_an_error_names_the_rule_and_not_the_row(engine: sa.Engine, statuses: list[str], rule: str) -> None:
    for text in told(engine, NEW, *({"slug": "ann-at-x-co", "status": each} for each in statuses)):
        assert rule in text
        assert "ann-at-x-co" not in text


def test_what_is_no_row_is_still_told(engine: sa.Engine) -> None:
    raising = "do $$ begin raise exception 'it is away' using detail = 'since noon'; end $$"
    assert all("since noon" in text for text in told(engine, raising, {}))
