"""The simulator's callbacks: told in time or late, once or twice, by a thread of their own."""

from __future__ import annotations

import hashlib
import heapq
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from kernel.delivery.providers.dialects import Callback
from kernel.http import Client, NoAnswer, NotSent


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Where events are told, so long after the effect; `duplicates` is the share that is told twice.

    Twilio's go to the address in the request instead, signed with the token of its caller.
    """

    url: str = ""
    secret: str = ""
    delay_seconds: float = 0
    duplicates: float = 0


class Teller:
    """What cannot be told is dropped, as providers do in the end. `waiting` counts what is still to be told."""

    def __init__(self, settings: Callbacks, clock: Callable[[], datetime]) -> None:
        self._settings, self._clock = settings, clock
        self._due: list[tuple[float, int, Callable[[datetime], Callback | None]]] = []
        self._numbers = count()
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self.waiting = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def later(self, made: Callable[[datetime], Callback | None], id_: str) -> None:
        """`made` gets the time when it is told, for that is signed."""
        due = time.monotonic() + self._settings.delay_seconds
        share = int(hashlib.sha256(id_.encode()).hexdigest()[:8], 16) / (1 << 32)
        with self._lock:
            for _ in range(2 if share < self._settings.duplicates else 1):
                heapq.heappush(self._due, (due, next(self._numbers), made))
                self.waiting += 1

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closed.is_set():
            with self._lock:
                is_due = bool(self._due) and self._due[0][0] <= time.monotonic()
                made = heapq.heappop(self._due)[2] if is_due else None
            if made is None:
                self._is_closed.wait(0.02)
                continue
            if (callback := made(self._clock())) is not None:
                with suppress(NotSent, NoAnswer, ValueError):
                    Client(callback.url, timeout_seconds=5).ask(
                        "POST", "", callback.content, callback.headers
                    )
            with self._lock:
                self.waiting -= 1
