"""Workload 1: facts of many tenants loaded, then a year of metrics computed in one run, at growing sizes."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import sqlalchemy as sa

from bench.measure import run
from kernel.landing import folder
from models import address, migrate, server
from samples import END, tenants, write_all

# With 50 tenants and 400 days this makes about two million facts.
_FULL_SCALE = 0.45


@dataclass(frozen=True, slots=True)
class Point:
    """One size: facts loaded, loader speed, and what computing the days cost."""

    size: str
    facts: int
    load_rows_per_second: float
    compute_seconds: float
    milliseconds_per_tenant_day: float
    snapshot_rows: int
    peak_mib: float


def curve(
    tenant_count: int, days: int, largest: float = 1.0, sizes: tuple[int, ...] = (1, 2, 4, 8)
) -> Iterator[Point]:
    """Measures each size in turn; the last one has `largest` times about two million facts per 50 tenants."""
    with tempfile.TemporaryDirectory(prefix="revenue-os-bench-") as scratch:
        home = Path(scratch)
        started = server.start(home / "postgres")
        try:
            for size in sizes:
                scale = _FULL_SCALE * largest * size / sizes[-1]
                yield _point(started, home / f"size-{size}", f"{size}x", tenant_count, days, scale)
        finally:
            server.stop(home / "postgres", "immediate")


def _point(
    running: server.Server, home: Path, size: str, tenant_count: int, days: int, scale: float
) -> Point:
    url = running.url(f"bench_{size}")
    address.ensure_database(url)
    migrate.upgrade(url)
    write_all(home / "generated", tenants(tenant_count), scale=scale)
    engine = sa.create_engine(url)
    folder.apply_tenants(engine, home / "generated")
    before = time.monotonic()
    report = folder.load_pending(
        engine, home / "generated", now=datetime.combine(END, datetime.min.time(), UTC) + timedelta(days=2)
    )
    loading = time.monotonic() - before
    facts = sum(counts.inserted + counts.updated for counts in report.facts.values())
    engine.dispose()
    environment = {**os.environ, "DATABASE_URL": url, "REVENUE_OS_HOME": str(home / "state")}
    command = [str(Path(sys.executable).with_name("revenue-os")), "metrics", "backfill", "--json"]
    command += ["--from", (END - timedelta(days=days - 1)).isoformat(), "--to", END.isoformat()]
    postmaster = int((running.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
    cost = run(command, environment, also=[psutil.Process(postmaster).pid])
    told = json.loads(cost.output.strip().splitlines()[-1])
    return Point(
        size,
        facts,
        round(facts / loading),
        round(cost.seconds, 1),
        round(cost.seconds * 1000 / (tenant_count * days), 2),
        told["rows"],
        round(cost.peak_mib),
    )
