"""The two logs of a tenant's books, decisions and audit: whether each row follows from the one before it."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from kernel import chain, tenancy
from models.books import books_audit
from models.books_learning import decisions


def broken(connection: sa.Connection, tenant_id: UUID) -> list[str]:
    """In words, the first row of each log that does not follow; nothing where all do."""
    tenancy.service(connection, tenant_id)
    found = {table.fullname: chain.broken(connection, table, tenant_id) for table in (decisions, books_audit)}
    return [
        f"row {number} of {name} does not follow from the one before it"
        for name, number in found.items()
        if number is not None
    ]
