"""The door as processes: what they share, and how they end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import pytest

from kernel.errors import RefusedError
from kernel.usage import server, sites
from tests.integration.usage.capturing import AT, Shop

_PROGRAM = """
import sys
from kernel.usage import server
from kernel.usage.answers import Build
if __name__ == "__main__":
    listener = server.listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    server.serve(listener, server.Options(sys.argv[1], Build("2.1.0"), workers=int(sys.argv[2])))
"""


class Served:
    def __init__(self, process: subprocess.Popen[str], shop: Shop, token: str) -> None:
        self.process, self.shop, self.token = process, shop, token
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, json.dumps(body), {"authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def send(self, name: str) -> str:
        status, text = self.ask("POST", "/api/sync", {"s": self.shop.site.public_id, "url": name, "ea": name})
        assert status == 200, text
        return json.loads(text)["status"]

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def children(self) -> list[int]:
        """Its workers; the process that tracks resources of Python is none."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            # One that was killed is a zombie until its parent asks for it.
            with suppress(psutil.Error):
                if any("spawn_main" in word for word in child.cmdline()):
                    found.append(child.pid)
        return found


@contextmanager
def _serving(shop: Shop, workers: int) -> Iterator[Served]:
    with shop.engine.begin() as connection:
        token = sites.make_key(connection, shop.site, actor="ann", at=AT).token
    url = shop.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", _PROGRAM, url, str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    served = Served(process, shop, token)
    try:
        _until(served.is_ready)
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_asked_to_end_ends_well(shop: Shop, workers: int) -> None:
    with _serving(shop, workers) as served:
        assert (served.send("a"), served.send("a")) == ("queued", "duplicate")
        served.process.terminate()
        assert served.process.wait(30) == 0
        with pytest.raises(OSError, match=r"refused|reset"):
            served.ask("GET", "/healthz")
    shop.agrees()


def test_workers_count_together_and_one_that_dies_is_replaced(shop: Shop) -> None:
    with _serving(shop, 2) as served:
        for number in range(12):
            served.send(str(number))
        assert "billing_ingest_allowed_total 12" in served.ask("GET", "/metrics")[1]
        _until(lambda: len(served.children()) == 2)
        first = served.children()
        os.kill(first[0], signal.SIGKILL)
        _until(lambda: len(served.children()) == 2 and served.children() != first)
        _until(served.is_ready)
        assert served.send("after") == "queued"


def test_workers_do_not_outlive_a_killed_parent(shop: Shop) -> None:
    with _serving(shop, 2) as served:
        served.process.kill()
        served.process.wait(10)
        _until(lambda: not served.is_ready())


def test_an_address_that_cannot_be_had_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RefusedError, match="cannot be listened on"):
            server.listen("127.0.0.1", other.getsockname()[1])
        with pytest.raises(RefusedError, match="cannot be listened on"):
            server.listen("127.0.0.1", 70_000)
