"""The gate that certificates prove: from which calibrated probability on a tenant's lines may pass.

How they are made of logged predictions stands in the package `ml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa

from kernel.books.settings import Settings
from models.statements import statements


@dataclass(frozen=True, slots=True)
class Gate:
    """From which calibrated probability on lines pass; None: the gate is closed, and `why` says so."""

    threshold: Decimal | None
    why: str | None = None
    certificate: int | None = None


def gate(connection: sa.Connection, tenant_id: UUID, given: Settings, *, at: datetime) -> Gate:
    """The higher one of what the tenant set and what its newest certificate proves."""
    row = connection.execute(
        statements("books_decide")["certificate"], {"tenant_id": tenant_id}
    ).one_or_none()
    if row is None:
        return Gate(None, "nothing is certified yet")
    if row.threshold is None:
        return Gate(None, row.reason, row.number)
    if row.expires_at <= at:
        return Gate(None, f"the certificate ended on {row.expires_at:%Y-%m-%d}", row.number)
    threshold = row.threshold if given.threshold is None else max(given.threshold, row.threshold)
    return Gate(threshold, None, row.number)
