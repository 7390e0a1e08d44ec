"""What a dead and a sleeping worker cost: the same 600 jobs of 100 ms on ours, PgQueuer and Procrastinate.

Two worker processes share the jobs; a few seconds in one of them is killed, or stopped for three lease lengths and woken.
An effect is a line that a process wrote and made durable; for ours it is written by a provider that knows keys, as Resend
does, and a repeated call under a known key writes none.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from bench import peers
from bench.delivery import company
from bench.measure import migrated, own_server
from kernel import tenancy
from kernel.delivery import reconcile, send
from kernel.delivery.providers.base import Capabilities, Message, Outcome
from models import address, server

JOBS, SECONDS, LEASE = 600, 0.1, timedelta(seconds=6)
_LIMIT = 180  # seconds after which what has no effect counts as lost
System = Literal["ours", "PgQueuer", "Procrastinate"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """`takeover_p95` is from the fault to the effects of what the victim held, in leases; None when nothing was held."""

    system: str
    fault: str
    effects: int
    duplicates: int
    lost: int
    late_refused: int | None
    takeover_p95: float | None
    seconds: float


def table() -> Iterator[Outcomes]:
    for fault in ("SIGKILL", "SIGSTOP"):
        for system in ("ours", "PgQueuer", "Procrastinate"):
            yield drive(system, fault)  # type: ignore[arg-type]


def drive(system: System, fault: Literal["SIGKILL", "SIGSTOP"]) -> Outcomes:
    with own_server() as running:
        effects, url = running.data_dir.with_name("effects"), running.url("faults")
        effects.mkdir()
        _fill(system, running)
        started = time.monotonic()
        workers = [_worker(system, url, effects, number) for number in (1, 2)]
        _wait(lambda: len(_read(effects)) > JOBS // 5 + 17, 60)
        hit = time.time()
        victim = workers[0]
        if fault == "SIGKILL":
            victim.kill()
        else:
            victim.send_signal(signal.SIGSTOP)
            waker = threading.Timer(3 * LEASE.total_seconds(), victim.send_signal, [signal.SIGCONT])
            waker.start()
        _wait(lambda: len({line["job"] for line in _read(effects)}) >= JOBS, _LIMIT)
        if fault == "SIGSTOP":
            waker.join()
            time.sleep(2 * SECONDS + 3)  # what the sleeper still does after it woke
        seconds = time.monotonic() - started
        for worker in workers:
            worker.kill()
            worker.wait()
        return _told(system, fault, _read(effects), hit, seconds, url)


def _told(
    system: System, fault: str, lines: list[dict[str, Any]], hit: float, seconds: float, url: str
) -> Outcomes:
    counted = Counter(line["job"] for line in lines)
    # What the victim had begun and somebody else finished: the others' effects of jobs it wrote a beginning of.
    late = sorted(line["at"] - hit for line in lines if line.get("taken_over") and line["at"] > hit)
    p95 = late[int(0.95 * (len(late) - 1))] / LEASE.total_seconds() if late else None
    refused = _refused(url) if system == "ours" else None
    return Outcomes(
        system, fault, len(counted), sum(count - 1 for count in counted.values()), JOBS - len(counted), refused,
        None if p95 is None else round(p95, 2), round(seconds, 1),
    )  # fmt: skip


def _refused(url: str) -> int:
    """How often somebody else settled what a worker had begun: its own word then came too late and changed nothing."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        tenancy.service(connection)
        found = connection.execute(
            sa.text("select count(*) from delivery.attempts where replays > 0")
        ).scalar_one()
    engine.dispose()
    return found


def _fill(system: System, running: server.Server) -> None:
    if system == "ours":
        with migrated(running, "faults") as engine:
            company(engine, JOBS, "faults", chunk_size=30)
        return
    url = running.url("faults")
    address.ensure_database(url)
    peers.install(sa.make_url(url))
    peers.enqueue(system, sa.make_url(url), JOBS)


def _worker(system: System, url: str, effects: Path, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bench.faults", system, url, str(effects), str(number)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=(effects.parent / f"worker{number}.log").open("wb")
    )


def _wait(done: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        time.sleep(0.1)


def _read(effects: Path) -> list[dict[str, Any]]:
    lines = []
    for path in sorted(effects.glob("*.jsonl")):
        lines += [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    begun = {path.name.split("-")[1]: path for path in effects.glob("begun-*")}
    for line in lines:
        path = begun.get(str(line["job"]))
        line["taken_over"] = path is not None and path.read_text() != line["worker"]
    return lines


class _Effects:
    """One worker's durable record. A job's beginning is noted by its first worker."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder, self._worker = folder, worker
        self._lock = threading.Lock()

    def begin(self, job: str) -> None:
        path = self._folder / f"begun-{job}"
        if not path.exists():
            path.write_text(self._worker)

    def end(self, job: str) -> None:
        line = json.dumps({"job": job, "at": time.time(), "worker": self._worker})
        with self._lock, (self._folder / f"{self._worker}.jsonl").open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


class _Keyed:
    """A provider that takes 100 ms and has one effect a key, across processes."""

    capabilities = Capabilities(
        key_window=timedelta(hours=1), wave=10, concurrency=1, timeout=timedelta(seconds=0.25)
    )

    def __init__(self, effects: _Effects, folder: Path) -> None:
        self._effects, self._keys = effects, folder / "keys"
        self._keys.mkdir(exist_ok=True)

    def send(self, messages: Sequence[Message], key: str) -> Sequence[Outcome]:
        (message,) = messages
        job = message.address.split("@")[0]
        self._effects.begin(job)
        time.sleep(SECONDS)
        try:
            (self._keys / key).touch(exist_ok=False)
        except FileExistsError:
            return [Outcome("accepted", message_id=f"m-{key}")]
        self._effects.end(job)
        return [Outcome("accepted", message_id=f"m-{key}")]

    def close(self) -> None: ...


def _run_ours(url: str, effects: _Effects, folder: Path, name: str) -> None:
    provider = _Keyed(effects, folder)
    worker = send.Worker(
        sa.create_engine(url), name, lambda _account: provider, lease=LEASE, margin=timedelta(seconds=1),
        takeover=timedelta(seconds=3), parallel=1,
    )  # fmt: skip
    while True:
        reconcile.sweep(worker)
        reconcile.settle_stalled(worker)
        send.work(worker, max_jobs=1)
        time.sleep(0.05)


if __name__ == "__main__":
    _system, _url, _folder, _number = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]
    _record = _Effects(_folder, f"w{_number}")
    if _system == "ours":
        _run_ours(_url, _record, _folder, f"w{_number}")
    else:
        asyncio.run(peers.work(_system, sa.make_url(_url), LEASE, _record.begin, _record.end, SECONDS))  # type: ignore[arg-type]
