"""The HTTP door as processes: one socket, some workers behind it, an orderly end. The application stands in `http`."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

import uvicorn

from kernel.errors import RefusedError
from kernel.usage import arrivals, counts, rates
from kernel.usage.answers import Build
from kernel.usage.http import Door, app

_BACKLOG = 2_048
# Longer than any request waits for the gate.
_GRACE_SECONDS = 45
_REST_SECONDS = 1.0  # before a worker that ended by itself is started again
_THREADS = 2  # that capture, in each process
_CONNECTIONS = _THREADS + 3  # of each process: write keys, readiness and gauges are asked for beside captures


@dataclass(frozen=True, slots=True)
class Options:
    """`setting` is the version of keys; `rate` is in events a second, for each site and process."""

    url: str
    build: Build
    setting: str = "1"
    rate: float = rates.PER_SECOND
    workers: int = 1


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes requests; port 0 takes any that is free. Raises RefusedError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise RefusedError(
            f"{host}:{port} cannot be listened on ({error}): choose another --host or --port"
        ) from None
    listener.listen(_BACKLOG)
    return listener


def serve(listener: socket.socket, options: Options) -> None:
    """Answers until SIGTERM or SIGINT; then takes nothing more, answers what was taken, and returns."""
    if options.workers == 1:
        _run(listener, options, None, 0)
        return
    _Supervisor(listener, options).run()


class _Supervisor:
    def __init__(self, listener: socket.socket, options: Options) -> None:
        self._listener, self._options = listener, options
        self._context = multiprocessing.get_context("spawn")
        self._counts: Any = self._context.Array("d", counts.WIDTH * options.workers, lock=False)
        self._workers: list[multiprocessing.process.BaseProcess] = []
        self._is_stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._workers = [self._start(place) for place in range(self._options.workers)]
        while not self._is_stopping:
            wait([worker.sentinel for worker in self._workers], timeout=_REST_SECONDS)
            for place, worker in enumerate(self._workers):
                if not worker.is_alive() and not self._is_stopping:
                    time.sleep(_REST_SECONDS)
                    self._workers[place] = self._start(place)
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()

    def _stop(self, *_: Any) -> None:
        self._is_stopping = True

    def _start(self, place: int) -> multiprocessing.process.BaseProcess:
        given = (self._listener, self._options, self._counts, place)
        worker = self._context.Process(target=_run, args=given, daemon=True)
        worker.start()
        return worker


def _run(listener: socket.socket, options: Options, shared: Any, place: int) -> None:
    door = Door(
        arrivals.engine(options.url, _CONNECTIONS), options.build, options.setting, options.rate, _THREADS,
        is_stopping=lambda: server.should_exit,
    )  # fmt: skip
    config = uvicorn.Config(
        app(door, counts.Counts(shared, place)), log_level="warning", access_log=False, server_header=False,
        lifespan="on", timeout_graceful_shutdown=_GRACE_SECONDS, ws="none",
    )  # fmt: skip
    server = uvicorn.Server(config)

    def stop(*_: Any) -> None:
        server.should_exit = True

    # What uvicorn puts back when it has ended, and calls then: the process ends by returning.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if (parent := multiprocessing.parent_process()) is not None:
        # One that was killed took nobody with it: without it nothing would end this process.
        threading.Thread(target=lambda: (wait([parent.sentinel]), stop()), daemon=True).start()
    server.run(sockets=[listener])
