"""dbt, each time in a process of its own that is forked from one which has imported it: that takes most of a short run.

As a program it is that process: a line of JSON is what to run, and the line it answers with is how that ended.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path


def run(
    arguments: Sequence[str], folder: Path, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """dbt with these arguments and nothing but this environment; `stdout` is all that it printed."""
    server = _server()
    asked = {"arguments": ["dbt", *arguments], "folder": str(folder), "environ": dict(environ)}
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(asked["arguments"], answer["code"], answer["printed"])


@cache
def _server() -> subprocess.Popen[str]:
    # Not as a module: its folder is no place that dbt should import from.
    command = [sys.executable, "-P", __file__]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(started.communicate)  # it ends when nobody can ask it any more
    return started


def _serve() -> None:
    from dbt.cli.main import cli

    import_module("dbt.adapters.postgres")  # as dbt does when it has read the profile

    for line in sys.stdin:
        assert threading.active_count() == 1, "a process with threads cannot be forked safely"
        asked = json.loads(line)
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(reading)
            os.close(writing)
            os.environ.clear()
            os.environ.update(asked["environ"])
            os.chdir(asked["folder"])
            sys.argv[:] = asked["arguments"]
            sys.exit(cli())
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8", errors="replace") as printed:
            text = printed.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "printed": text}), flush=True)


if __name__ == "__main__":
    _serve()
