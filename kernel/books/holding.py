"""Whose turn it is: of those who book a tenant's lines or change what may be booked, one at a time.

It is taken first of all, before months and audits are held, so that nobody who has a turn waits for one who waits for it.
"""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from kernel import chain, tenancy
from models.books import journal_entries


def hold(connection: sa.Connection, tenant_id: UUID) -> None:
    """The tenant's books are the caller's until its transaction ends; it is pinned to the tenant."""
    tenancy.service(connection, tenant_id)
    chain.hold(connection, journal_entries, tenant_id)
