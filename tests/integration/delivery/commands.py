"""People of a company whose commands are typed, and how what they are told and what is kept are read."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy

OLGA, ANA, MAX = (UUID(int=number) for number in (0xA1, 0xA2, 0xA3))


def one(engine: sa.Engine, query: str, **given: object):
    with engine.begin() as connection:
        tenancy.service(connection)
        return connection.execute(sa.text(query), given).scalar()


def refused(result: SimpleNamespace, told: str) -> bool:
    """One sentence, no traceback, exit code 1."""
    assert (result.code, result.text.count("Error: "), "Traceback" in result.text) == (1, 1, False), (
        result.text
    )
    return told in " ".join(result.text.split())
