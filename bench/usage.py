"""Workload 10 and 11: files of events into the ledger beside a bare COPY of the same rows, and a large month closed."""

from __future__ import annotations

import io
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import sqlalchemy as sa

from bench.measure import database, fsync_ms
from kernel import members, tenancy
from kernel.usage import close, dispute, plans, recount, sites
from kernel.usage.batch import Intake
from kernel.usage.plans import Terms
from kernel.usage.sites import Site

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
_CLOSE_AT = datetime(2026, 2, 1, 6, tzinfo=UTC)
_COLUMNS = (
    "tenant_id, site_id, idempotency_key, created_at, billing_state, billable, billing_reason, idempotency_version,"
    " event_category, event_action, event_label, plan_id, payload_hash"
)
_BARE = """
create table usage.bare (
    like usage.ingest_idempotency including defaults including generated including constraints including indexes
)
"""
_CHUNK = 20_000  # rows of a bare COPY, as many as a part of a file has
_ROWS = """
insert into usage.ingest_idempotency (
    tenant_id, site_id, idempotency_key, created_at, billing_reason, event_category, event_action, event_label, payload_hash
)
select cast(:tenant_id as uuid), cast(:site_id as uuid), encode(sha256(convert_to(cast(:site_id as text) || n::text, 'UTF8')), 'hex'),
    cast(:at as timestamptz) + n * interval '100 milliseconds', 'default_billable', 'interaction', 'view', 'label ' || n % 1000,
    sha256(int8send(n::bigint))
from generate_series(cast(:first as bigint), cast(:last as bigint)) as n
"""
_MESSAGES = """
insert into usage.usage_outbox (tenant_id, site_id, year_month, keys, payload, created_at)
select cast(:tenant_id as uuid), cast(:site_id as uuid), '2026-01', array_agg(encode(sha256(convert_to(cast(:site_id as text) || n::text, 'UTF8')), 'hex')), '[]', cast(:at as timestamptz)
from generate_series(cast(:first as bigint), cast(:last as bigint)) as n
group by n / 50
"""
_COUNTER = """
insert into usage.usage_counters (tenant_id, site_id, year_month, accepted) values (:tenant_id, :site_id, '2026-01', :rows)
"""


@dataclass(frozen=True, slots=True)
class Turn:
    events: int
    events_per_second: float
    copy_rows_per_second: float
    ratio: float
    fsync_ms: float


def turns(events: int, times: int = 3) -> Iterator[Turn]:
    """Meters a new file and copies its rows bare, in turns; keys, payload hashes and messages are ours alone."""
    with database() as (engine, folder):
        tenant_id, site = shop(engine, "batch")
        with engine.begin() as connection:
            connection.exec_driver_sql(_BARE)
        found = []
        for turn in range(times):
            file = _file(folder / f"{turn}.jsonl", site, events, turn)
            before = fsync_ms(folder)
            started = time.perf_counter()
            taken = Intake(engine, site, "1", "bench", lambda: AT).take(file)
            ours = time.perf_counter() - started
            if taken.statuses["queued"] != events:
                raise RuntimeError(f"{events} events became {dict(taken.statuses)}")
            bare = _copied(engine, tenant_id, events * turn, events)
            probe = (before + fsync_ms(folder)) / 2
            found.append(
                Turn(
                    events, round(events / ours), round(events / bare), round(bare / ours, 2), round(probe, 2)
                )
            )
            yield found[-1]
        yield Turn(
            events,
            statistics.median(turn.events_per_second for turn in found),
            statistics.median(turn.copy_rows_per_second for turn in found),
            statistics.median(turn.ratio for turn in found),
            statistics.median(turn.fsync_ms for turn in found),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """`peak_mib` is of this process, above what it had before."""

    step: str
    rows: int
    seconds: float
    rows_per_second: int
    peak_mib: int


def month(rows: int) -> Iterator[Step]:
    """A month of two sites with half of the rows each: found, counted, closed; then the pack of one of them."""
    with database() as (engine, folder):
        tenant_id, first = shop(engine, "month")
        with engine.begin() as connection:
            members.add(connection, tenant_id, uuid4(), "Ann", "approver")
            second = sites.make(connection, tenant_id, "second")
        for site in (first, second):
            _filled(engine, tenant_id, site.id, rows // 2)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("vacuum analyze usage.ingest_idempotency")
            connection.exec_driver_sql("checkpoint")

        def reconcile() -> None:
            with engine.begin() as connection:
                recount.find(connection, tenant_id, _CLOSE_AT)
            done = recount.work(engine, "bench", lambda: _CLOSE_AT, tenant_id=tenant_id)
            if [each.status for each in done] != ["COMPLETED"] * 2 or any(each.matrix.off for each in done):
                raise RuntimeError(f"the month does not add up: {done}")

        def freeze() -> None:
            with engine.begin() as connection:
                close.close(connection, tenant_id, "2026-01", at=_CLOSE_AT, actor="Ann")

        def export() -> None:
            dispute.export(engine, tenant_id, first.id, "2026-01", folder / "pack", actor="Ann", at=_CLOSE_AT)

        for name, count, step in (
            ("reconcile", rows, reconcile), ("close", rows, freeze), ("export", rows // 2, export),
        ):  # fmt: skip
            with _watched() as peak:
                started = time.perf_counter()
                step()
                seconds = time.perf_counter() - started
            yield Step(name, count, round(seconds, 1), round(count / seconds), round(peak[0]))


def shop(engine: sa.Engine, slug: str) -> tuple[UUID, Site]:
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, slug, "USD")
        site = sites.make(connection, tenant_id, "main", public_id=slug)
        terms = Terms(monthly_limit=10**9, overage_price_per_1k=Decimal(2))
        plans.set_plan(connection, tenant_id, site.id, terms, valid_from=AT, actor="bench", at=AT)
        return tenant_id, site


def _file(path: Path, site: Site, events: int, turn: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for n in range(events):
            payload = {
                "s": site.public_id, "url": f"https://shop.example/p/{n % 997}", "ec": "interaction", "ea": "view",
                "el": f"button {n % 13}", "sid": f"session {n % 5000}", "meta": {"fp": f"visitor {turn}.{n}"},
            }  # fmt: skip
            file.write(f"{json.dumps(payload)}\n")
    return path


def _copied(engine: sa.Engine, tenant_id: UUID, offset: int, rows: int) -> float:
    """Seconds of copying the newest rows of the ledger into a table with the same columns and keys, in as many parts."""
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        read = io.BytesIO()
        newest = f"select {_COLUMNS} from usage.ingest_idempotency order by txid offset {offset} limit {rows}"
        with cursor.copy(f"copy ({newest}) to stdout") as copy:
            for line in copy:
                read.write(line)
        lines = read.getvalue().splitlines(keepends=True)
        parts = [b"".join(lines[first : first + _CHUNK]) for first in range(0, rows, _CHUNK)]
        connection.commit()
        started = time.perf_counter()
        for part in parts:
            with cursor.copy(f"copy usage.bare ({_COLUMNS}) from stdin") as copy:
                copy.write(part)
            connection.commit()
        return time.perf_counter() - started


def _filled(engine: sa.Engine, tenant_id: UUID, site_id: UUID, rows: int, at_once: int = 500_000) -> None:
    """Rows as a gate writes them, with their messages and their count."""
    given = {"tenant_id": tenant_id, "site_id": str(site_id), "at": datetime(2026, 1, 1, tzinfo=UTC)}
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        connection.execute(
            sa.text("insert into usage.usage_periods (tenant_id, year_month) values (:tenant_id, '2026-01') on conflict do nothing"),
            given,
        )  # fmt: skip
        connection.execute(sa.text(_COUNTER), given | {"rows": rows})
    for first in range(0, rows, at_once):
        named = given | {"first": first, "last": min(first + at_once, rows) - 1}
        with engine.begin() as connection:
            tenancy.service(connection, tenant_id)
            connection.execute(sa.text(_ROWS), named)
            connection.execute(sa.text(_MESSAGES), named)


@contextmanager
def _watched() -> Iterator[list[float]]:
    """The greatest memory of this process within, above what it had when it was entered, in MiB."""
    process, ended = psutil.Process(), threading.Event()
    before, peak = process.memory_info().rss, [0.0]

    def look() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], (process.memory_info().rss - before) / 2**20)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
