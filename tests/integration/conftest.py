"""What the suites of several subsystems start from."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from models import rls
from tests.fakes.approved import Company, company
from tests.integration.actions.proposals import people


@pytest.fixture
def of(engine: sa.Engine) -> Company:
    """A tenant with a campaign to change, whose people are olga, ana and max."""
    made = company(engine)
    people(engine, made.id)
    return made


@pytest.fixture
def make_login(engine: sa.Engine) -> Iterator[Callable[..., str]]:
    """Makes a login of the server, in `revenue_member` unless told otherwise; it goes with the test."""
    made: list[str] = []

    def make(rest: str = f"in role {rls.MEMBER}") -> str:
        made.append(f"login_{uuid.uuid4().hex[:12]}")
        with engine.begin() as connection:
            connection.exec_driver_sql(f"create role {made[-1]} login {rest}")
        return made[-1]

    yield make
    with engine.begin() as connection:
        for name in made:
            connection.exec_driver_sql(f"drop role {name}")
