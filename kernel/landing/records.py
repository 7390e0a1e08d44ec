"""What loads have left behind: recent files and what became of them. Rows that were rejected stand in `rejects`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from models.ops import load_batches
from models.spine import tenants


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What became of one file for one fact; `error` says why a file was refused."""

    tenant: str
    file: str
    fact: str
    source: str
    state: str
    read: int
    new: int
    replaced: int
    unchanged: int
    rejected: int
    at: datetime
    error: str | None


def recent(
    connection: sa.Connection, tenant_id: UUID | None = None, *, refused: bool = False, limit: int = 50
) -> list[FileRecord]:
    """The newest first. With `refused`, the files of whose content nothing was accepted, once each."""
    batch = load_batches.c
    nothing = sa.or_(
        batch.status == "failed", sa.and_(batch.rows_read > 0, batch.rows_rejected == batch.rows_read)
    )
    query = (
        sa.select(
            tenants.c.slug, batch.file_name, batch.fact, batch.source_system,
            sa.case((nothing, "refused"), else_=batch.status), batch.rows_read, batch.rows_inserted,
            batch.rows_updated, batch.rows_unchanged, batch.rows_rejected, batch.started_at, batch.error,
        )
        .join(tenants, tenants.c.id == batch.tenant_id)
        .order_by(batch.started_at.desc(), tenants.c.slug, batch.file_name)
        .limit(limit)
    )  # fmt: skip
    if tenant_id is not None:
        query = query.where(batch.tenant_id == tenant_id)
    if refused:
        later = load_batches.alias("later")
        same = sa.and_(
            later.c.tenant_id == batch.tenant_id,
            later.c.file_sha256 == batch.file_sha256,
            later.c.file_name == batch.file_name,
            later.c.source_system == batch.source_system,
        )
        accepted = sa.and_(later.c.status == "loaded", later.c.rows_read > later.c.rows_rejected)
        newer = sa.and_(later.c.fact == batch.fact, later.c.started_at > batch.started_at)
        query = query.where(nothing, ~sa.exists().where(same, sa.or_(accepted, newer)))
    return [FileRecord(*row) for row in connection.execute(query)]
