"""What workloads run on and are measured by: servers and databases of their own, costs of commands, speeds of disks."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import sqlalchemy as sa

from models import address, migrate, server


@contextmanager
def own_server() -> Iterator[server.Server]:
    """A server; what else a workload makes may stand beside its data directory, and is removed with it."""
    with tempfile.TemporaryDirectory(prefix="revenue-os-bench-") as scratch:
        data_dir = Path(scratch) / "postgres"
        running = server.start(data_dir)
        try:
            yield running
        finally:
            server.stop(data_dir, "immediate")


@contextmanager
def migrated(running: server.Server, name: str = "bench") -> Iterator[sa.Engine]:
    """A new database on the server, with the newest schema; closed afterwards, it may be copied."""
    url = running.url(name)
    address.ensure_database(url)
    migrate.upgrade(url)
    engine = sa.create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def database() -> Iterator[tuple[sa.Engine, Path]]:
    """A migrated database on a server of its own, and the folder of that."""
    with own_server() as running, migrated(running) as engine:
        yield engine, running.data_dir.parent


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall seconds, and the peak of the private memory of the processes, in MiB."""

    seconds: float
    peak_mib: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str], running: server.Server) -> Cost:
    """Runs a command to its end; the processes of the server it works on count as its own.

    Raises RuntimeError with the last lines of its output when it fails.
    """
    postmaster = int((running.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
    started = time.monotonic()
    process = subprocess.Popen(
        list(command), env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak, stop = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=([process.pid, postmaster], peak, stop), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    stop.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {output[-3000:]}")
    return Cost(time.monotonic() - started, peak[0] / 2**20, output)


def _watch(roots: Sequence[int], peak: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        total = 0
        for root in roots:
            try:
                family = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
            except psutil.Error:
                continue
            for process in family:
                try:
                    # Private memory: what the processes share would be counted once for each.
                    total += process.memory_full_info().uss
                except psutil.Error:
                    continue
        peak[0] = max(peak[0], float(total))


def fsync_ms(folder: Path, times: int = 20) -> float:
    """The median of writing a page to a folder and making it durable: what a disk is worth at this moment."""
    path, taken = folder / "probe", []
    with path.open("wb") as file:
        for _ in range(times):
            started = time.perf_counter()
            file.write(b"x" * 8192)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    path.unlink()
    return statistics.median(taken) * 1000
