"""Workload 2: the loader against a bare COPY of the same events, taken in turns."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from bench.measure import database
from kernel import tenancy
from kernel.landing import load

_NOW = datetime(2026, 7, 1, tzinfo=UTC)
_HEADER = "source_key,occurred_at,event_type,contact_key,properties\n"


@dataclass(frozen=True, slots=True)
class Turn:
    rows: int
    loader_rows_per_second: float
    copy_rows_per_second: float
    ratio: float


def turns(rows: int, times: int = 3) -> Iterator[Turn]:
    """Loads a new file of events and copies it bare, `times` times; the last turn holds the medians."""
    with database() as (engine, folder):
        with engine.begin() as connection:
            tenancy.service(connection)
            tenancy.create(connection, "bench", "Bench", "USD")
        _contacts(engine, folder)
        found = []
        for turn in range(times):
            file = _events(folder / "events.csv", rows, turn)
            found.append(_turn(engine, file, rows))
            yield found[-1]
        yield Turn(
            rows,
            statistics.median(turn.loader_rows_per_second for turn in found),
            statistics.median(turn.copy_rows_per_second for turn in found),
            statistics.median(turn.ratio for turn in found),
        )


def _turn(engine: sa.Engine, file: Path, rows: int) -> Turn:
    before = time.monotonic()
    report = load.load_path(engine, file, "bench", None, load.Options(now=_NOW))
    loading = time.monotonic() - before
    assert report.outcomes[0].inserted == rows
    before = time.monotonic()
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "create table bare (source_key text, occurred_at timestamptz, event_type text, contact_key text, properties jsonb)"
            )
        )
        cursor = connection.connection.driver_connection.cursor()
        with cursor.copy("copy bare from stdin (format csv, header)") as copy, file.open("rb") as source:
            while block := source.read(1 << 20):
                copy.write(block)
    copying = time.monotonic() - before
    with engine.begin() as connection:
        connection.execute(sa.text("drop table bare"))
    return Turn(rows, round(rows / loading), round(rows / copying), round(loading / copying, 1))


def _contacts(engine: sa.Engine, folder: Path) -> None:
    file = folder / "contacts.csv"
    file.write_text("source_key,email\n" + "".join(f"c{n},c{n}@example.com\n" for n in range(20_000)))
    load.load_path(engine, file, "bench", None, load.Options(now=_NOW))


def _events(file: Path, rows: int, turn: int) -> Path:
    draw = random.Random(turn)
    kinds = ("email_sent", "email_opened", "page_view", "lead_created", "meeting_booked")
    with file.open("w", encoding="utf-8") as out:
        out.write(_HEADER)
        for number in range(rows):
            at = _NOW - timedelta(seconds=draw.randrange(400 * 86_400))
            contact = f"c{draw.randrange(20_000)}" if number % 5 else ""
            properties = json.dumps({"message_id": f"m{number}"}).replace('"', '""')
            out.write(
                f'e{turn}-{number},{at:%Y-%m-%dT%H:%M:%SZ},{kinds[number % 5]},{contact},"{properties}"\n'
            )
    return file
