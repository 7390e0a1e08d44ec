"""Running something while watching what it costs."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
