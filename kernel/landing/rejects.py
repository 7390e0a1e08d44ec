"""Rows that no load has accepted yet: listing them, writing them to be repaired, closing those a person drops."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.landing.casting import columns_read
from kernel.landing.contracts import FACTS, known_fact
from kernel.landing.mapping import CONTRACT, REJECTED, File, Mapping
from kernel.landing.reader import SURPLUS
from models.ops import load_batches, rejected_rows


@dataclass(frozen=True, slots=True)
class Waiting:
    """A rejected row: where it stands, why it was rejected, and its text by column of the file."""

    id: UUID
    fact: str
    source_system: str
    mapping_name: str
    file_name: str
    line: int
    field: str | None
    reason: str
    row: dict[str, str]
    rejected_at: datetime


@dataclass(frozen=True, slots=True)
class Exported:
    """A file of rejected rows in the format of the file they came from; no mapping means the landing contract."""

    path: Path
    rows: int
    mapping: str | None
    source_system: str


def waiting(
    connection: sa.Connection,
    tenant_id: UUID,
    *,
    fact: str | None = None,
    file_name: str | None = None,
    lines: Sequence[int] = (),
) -> list[Waiting]:
    """In the order of files and lines. Raises RefusedError for an unknown fact."""
    row, batch = rejected_rows.c, load_batches.c
    query = (
        sa.select(
            row.id, row.fact, batch.source_system, batch.mapping_name, row.file_name, row.line_number, row.field,
            row.reason, row.row, row.rejected_at,
        )
        .join(load_batches, sa.and_(batch.tenant_id == row.tenant_id, batch.id == row.batch_id))
        .where(row.tenant_id == tenant_id, row.resolved_at.is_(None))
        .order_by(row.file_name, row.line_number, row.rejected_at)
    )  # fmt: skip
    if fact is not None:
        query = query.where(row.fact == known_fact(fact).name)
    if file_name is not None:
        query = query.where(row.file_name == file_name)
    if lines:
        query = query.where(row.line_number.in_(lines))
    return [Waiting(*found) for found in connection.execute(query)]


def dismiss(
    connection: sa.Connection, tenant_id: UUID, ids: Sequence[UUID], *, who: str, at: datetime
) -> int:
    """Closes rows that a person decides to drop; gives how many were open."""
    row = rejected_rows.c
    closed = (
        rejected_rows.update()
        .where(row.tenant_id == tenant_id, row.id.in_(ids), row.resolved_at.is_(None))
        .values(resolved_at=at, resolved_by=who)
    )
    return connection.execute(closed).rowcount


def export(
    connection: sa.Connection,
    tenant_id: UUID,
    rows: Iterable[Waiting],
    folder: Path,
    mapping_of: Callable[[str], Mapping],
    at: datetime,
) -> list[Exported]:
    """Writes the rows to `<folder>/<mapping or source>/`, a file for each they came from; `at` becomes part of its name.

    From then on the rows are known by file and line of the export, so that loading it closes those without a key
    too. `mapping_of` gives the mapping of a name. Raises RefusedError when one is not to be had, or a file
    cannot be written.
    """
    files: dict[tuple[str, str, str], list[Waiting]] = {}
    for row in rows:
        origin = row.file_name.split(REJECTED)[0]
        files.setdefault((row.mapping_name, row.source_system, origin), []).append(row)
    written = []
    for (mapping_name, source_system, origin), found in files.items():
        mapped = mapping_name != CONTRACT
        name = f"{origin}{REJECTED}{at:%Y%m%d-%H%M%S}.csv"
        path = folder / (mapping_name if mapped else source_system) / name
        spec = mapping_of(mapping_name).file_for(Path(origin)) if mapped else None
        if mapped and spec is None:
            raise RefusedError(
                f"mapping {mapping_name} no longer reads {origin}: give it a pattern that fits"
            )
        # Facts that were fed by one line share it.
        lines: dict[tuple[Any, ...], list[Waiting]] = {}
        for row in found:
            lines.setdefault((row.file_name, row.line, *sorted(row.row.items())), []).append(row)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            first = _write(path, [same[0] for same in lines.values()], spec)
        except OSError as error:
            raise RefusedError(f"{path} cannot be written: {error.strerror}; give another folder") from None
        for number, same in enumerate(lines.values(), first):
            connection.execute(
                rejected_rows.update()
                .where(
                    rejected_rows.c.tenant_id == tenant_id, rejected_rows.c.id.in_([row.id for row in same])
                )
                .values(file_name=name, line_number=number)
            )
        written.append(Exported(path, len(lines), mapping_name if mapped else None, source_system))
    return written


def _write(path: Path, rows: list[Waiting], spec: File | None) -> int:
    """Writes the rows as the file had them; gives the line of the first."""
    names = _columns(rows, spec)
    blanks = spec is not None and spec.format == "whitespace"
    delimiter = " " if blanks else spec.delimiter if spec else ","
    heads = spec.skip_lines if spec and spec.columns else 1
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerows([names] * heads)
        for row in rows:
            values = [row.row.get(name, "") for name in names]
            values += [text for name, text in sorted(row.row.items()) if name.startswith(SURPLUS)]
            if row.field is None and len(values) == len(names):
                # Else the empty ends of a row that is too short would pass for values that are empty.
                values.append("this row was too short: repair it and remove this field")
            writer.writerow([value for value in values if value] if blanks else values)
    return heads + 1


def _columns(rows: list[Waiting], spec: File | None) -> list[str]:
    if spec and spec.columns:
        return spec.columns
    if spec:
        needed = [name for output in spec.outputs for name in sorted(columns_read(output))]
        needed += spec.occurrence_of or []
    else:
        needed = [column.name for column in FACTS[rows[0].fact].columns if column.required]
    present = [name for row in rows for name in row.row if not name.startswith(SURPLUS)]
    return list(dict.fromkeys(needed + present))
