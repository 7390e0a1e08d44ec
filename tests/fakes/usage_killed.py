"""Work on usage in a process of its own that is killed at a chosen step, a step being a statement of its transactions.

As a program it forks a child for every order that stands on its standard input, and answers how the child ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.usage import close, gate, outbox, recount, recovery, sites
from tests.integration.usage.capturing import event

# The step after the last: its work is committed, and nobody was told.
ANSWER = -1
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
            [sys.executable, "-m", "tests.fakes.usage_killed", url],
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

    def at(self, step: int, work: str, **given: Any) -> bool:
        """Whether it was killed: False when the work was done before it came so far.

        Returns when the server has noticed: until then it holds what the dead one held, and others pass that by.
        """
        self._process.stdin.write(json.dumps([step, work, given]) + "\n")
        status = os.waitstatus_to_exitcode(int(self._process.stdout.readline()))
        assert status in (0, -signal.SIGKILL), f"{work} failed at step {step}"
        until = time.monotonic() + 30
        with self._engine.connect() as connection:
            while connection.execute(_CONNECTED, {"name": _NAME}).scalar_one():
                assert time.monotonic() < until, "the server keeps the connection of a dead process"
                connection.rollback()
                time.sleep(0.002)
        return status != 0


def _capture(engine: sa.Engine, *, public_id: str, keys: list[str], at: str, is_away: bool) -> None:
    instant = datetime.fromisoformat(at)
    with engine.begin() as connection:
        site = sites.by_public_id(connection, public_id)
    with engine.begin() as connection:
        gate.capture(
            connection, [event(site, key, at=instant) for key in keys], at=instant, actor="gate",
            publisher=_unavailable if is_away else outbox.write,
        )  # fmt: skip


def _recover(engine: sa.Engine, *, at: str) -> None:
    recovery.work(engine, "killed", lambda: datetime.fromisoformat(at))


def _recount(engine: sa.Engine, *, tenant_id: str, at: str) -> None:
    instant = datetime.fromisoformat(at)
    with engine.begin() as connection:
        recount.find(connection, UUID(tenant_id), instant)
    recount.work(engine, "killed", lambda: instant, tenant_id=UUID(tenant_id))


def _close(engine: sa.Engine, *, tenant_id: str, month: str, at: str) -> None:
    with engine.begin() as connection:
        close.close(connection, UUID(tenant_id), month, at=datetime.fromisoformat(at), actor="operator")


_WORK = {"capture": _capture, "recover": _recover, "recount": _recount, "close": _close}


def _unavailable(*_: Any) -> None:
    raise ConnectionError("the queue is away")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run(url: str, step: int, work: str, given: dict[str, Any]) -> None:
    engine, done = sa.create_engine(url, connect_args={"application_name": _NAME}), 0

    def reached(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == step:
            _die()

    # After every statement, and before every commit: a commit that is under way cannot be told from one that is not begun.
    sa.event.listen(engine, "after_cursor_execute", reached)
    sa.event.listen(engine, "commit", reached)
    _WORK[work](engine, **given)
    if step == ANSWER:
        _die()


def _main(url: str) -> None:
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
