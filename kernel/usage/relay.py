"""Handing published messages on to whoever reads usage: each at least once, under an id that never changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from models.statements import array, statements

BATCH = 100
# In JSON they stand between its parts alone, never within a text.
_LINE_BREAKS = str.maketrans("\r\n", "  ")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with the names its reader knows; `payloads` are the events' JSON in the order of their keys."""

    id: UUID
    tenant: str
    site: str
    keys: list[str]
    payloads: list[str]
    at: datetime


# Raises when it could not take the parcel for good; one that was taken before is taken again without a second effect.
Sink = Callable[[Parcel], None]


def folder(root: Path) -> Sink:
    """Writes a file of JSON lines for each message, under the tenant and the day; a file that is there is complete."""

    def write(parcel: Parcel) -> None:
        day = root / parcel.tenant / f"{parcel.at:%Y-%m-%d}"
        file = day / f"{parcel.id}.jsonl"
        try:
            if file.exists():
                return
            day.mkdir(parents=True, exist_ok=True)
            put(parcel, file)
        except OSError as error:
            raise RefusedError(
                f"{day} cannot be written ({error.strerror}): what waits is handed on when it can"
            ) from error

    def put(parcel: Parcel, file: Path) -> None:
        named = {"site": parcel.site}
        lines = (
            f'{json.dumps(named | {"key": key})[:-1]}, "payload": {payload.translate(_LINE_BREAKS)}}}\n'
            for key, payload in zip(parcel.keys, parcel.payloads, strict=True)
        )
        part = file.with_suffix(".part")
        with part.open("w", encoding="utf-8", newline="\n") as target:
            target.writelines(lines)
            target.flush()
            os.fsync(target.fileno())
        part.replace(file)

    return write


def work(engine: sa.Engine, sink: Sink, clock: Callable[[], datetime], *, batches: int = 1000) -> int:
    """Hands on what waits, the oldest first; how many messages. A sink that raises ends it: what it took stays taken."""
    done = 0
    for _ in range(batches):
        with engine.begin() as connection:
            tenancy.service(connection)
            waiting = connection.execute(_sql("take_on"), {"most": BATCH}).all()
            for row in waiting:
                sink(Parcel(row.id, row.tenant, row.site, row.keys, row.payloads, row.created_at))
            given = {
                "tenants": array(row.tenant_id for row in waiting),
                "ids": array(row.id for row in waiting),
            }
            connection.execute(_sql("handed_on"), given | {"at": clock()})
        done += len(waiting)
        if len(waiting) < BATCH:
            break
    return done


def _sql(name: str) -> sa.TextClause:
    return statements("usage_recovery")[name]
