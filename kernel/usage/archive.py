"""Retention: months that are closed and whose keys have expired leave the ledger, once they stand in files.

A file holds the very lines that the month's snapshot is bound to, and is read again before a row is deleted, and when
its lines are handed out.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import audit, evidence, periods, verify
from models.statements import statements, texts
from models.usage import RETENTION_DAYS

_AT_ONCE = 10_000  # rows that one transaction deletes
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Month:
    """A site's month that may leave the ledger; `is_archived` when only the deletion was left."""

    tenant_id: UUID
    tenant: str
    site_id: UUID
    site: str
    year_month: str
    rows: int
    is_archived: bool


def due(connection: sa.Connection, *, at: datetime, tenant_id: UUID | None = None) -> list[Month]:
    """The months of all tenants, or one, that may leave the ledger: closed, with their last key expired."""
    tenancy.service(connection, tenant_id)
    given = {"at": at, "days": RETENTION_DAYS, "only_tenant": tenant_id}
    return [
        Month(
            row.tenant_id,
            row.tenant,
            row.site_id,
            row.site,
            row.year_month,
            row.row_count,
            row.archived is not None,
        )
        for row in connection.execute(_sql("archivable"), given)
    ]


def archive(engine: sa.Engine, month: Month, root: Path, *, at: datetime, actor: str) -> Path:
    """Writes the month's file, proves it by the snapshot, notes it, and deletes the rows; the file.

    Repeated after a failure it goes on. Raises RefusedError, with every row left, when the file is not what was invoiced,
    and when the month's keys have not expired by the database's clock.
    """
    name = f"{month.tenant}/{month.year_month}/usage-{month.site_id}-{month.year_month}.csv.gz"
    file = root / name
    given = {"tenant_id": month.tenant_id, "site_id": month.site_id, "month": month.year_month}
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        tenancy.service(connection, month.tenant_id)
        _refuse_early(connection, month.year_month)
        known = connection.execute(_sql("archived"), given).first()
        if known is None:
            _write(connection, month, file)
        frozen = evidence.snapshots(
            connection, month.tenant_id, month=month.year_month, site_id=month.site_id
        )[0]
    sha256, rows = _read(file, month.year_month)
    if not _agrees(rows, frozen):
        raise RefusedError(f"{file} is not what was invoiced of {month.year_month}: nothing was deleted")
    with engine.begin() as connection:
        tenancy.service(connection, month.tenant_id)
        noted = connection.execute(
            _sql("note_archive"),
            given | {"place": name, "sha256": sha256, "row_count": frozen["row_count"],
                     "merkle_root": frozen["merkle_root"], "at": at},
        )  # fmt: skip
        if noted.rowcount:
            audit.append(
                connection, month.tenant_id, "month_archived", actor=actor, at=at, site_id=month.site_id,
                year_month=month.year_month, rows=frozen["row_count"], sha256=sha256, place=name,
            )  # fmt: skip
    _delete(engine, month, given)
    return file


def _refuse_early(connection: sa.Connection, month: str) -> None:
    """By the clock that guards the rows: the caller's may be ahead of it."""
    now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    expired = periods.bounds(month)[1] + timedelta(days=RETENTION_DAYS)
    if now < expired:
        raise RefusedError(
            f"{month} leaves the ledger from {expired:%Y-%m-%d} on, and the database's clock says {now:%Y-%m-%d %H:%M}:"
            " put this machine's clock right"
        )


def _write(connection: sa.Connection, month: Month, file: Path) -> None:
    part = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as raw:
            # Without a time of writing in it, the same month is the same bytes.
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as target:
                target.write(verify.HEADER + b"\n")
                evidence.rows_of(connection, month.tenant_id, month.site_id, month.year_month, target.write)
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(file)
    except OSError as error:
        raise RefusedError(f"{file.name} cannot be written to {file.parent}: {error.strerror}") from None


def rows_of(
    connection: sa.Connection,
    tenant_id: UUID,
    site_id: UUID,
    month: str,
    root: Path,
    write: Callable[[bytes], object],
) -> verify.Rows | None:
    """Reads the lines of a site's month that left the ledger, and writes them; None when they stand there still.

    Raises RefusedError when the file is not the one that was written: what was handed to `write` counts for nothing
    then.
    """
    given = {"tenant_id": tenant_id, "site_id": site_id, "month": month}
    known = connection.execute(_sql("archived"), given).mappings().first()
    if known is None:
        return None
    file = root / known["place"]
    sha256, rows = _read(file, month, write)
    if sha256 != known["sha256"] or not _agrees(rows, known):
        raise RefusedError(
            f"{file} is not what was archived of {month}, nothing is handed out: put the one back that was written"
        )
    return rows


def _read(file: Path, month: str, write: Callable[[bytes], object] | None = None) -> tuple[str, verify.Rows]:
    """The file's SHA-256, and its lines as anybody else would read them."""
    digest, rows = hashlib.sha256(), verify.Rows(month)
    for piece in _pieces(file, open):
        digest.update(piece)
    pieces, header = _pieces(file, gzip.open), verify.HEADER + b"\n"
    first = next(pieces, b"")
    if not first.startswith(header):
        raise RefusedError(f"{file} is no archive of usage: put the one back that was written")
    try:
        for piece in chain([first[len(header) :]], pieces):
            rows.feed(piece)
            if write is not None:
                write(piece)
    except verify.PackError as error:
        raise RefusedError(f"{file} cannot be read ({error}): put the one back that was written") from None
    rows.end()
    return digest.hexdigest(), rows


def _pieces(file: Path, opened: Callable[[Path, str], Any]) -> Iterator[bytes]:
    try:
        with opened(file, "rb") as source:
            while piece := source.read(_PIECE):
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise RefusedError(f"{file} cannot be read ({error}): put the one back that was written") from None


def _agrees(rows: verify.Rows, frozen: Mapping[str, Any]) -> bool:
    found = rows.tree.root().hex(), rows.row_count
    return not rows.findings and found == (frozen["merkle_root"], frozen["row_count"])


def _delete(engine: sa.Engine, month: Month, given: Mapping[str, Any]) -> None:
    """Reads the month once: whoever asked for the next rows anew would step over those that went before, again and again."""
    begins, ends = periods.bounds(month.year_month)
    bounded = {**given, "begins": begins, "ends": ends}
    with engine.connect() as reading:
        tenancy.service(reading, month.tenant_id)
        with evidence.by_pages(reading):
            keys = reading.execute(
                _sql("keys_of_month"), bounded, execution_options={"yield_per": _AT_ONCE}
            ).scalars()
            for some in keys.partitions(_AT_ONCE):
                with engine.begin() as connection:
                    tenancy.service(connection, month.tenant_id)
                    connection.execute(_sql("delete_archived"), {**given, "keys": texts(list(some))})
    with engine.begin() as connection:
        tenancy.service(connection, month.tenant_id)
        connection.execute(_sql("delete_messages"), bounded)


def _sql(name: str) -> sa.TextClause:
    return statements("usage_watch")[name]
