"""Posted entries handed to another program, each once: reserved with the bytes of their file, put in place, confirmed.

A process may die at any point: the next export puts the same bytes in the same place. How a format looks stands in
`export_formats`, whole ledgers in `export_ledgers`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books.export_formats import qbo, xero
from kernel.books.export_formats.entry import Line, Posted
from kernel.errors import RefusedError
from models.books import books_audit
from models.books_release import EXPORT_TARGETS
from models.spine import tenants
from models.statements import array, statements

Target = Literal["qbo_csv", "xero_csv"]
_CONTENT: dict[str, Callable[[Sequence[Posted]], bytes]] = {"qbo_csv": qbo.content, "xero_csv": xero.content}
# Files of such a target have no column for the currency: they hold what is in the tenant's own.
_OWN_CURRENCY = ("xero_csv",)
# Of a file: some ten megabytes, which are held in memory while it is made. What is left goes into the next one.
MOST_ENTRIES = 50_000


@dataclass(frozen=True, slots=True)
class Batch:
    """A file that was handed out, or is about to be. `skipped`: posted entries that the target had got before."""

    id: UUID
    target: Target
    status: Literal["pending", "exported"]
    file_name: str
    sha256: str
    entries: int
    lines: int
    skipped: int
    requested_by: str
    requested_at: datetime
    exported_at: datetime | None


@dataclass(frozen=True, slots=True)
class Exported:
    """What one call did. `new`: entries that it handed out, a dead process's too; `skipped`: those that went out before.

    `left_out`: posted entries in a currency that the target has no place for.
    """

    new: int
    skipped: int
    total_lines: int
    left_out: int
    files: tuple[Path, ...]


def export(
    engine: sa.Engine,
    tenant_id: UUID,
    target: Target,
    folder: Path,
    *,
    actor: str,
    at: datetime,
    through: date = date.max,
    most: int = MOST_ENTRIES,
) -> Exported:
    """Writes what was posted up to a day and the target has not got, in files of at most so many entries.

    A batch is confirmed by one caller, whoever reserved it: of several at once one counts its entries as new. Raises
    RefusedError for an unknown target, and when a file cannot be written: its batch waits for the next call.
    """
    if target not in EXPORT_TARGETS:
        raise RefusedError(f"export target {target!r} is unknown: use {' or '.join(EXPORT_TARGETS)}")
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        waiting = list(_execute(connection, "pending", tenant_id, target=target).scalars())
    done: list[Batch] = []
    while True:
        for batch_id in waiting:
            finished = _finish(engine, tenant_id, batch_id, folder, actor=actor, at=at)
            done += [finished] if finished else []
        with engine.begin() as connection:
            reserved = _reserve(connection, tenant_id, target, actor=actor, at=at, through=through, most=most)
        if reserved is None:
            break
        waiting = [reserved]
    new = sum(batch.entries for batch in done)
    with engine.begin() as connection:
        counted = _counts(connection, tenant_id, target, through)
    return Exported(
        new, max(counted.logged - new, 0), sum(batch.lines for batch in done), counted.left_out,
        tuple(folder / batch.file_name for batch in done),
    )  # fmt: skip


def history(connection: sa.Connection, tenant_id: UUID) -> list[Batch]:
    """Every batch, the newest first."""
    tenancy.service(connection, tenant_id)
    return [_batch(row) for row in _execute(connection, "batches", tenant_id)]


def content(connection: sa.Connection, tenant_id: UUID, batch_id: UUID) -> bytes:
    """The bytes of a batch, as they were handed out. Raises RefusedError for one that the tenant has not."""
    tenancy.service(connection, tenant_id)
    found = _execute(connection, "content", tenant_id, id=batch_id).one_or_none()
    if found is None:
        raise RefusedError(f"the tenant has no export {batch_id}: see the history of exports")
    if hashlib.sha256(found.content).hexdigest() != found.sha256:
        raise RefusedError(f"export {batch_id} is not as it was made: its bytes have another SHA-256")
    return found.content


def _reserve(
    connection: sa.Connection,
    tenant_id: UUID,
    target: Target,
    *,
    actor: str,
    at: datetime,
    through: date,
    most: int,
) -> UUID | None:
    """Binds what waits to a new batch, whose bytes are settled herewith; None when nothing waits."""
    tenancy.service(connection, tenant_id)
    _execute(connection, "hold_target", tenant_id, target=target)
    entries = _waiting(connection, tenant_id, target, through, most)
    if not entries:
        return None
    made, batch_id = _CONTENT[target](entries), uuid4()
    _execute(
        connection, "add_batch", tenant_id, id=batch_id, target=target,
        file_name=f"{target.removesuffix('_csv')}-{at:%Y%m%d}-{batch_id.hex[:12]}.csv",
        sha256=hashlib.sha256(made).hexdigest(), entry_count=len(entries),
        skipped_count=_counts(connection, tenant_id, target, through).logged,
        line_count=sum(len(entry.lines) for entry in entries), actor=actor, at=at,
    )  # fmt: skip
    _execute(connection, "add_file", tenant_id, id=batch_id, content=made)
    _execute(
        connection, "add_log", tenant_id, id=batch_id, target=target,
        entries=array(entry.id for entry in entries), external_ids=array(entry.external_id for entry in entries),
    )  # fmt: skip
    return batch_id


def _waiting(
    connection: sa.Connection, tenant_id: UUID, target: Target, through: date, most: int
) -> list[Posted]:
    given = {"target": target, "through": through, "most": most}
    given["currency"] = _currency(connection, tenant_id) if target in _OWN_CURRENCY else None
    rows = _execute(connection, "waiting", tenant_id, **given).all()
    found = _execute(connection, "lines", tenant_id, ids=array(row.id for row in rows))
    lines = {
        entry_id: tuple(Line(*line[1:]) for line in of_entry)
        for entry_id, of_entry in groupby(found, lambda line: line.entry_id)
    }
    replaced = dict(map(tuple, _execute(connection, "replaced", tenant_id)))
    return [
        Posted(
            tenant_id, row.id, row.entry_date, row.currency, row.memo, lines[row.id],
            row.reverses_id, replaced.get(row.id),
        )
        for row in rows
    ]  # fmt: skip


def _finish(
    engine: sa.Engine, tenant_id: UUID, batch_id: UUID, folder: Path, *, actor: str, at: datetime
) -> Batch | None:
    """Puts the file in its place and confirms it; None when somebody else did."""
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        held = _execute(connection, "hold_batch", tenant_id, id=batch_id).one()
        if held.status != "pending":
            return None
        _place(folder, held.file_name, held.content)
        _execute(connection, "confirm", tenant_id, id=batch_id, at=at)
        chain.append(
            connection, books_audit, tenant_id, "export_completed", actor=actor, at=at, batch_id=batch_id,
            target=held.target, file_name=held.file_name, sha256=held.sha256, entries=held.entry_count,
        )  # fmt: skip
        return _batch(held)


def _place(folder: Path, name: str, made: bytes) -> None:
    """The file stands whole under its name, also after a power cut, or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{name}.*.part"):  # of processes that died: whoever is here holds the batch
            left.unlink()
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / name)
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise RefusedError(
            f"export file {name} cannot be written: {error.strerror or error}; make room for it and export again, its"
            " entries wait"
        ) from error


def _counts(connection: sa.Connection, tenant_id: UUID, target: Target, through: date) -> sa.Row[Any]:
    tenancy.service(connection, tenant_id)
    currency = _currency(connection, tenant_id) if target in _OWN_CURRENCY else None
    return _execute(connection, "counts", tenant_id, target=target, through=through, currency=currency).one()


def _currency(connection: sa.Connection, tenant_id: UUID) -> str:
    return connection.execute(
        sa.select(tenants.c.default_currency).where(tenants.c.id == tenant_id)
    ).scalar_one()


def _batch(row: sa.Row[Any]) -> Batch:
    return Batch(
        row.id, row.target, row.status, row.file_name, row.sha256, row.entry_count, row.line_count, row.skipped_count,
        row.requested_by, row.requested_at, row.exported_at,
    )  # fmt: skip


def _execute(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> sa.CursorResult[Any]:
    return connection.execute(statements("books_export")[name], {"tenant_id": tenant_id} | given)
