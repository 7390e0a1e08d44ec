"""Workloads 8 and 9: how soon jobs begin once they are due, beside a tenant that floods, and woken by Dagster's sensor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from bench.delivery import Memory, company
from bench.measure import database, migrated, own_server
from kernel import tenancy
from kernel.delivery import send

_REPOSITORY = Path(__file__).resolve().parent.parent
_FLOOD = 20_000  # people of the tenant that floods
_POLL = 0.5  # seconds that an idle worker waits before it asks again
_PATIENCE = timedelta(minutes=20)


@dataclass(frozen=True, slots=True)
class Starts:
    """Seconds from due to begun, of the first jobs of so many tenants; those of the flooding one are not among them."""

    load: str
    jobs: int
    p50: float
    p95: float
    p99: float
    slowest: float


def fairness(tenants: int = 99, seconds: float = 20, turns: int = 2) -> Iterator[Starts]:
    """Small campaigns that become due one after the other, alone and beside a flood, in turns, with one worker."""
    with database() as (engine, _):
        for turn in range(turns):
            for is_flooded in (False, True):
                first = datetime.now(UTC) + timedelta(seconds=tenants * 0.15 + 5)
                others = [
                    company(
                        engine, 10, f"{turn}-{int(is_flooded)}-{number}",
                        scheduled_for=first + timedelta(seconds=seconds * number / tenants),
                    )
                    for number in range(tenants)
                ]  # fmt: skip
                if is_flooded:
                    company(engine, _FLOOD, f"{turn}-flood", chunk_size=100, scheduled_for=first)
                with _working(engine):
                    _until_begun(engine, others)
                yield _waits(engine, "one floods" if is_flooded else "idle", others)


def woken(tenants: int = 100, minutes: float = 5) -> Iterator[Starts]:
    """The same woken by the sensor of a Dagster daemon, over some minutes, beside a flood and a job of a dead worker."""
    with (
        own_server() as running,
        migrated(running, "starts") as engine,
        tempfile.TemporaryDirectory(prefix="revenue-os-home-") as home,
    ):
        dead = company(engine, 10, "dead")
        send.Worker(engine, "dead", lambda _account: Memory(10), lease=timedelta(seconds=1)).claim(1)
        company(engine, _FLOOD, "flood", chunk_size=100)
        first = datetime.now(UTC) + timedelta(seconds=60)
        others = [
            company(
                engine, 10, str(number), scheduled_for=first + timedelta(minutes=minutes * number / tenants)
            )
            for number in range(tenants)
        ]
        with _daemon(running.url("starts"), Path(home)):
            _until_begun(engine, [*others, dead])
        yield _waits(engine, "woken by the sensor", [*others, dead])


class _Slow(Memory):
    """A provider that answers as fast as a good one."""

    def send(self, messages, key):  # type: ignore[no-untyped-def]
        time.sleep(0.02)
        return super().send(messages, key)


@contextmanager
def _working(engine: sa.Engine) -> Iterator[None]:
    """A worker that asks again and again, as `campaign work --forever` does."""
    stop = threading.Event()
    provider = _Slow(10)
    worker = send.Worker(engine, "bench", lambda _account: provider, is_stopping=stop.is_set)

    def go_on() -> None:
        while not stop.is_set():
            send.work(worker)
            stop.wait(_POLL)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _daemon(url: str, home: Path) -> Iterator[None]:
    given = {"DATABASE_URL": url, "REVENUE_OS_HOME": str(home)}
    folder = Path(sys.executable).parent
    environment = {**os.environ, **given}
    told = subprocess.run(
        [sys.executable, "-c", _PREPARE], env=environment, cwd=_REPOSITORY, check=True, capture_output=True, text=True
    ).stdout  # fmt: skip
    environment |= json.loads(told.splitlines()[-1])
    with (home / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            [str(folder / "dagster-daemon"), "run", "-w", str(_REPOSITORY / "workspace.yaml")],
            env=environment, cwd=_REPOSITORY, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _until_begun(engine: sa.Engine, tenants: list[UUID]) -> None:
    """Raises TimeoutError when jobs of the tenants still wait after twenty minutes: no data is no result."""
    until = datetime.now(UTC) + _PATIENCE
    while datetime.now(UTC) < until:
        with engine.begin() as connection:
            tenancy.service(connection)
            if not connection.execute(sa.text(_WAITING), {"tenants": tenants}).scalar_one():
                return
        time.sleep(1)
    raise TimeoutError("jobs that were due never began: see the log of the daemon")


def _waits(engine: sa.Engine, load: str, tenants: list[UUID]) -> Starts:
    with engine.begin() as connection:
        tenancy.service(connection)
        row = connection.execute(sa.text(_FOUND), {"tenants": tenants}).one()
    return Starts(load, row.jobs, *(round(float(each), 2) for each in row[1:]))


_PREPARE = """
import json
from dagster_project import database
from dagster_project.instance import prepare_home
from dagster_project.lib import dbt

database.prepare()
dbt.project()
print(json.dumps(prepare_home()))
"""
_WAITING = """
select count(*) from delivery.job_queue where tenant_id = any(:tenants) and (started_at is null or status = 'locked')
"""
_FOUND = """
select count(*) as jobs, percentile_disc(0.5) within group (order by wait_seconds),
    percentile_disc(0.95) within group (order by wait_seconds), percentile_disc(0.99) within group (order by wait_seconds),
    max(wait_seconds)
from delivery.job_waits(clock_timestamp())
where tenant_id = any(:tenants)
"""
