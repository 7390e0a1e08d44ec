"""Workload 1: facts of many tenants loaded, then a year of metrics computed in one run, at growing sizes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.measure import migrated, own_server, run
from kernel.landing import folder
from models import server
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
    with own_server() as running:
        for size in sizes:
            home = running.data_dir.with_name(f"size-{size}")
            scale = _FULL_SCALE * largest * size / sizes[-1]
            yield _point(running, home, f"{size}x", tenant_count, days, scale)


def _point(
    running: server.Server, home: Path, size: str, tenant_count: int, days: int, scale: float
) -> Point:
    name = f"bench_{size}"
    write_all(home / "generated", tenants(tenant_count), scale=scale)
    with migrated(running, name) as engine:
        folder.apply_tenants(engine, home / "generated")
        before = time.monotonic()
        now = datetime.combine(END, datetime.min.time(), UTC) + timedelta(days=2)
        report = folder.load_pending(engine, home / "generated", now=now)
        loading = time.monotonic() - before
    facts = sum(counts.inserted + counts.updated for counts in report.facts.values())
    environment = {**os.environ, "DATABASE_URL": running.url(name), "REVENUE_OS_HOME": str(home / "state")}
    command = [str(Path(sys.executable).with_name("revenue-os")), "metrics", "backfill", "--json"]
    command += ["--from", (END - timedelta(days=days - 1)).isoformat(), "--to", END.isoformat()]
    cost = run(command, environment, running)
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
