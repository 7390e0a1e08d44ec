"""Alembic's entry: one connection, one transaction per migration, one lock so that two starts do not race."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from models.every import metadata

_OURS = {"spine", "ops", "delivery", "usage", "books"}
_LOCK = 7_283_105_001  # any constant, the same in every process


def _only_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "schema" or name in _OURS


engine = sa.create_engine(context.config.attributes["url"])
with engine.connect() as connection:
    connection.execute(sa.text("select pg_advisory_lock(:lock)"), {"lock": _LOCK})
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        include_name=_only_ours,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(sa.text("select pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    connection.commit()
engine.dispose()
