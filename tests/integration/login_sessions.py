"""What a tenant records of a login, and what a session of it sees."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from kernel import logins
from tests.fakes.approved import Company


def recorded(engine: sa.Engine, of: Company, login: str, person: UUID | None = None) -> str:
    with engine.begin() as connection:
        logins.record(connection, of.id, login, person)
    return login


def tenants_seen(engine: sa.Engine, *before: str) -> list[UUID]:
    with engine.begin() as connection:
        for statement in before:
            connection.exec_driver_sql(statement)
        return list(connection.scalars(sa.text("select id from spine.tenants order by id")))
