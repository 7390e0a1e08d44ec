"""Running something while watching what it costs."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall seconds, and the peak of the private memory of the processes, in MiB."""

    seconds: float
    peak_mib: float
    output: str


def run(command: Sequence[str], environment: Mapping[str, str], also: Sequence[int] = ()) -> Cost:
    """Runs a command to its end; `also` names further processes whose children count, such as the database's.

    Raises RuntimeError with the last lines of its output when it fails.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        list(command), env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak, stop = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=([process.pid, *also], peak, stop), daemon=True)
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
