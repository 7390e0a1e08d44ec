"""Usage under fire: processes that meter a workload and are killed and hindered while they do, and the reckoning.

What is expected is computed from the workload alone. As a program it is one of the processes: it is told batches on its
standard input and answers each on its standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from kernel.usage import close, gate, outbox, plans, recount, recovery, sites
from kernel.usage.events import Event
from kernel.usage.plans import Terms
from kernel.usage.sites import Site
from tests.fakes.usage_workload import AT, LATE_AT, Batch, Workload, events, public_id

CLOSE_AT = datetime(2026, 2, 1, 6, tzinfo=UTC)

# Moments of a capture: a part of the statement after which it is there, or None for those between statements.
MOMENTS = {
    "taken": None,
    "metered": "insert into usage.ingest_idempotency",
    "counted": "update usage.usage_counters",
    "handed on": "insert into usage.usage_outbox",
    "commit": None,
    "committed": None,
}
FAILURES = ("metering", "publishing", "connection", "answer")


class Died(Exception):
    """A process ended while it held a batch."""


class Process:
    """A process that meters batches, one after the other."""

    def __init__(self, url: str, workload: Workload, side_store: Path | None) -> None:
        given = [url, str(workload.seed), str(workload.events), str(workload.tenants), str(workload.batch)]
        path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.usage_fire", *given, str(side_store or "")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip

    def meter(self, number: int, fault: str, kill_after: float | None = None) -> bool:
        """Whether it answered that the batch is metered. Raises Died."""
        try:
            self._process.stdin.write(json.dumps([number, fault]) + "\n")
            if kill_after is not None:
                time.sleep(kill_after)
                self._process.kill()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Died
        return answer == "metered\n"

    def end(self, *, expected: int | None = None) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        status = self._process.wait(60)
        assert expected is None or status == expected, f"a process ended with {status}"


@dataclass
class Tally:
    """What came of it. `over` and `under` are keys in the ledger beyond what was sent, and sent ones that are not."""

    sent: int = 0
    resent: int = 0  # events of batches that were not acknowledged, or whose acknowledgement was lost
    distinct: int = 0
    late: int = 0
    altered: int = 0
    metered: int = 0
    over: int = 0
    under: int = 0
    counted: int = 0  # by the counters
    invoiced: int = 0
    delivered: int = 0  # keys handed on, each as often as it was
    undelivered: int = 0
    late_rows: int = 0  # of the month in which the late ones came
    conflicts: int = 0
    conflicts_lost: int = 0
    conflicts_invented: int = 0
    killed: int = 0
    failed: int = 0
    seconds: float = 0
    spent: dict[str, float] = field(default_factory=dict)


class Fire:
    """Sends a workload to processes until all of it is acknowledged, and kills and hinders them meanwhile.

    With `claims_first` the processes claim keys in a store of its own, as a cache beside the database would be: what is
    claimed there is not written again.
    """

    def __init__(
        self,
        engine: sa.Engine,
        workload: Workload,
        *,
        kills: int,
        failures: int,
        folder: Path,
        processes: int = 2,
        claims_first: bool = False,
    ) -> None:
        self._engine, self._workload, self._processes = engine, workload, processes
        self._side_store = folder / f"claims-{workload.seed}.sqlite" if claims_first else None
        self._chance = Random(f"fire {workload.seed}")
        self._faults = self._choose(kills, failures)
        self._lock = threading.Lock()
        self.tally = Tally()

    def run(self) -> Tally:
        began = time.monotonic()
        numbers = range(len(self._workload.batches))
        self._lap("prepared", self._prepare)
        self._lap("on time", lambda: self._send(n for n in numbers if not self._workload.batches[n].is_late))
        self._lap("recovered and closed", self._close)
        self._lap("late", lambda: self._send(n for n in numbers if self._workload.batches[n].is_late))
        self._lap("reckoned", self._reckon)
        self.tally.seconds = time.monotonic() - began
        return self.tally

    def _lap(self, name: str, step: Callable[[], None]) -> None:
        began = time.monotonic()
        step()
        self.tally.spent[name] = round(time.monotonic() - began, 1)

    def _choose(self, kills: int, failures: int) -> dict[int, str]:
        """By the number of a batch, what happens when it is sent first: every other kill is at any moment.

        One in four meets a late batch, of which nothing is new.
        """
        of_late = (kills + failures) // 4
        late = [n for n, batch in enumerate(self._workload.batches) if batch.is_late]
        on_time = range(len(late))
        chosen = self._chance.sample(on_time, kills + failures - of_late) + self._chance.sample(late, of_late)
        self._chance.shuffle(chosen)
        moments = [*MOMENTS]
        faults = [
            f"kill {moments[n // 2 % len(moments)]}" if n % 2 == 0 else "kill at any moment"
            for n in range(kills)
        ]
        faults += [f"fail {FAILURES[n % len(FAILURES)]}" for n in range(failures)]
        return dict(zip(chosen, faults, strict=True))

    def _prepare(self) -> None:
        with self._engine.begin() as connection:
            for tenant in range(self._workload.tenants):
                name = public_id(tenant)
                tenancy.service(connection)
                tenant_id = tenancy.create(connection, name, name, "USD")
                site = sites.make(connection, tenant_id, name, public_id=name)
                plans.set_plan(
                    connection, tenant_id, site.id, Terms(monthly_limit=10**9), valid_from=AT, actor="fire", at=AT
                )  # fmt: skip
        if self._side_store:
            with sqlite3.connect(self._side_store) as store:
                store.execute("pragma journal_mode = wal")
                store.execute("create table claims (key text primary key) without rowid")

    def _send(self, numbers: Iterator[int]) -> None:
        waiting = deque(numbers)
        left = len(waiting)
        errors: list[BaseException] = []

        def one() -> None:
            nonlocal left
            try:
                process = self._new_process()
                while True:
                    with self._lock:
                        if left == 0 or errors:
                            break
                        number = waiting.popleft() if waiting else None
                        fault = self._faults.pop(number, "")
                    if number is None:
                        time.sleep(0.01)
                        continue
                    is_metered, is_alive = self._meter(process, number, fault)
                    if not is_alive:
                        process = self._new_process()
                    with self._lock:
                        left -= is_metered
                        if not is_metered:
                            waiting.append(number)
                            self.tally.resent += len(self._workload.sent(self._workload.batches[number]))
                process.end(expected=0)
            except BaseException as error:
                errors.append(error)
                raise

        threads = [threading.Thread(target=one) for _ in range(self._processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors

    def _meter(self, process: Process, number: int, fault: str) -> tuple[bool, bool]:
        is_kill = fault.startswith("kill")
        with self._lock:
            self.tally.killed += is_kill
            self.tally.failed += bool(fault) and not is_kill
        at_any = fault == "kill at any moment"
        kill_after = self._chance.uniform(0, 0.1) if at_any else None
        try:
            is_metered = process.meter(number, "" if at_any else fault, kill_after)
        except Died:
            process.end(expected=-signal.SIGKILL)
            assert is_kill, f"a process that was not killed died at {self._workload.batches[number]}"
            return False, False
        if is_kill:
            assert at_any, "a process went on that should have been killed"
            process.end()
        return is_metered, not is_kill

    def _new_process(self) -> Process:
        return Process(
            self._engine.url.render_as_string(hide_password=False), self._workload, self._side_store
        )

    def _close(self) -> None:
        at = AT + timedelta(minutes=1)
        done = recovery.work(self._engine, "fire", lambda: at)
        assert set(done) <= {"RECOVERED"}, done
        for site in self._sites():
            with self._engine.begin() as connection:
                recount.find(connection, site.tenant_id, CLOSE_AT)
            counted = recount.work(self._engine, "fire", lambda: CLOSE_AT, tenant_id=site.tenant_id)
            assert {each.status for each in counted} == {"COMPLETED"}, counted
            with self._engine.begin() as connection:
                done = close.close(connection, site.tenant_id, "2026-01", at=CLOSE_AT, actor="operator")
            self.tally.invoiced += done.events

    def _sites(self) -> list[Site]:
        with self._engine.begin() as connection:
            tenancy.service(connection)
            return [
                sites.by_public_id(connection, public_id(tenant)) for tenant in range(self._workload.tenants)
            ]

    def _reckon(self) -> None:
        for tenant, site in enumerate(self._sites()):
            self._reckon_site(site, self._expected(tenant, site))

    def _expected(self, tenant: int, site: Site) -> dict[str, set[bytes]]:
        """The hashes of the payloads that were sent under each key."""
        payloads_of: set[tuple[int, int]] = set()
        for batch in self._workload.batches:
            if batch.tenant == tenant:
                sent = self._workload.sent(batch)
                payloads_of.update(sent)
                self.tally.sent += len(sent)
                self.tally.late += len(sent) * batch.is_late
                self.tally.altered += sum(variant > 0 for _, variant in sent)
        ordered, expected = sorted(payloads_of), {}
        for event in events(site, ordered, AT):
            expected.setdefault(event.key, set()).add(event.payload_hash)
        assert len(expected) == len({number for number, _ in ordered})
        return expected

    def _reckon_site(self, site: Site, expected: dict[str, set[bytes]]) -> None:
        tally = self.tally
        with self._engine.begin() as connection:
            tenancy.service(connection, site.tenant_id)
            ledger = connection.exec_driver_sql(
                "select idempotency_key, payload_hash, billable, year_month from usage.ingest_idempotency"
            ).all()
            kept = connection.exec_driver_sql(
                "select idempotency_key, payload_hash from usage.usage_conflicts"
            ).all()
            tally.counted += connection.exec_driver_sql(
                "select coalesce(sum(accepted), 0)::bigint from usage.usage_counters"
            ).scalar_one()
            handed = connection.exec_driver_sql("select unnest(keys) from usage.usage_outbox").scalars().all()
        billed = {row.idempotency_key: bytes(row.payload_hash) for row in ledger if row.billable}
        assert len(billed) == len(ledger)
        tally.distinct += len(expected)
        tally.metered += len(billed)
        tally.over += len(billed.keys() - expected.keys())
        tally.under += len(expected.keys() - billed.keys())
        tally.late_rows += sum(row.year_month != "2026-01" for row in ledger)
        tally.delivered += len(handed)
        tally.undelivered += len(billed.keys() - set(handed))
        wanted = {(key, each) for key, sent in expected.items() for each in sent if each != billed.get(key)}
        found = {(row.idempotency_key, bytes(row.payload_hash)) for row in kept}
        tally.conflicts += len(kept)
        tally.conflicts_lost += len(wanted - found)
        tally.conflicts_invented += len(found - wanted)


class _Worker:
    """Meters batches in this process; a fault strikes once, in the batch that it was told with."""

    def __init__(self, url: str, workload: Workload, side_store: str) -> None:
        self._engine, self._workload = sa.create_engine(url), workload
        self._store = sqlite3.connect(side_store, timeout=60) if side_store else None
        self._fault, self._sites = "", {}
        sa.event.listen(self._engine, "before_cursor_execute", self._before)
        sa.event.listen(self._engine, "after_cursor_execute", self._after)
        sa.event.listen(self._engine, "commit", lambda _: self._reach("commit"))

    def work(self, lines: Iterator[str]) -> None:
        for line in lines:
            number, self._fault = json.loads(line)
            batch = self._workload.batches[number]
            try:
                self._reach("taken")
                self._meter(batch)
                self._reach("committed")
                answer = "failed" if self._fault == "fail answer" else "metered"
            except (OSError, sa.exc.SQLAlchemyError):
                if not self._fault:
                    raise
                answer = "failed"
            if self._fault.startswith("kill"):
                # A batch without anything new never came to the moment.
                _die()
            print(answer, flush=True)

    def _meter(self, batch: Batch) -> None:
        at = LATE_AT if batch.is_late else AT
        captured = events(self._site(batch.tenant), self._workload.sent(batch), at)
        if self._store is not None:
            captured = self._claimed(captured)
        publisher = _unavailable if self._fault == "fail publishing" else outbox.write
        with self._engine.begin() as connection:
            gate.capture(connection, captured, at=at, actor="fire", publisher=publisher)
            if self._fault == "fail connection":
                own = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
                with self._engine.connect() as other:
                    other.exec_driver_sql(f"select pg_terminate_backend({own}, 5000)")

    def _claimed(self, captured: list[Event]) -> list[Event]:
        with self._store:
            return [
                event for event in captured
                if self._store.execute("insert or ignore into claims values (?)", (event.key,)).rowcount
            ]  # fmt: skip

    def _site(self, tenant: int) -> Site:
        if tenant not in self._sites:
            with self._engine.begin() as connection:
                self._sites[tenant] = sites.by_public_id(connection, public_id(tenant))
        return self._sites[tenant]

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self._fault == "fail metering" and MOMENTS["metered"] in statement:
            raise OSError("the disk is full")

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        for moment, part in MOMENTS.items():
            if part is not None and part in statement:
                self._reach(moment)

    def _reach(self, moment: str) -> None:
        if self._fault == f"kill {moment}":
            _die()


def _unavailable(*_: Any) -> None:
    raise ConnectionError("the queue is away")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _url, *_numbers, _side_store = sys.argv[1:]
    _Worker(_url, Workload(*map(int, _numbers)), _side_store).work(sys.stdin)
