"""Decisions and postings in a process of its own that is killed at a chosen step, a step being a statement or a commit.

As a program it forks a child for every order that stands on its standard input, and answers how the child ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel.books import decide, journal, review, rules, transfers
from kernel.books.contract import BankLine
from tests.integration.books.deciding import as_it_is, scored

_NAME = "killed"  # of its connections
_CONNECTED = sa.text(
    "select count(*) from pg_stat_activity where datname = current_database() and application_name = :name"
)


class Killing:
    """Runs work in children of one process; used with `with`."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.books_killed", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip

    def __enter__(self) -> Killing:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)
        self._engine.dispose()

    def at(self, step: int, **given: Any) -> bool:
        """Whether it was killed: False when all was done before it came so far.

        Returns when the server has noticed: until then it holds what the dead one held.
        """
        self._process.stdin.write(json.dumps([step, given], default=str) + "\n")
        status = os.waitstatus_to_exitcode(int(self._process.stdout.readline()))
        assert status in (0, -signal.SIGKILL), f"the work failed at step {step}"
        until = time.monotonic() + 30
        with self._engine.connect() as connection:
            while connection.execute(_CONNECTED, {"name": _NAME}).scalar_one():
                assert time.monotonic() < until, "the server keeps the connection of a dead process"
                connection.rollback()
                time.sleep(0.002)
        return status != 0


def _work(engine: sa.Engine, *, tenant_id: str, ids: list[str], waiting: list[str], at: str, by: str) -> None:
    """Decides, books what was decided, and has a person approve what waits: three transactions."""
    tenant, instant = UUID(tenant_id), datetime.fromisoformat(at)
    with engine.begin() as connection:
        lines = transfers.read(connection, tenant, [UUID(each) for each in ids])
        decide.decide(
            connection, tenant, lines, [scored(line.id, "6300", 0.97) for line in lines], run_id="run", at=instant,
            surety=as_it_is,
        )  # fmt: skip
    with engine.begin() as connection:
        journal.book(connection, tenant, at=instant)
    with engine.begin() as connection:
        review.approve(connection, tenant, [UUID(each) for each in waiting], by=by, at=instant)


def _run(url: str, step: int, given: dict[str, Any]) -> None:
    engine, done = sa.create_engine(url, connect_args={"application_name": _NAME}), 0

    def reached(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    # After every statement, and before every commit: a commit that is under way cannot be told from one that is not begun.
    sa.event.listen(engine, "after_cursor_execute", reached)
    sa.event.listen(engine, "commit", reached)
    _work(engine, **given)


def _main(url: str) -> None:
    # What is costly the first time, once for all children.
    warm = BankLine(uuid4(), uuid4(), date(2026, 1, 1), -1, "USD", "x", "", "x")
    rules.evaluate(rules.ruleset(rules.everybodys({})), [warm])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                _run(url, *json.loads(line))
                os._exit(0)
            finally:
                os._exit(1)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
