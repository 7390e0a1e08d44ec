"""Work in a process of its own that is killed at a chosen step, a step being a statement or a commit.

What is done there stands in a module of each area, which is the program of that process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

# The step after the last: its work is committed, and nobody was told.
ANSWER = -1
_NAME = "killed"  # of its connections
_CONNECTED = sa.text(
    "select count(*) from pg_stat_activity where datname = current_database() and application_name = :name"
)


class Killing:
    """Runs work in children of one process, whose program is a module that ends with `serve`; used with `with`."""

    def __init__(self, program: str, url: str) -> None:
        self._engine = sa.create_engine(url)
        path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, url],
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
        self._process.stdin.write(json.dumps([step, work, given], default=str) + "\n")
        status = os.waitstatus_to_exitcode(int(self._process.stdout.readline()))
        assert status in (0, -signal.SIGKILL), f"{work} failed at step {step}"
        until = time.monotonic() + 30
        with self._engine.connect() as connection:
            while connection.execute(_CONNECTED, {"name": _NAME}).scalar_one():
                assert time.monotonic() < until, "the server keeps the connection of a dead process"
                connection.rollback()
                time.sleep(0.002)
        return status != 0


def serve(works: Mapping[str, Callable[..., None]]) -> None:
    """Forks a child for every order that stands on standard input, and answers how the child ended."""
    url = sys.argv[1]
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                step, work, given = json.loads(line)
                _run(works[work], url, step, given)
                os._exit(0)
            finally:
                os._exit(1)
        print(os.waitpid(child, 0)[1], flush=True)


def _run(work: Callable[..., None], url: str, step: int, given: dict[str, Any]) -> None:
    engine, done = sa.create_engine(url, connect_args={"application_name": _NAME}), 0

    def reached(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == step:
            _die()

    # After every statement, and before every commit: a commit that is under way cannot be told from one that is not begun.
    sa.event.listen(engine, "after_cursor_execute", reached)
    sa.event.listen(engine, "commit", reached)
    work(engine, **given)
    if step == ANSWER:
        _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
