"""Requests that wait for the gate, captured together: one transaction for what came of a tenant meanwhile.

Nothing is acknowledged here before its transaction is committed. How requests come in and what they are answered
stands with the door.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from kernel.usage import gate, outbox
from kernel.usage.events import Event, Outcome
from models import engines

# What takes a process a few seconds to capture, and what one transaction holds of a site's lock at most.
MOST_WAITING = 20_000  # events
_MOST_WAITING_BYTES = 64 * 2**20
_MOST_AT_ONCE = 2_000  # events
_MOST_AT_ONCE_BYTES = 16 * 2**20
_LOCK_SECONDS, _STATEMENT_SECONDS, _CONNECT_SECONDS = 5, 30, 3


class BusyError(Exception):
    """So much waits already that nothing more is taken; nothing was begun for this one."""


@dataclass(frozen=True, slots=True)
class _Request:
    events: Sequence[Event]
    size: int  # bytes
    outcomes: Future[list[Outcome]] = field(default_factory=Future)


def engine(url: str, connections: int) -> sa.Engine:
    """For a door: no wait for a lock or a server lasts longer than its clients wait."""
    made = engines.create(
        url, pool_size=connections, max_overflow=0, pool_timeout=_LOCK_SECONDS, pool_pre_ping=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS},
    )  # fmt: skip

    @sa.event.listens_for(made, "connect")
    def _limit(connection: object, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"set lock_timeout = '{_LOCK_SECONDS}s'")
            cursor.execute(f"set statement_timeout = '{_STATEMENT_SECONDS}s'")
        connection.commit()

    return made


class Arrivals:
    """A bounded queue with a few threads behind it, each with a connection of its own while it captures.

    A tenant is captured by one thread at a time: whoever holds a lock of one tenant for long, holds up no other.
    """

    def __init__(
        self,
        engine: sa.Engine,
        clock: Callable[[], datetime],
        *,
        threads: int = 2,
        actor: str = "http",
        publisher: outbox.Publisher = outbox.write,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._engine, self._clock, self._actor, self._publisher = engine, clock, actor, publisher
        self._most_waiting = most_waiting
        self._change = threading.Condition()
        self._waiting: dict[UUID, deque[_Request]] = {}
        # Tenants that wait, in the order in which they came; one that is being captured is not among them.
        self._ready: deque[UUID] = deque()
        self._captured: set[UUID] = set()
        self._count = self._bytes = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"gate-{number}") for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Events that nobody has begun with."""
        return self._count

    def put(self, events: Sequence[Event]) -> Future[list[Outcome]]:
        """Events of one request and one site: captured together or not at all, an outcome for each.

        Raises BusyError. The future raises what the capture raised: nothing of the request was metered then, or the
        connection broke while it was committed and the same request again tells what became of it.
        """
        tenant_id, request = (
            events[0].site.tenant_id,
            _Request(events, sum(len(event.payload) for event in events)),
        )
        with self._change:
            count, size = self._count + len(events), self._bytes + request.size
            if self._closed or count > self._most_waiting or size > _MOST_WAITING_BYTES:
                raise BusyError
            self._count, self._bytes = count, size
            if tenant_id not in self._waiting:
                self._waiting[tenant_id] = deque()
                if tenant_id not in self._captured:
                    self._ready.append(tenant_id)
                    self._change.notify()
            self._waiting[tenant_id].append(request)
        return request.outcomes

    def close(self) -> None:
        """Takes nothing more, and returns when everything that was taken has been captured and answered."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            tenant_id, requests = taken
            # What nobody waits for any more is not begun; from here on nobody can turn away.
            if begun := [request for request in requests if request.outcomes.set_running_or_notify_cancel()]:
                self._capture(begun)
            with self._change:
                self._captured.remove(tenant_id)
                # This thread or another takes it next: one that is done looks for more.
                if tenant_id in self._waiting:
                    self._ready.append(tenant_id)

    def _take(self) -> tuple[UUID, list[_Request]] | None:
        with self._change:
            while not self._ready:
                if self._closed:
                    return None
                self._change.wait()
            tenant_id = self._ready.popleft()
            queue, requests, count, size = self._waiting[tenant_id], [], 0, 0
            while queue and (not requests or _fits(count + len(queue[0].events), size + queue[0].size)):
                requests.append(queue.popleft())
                count += len(requests[-1].events)
                size += requests[-1].size
            if not queue:
                del self._waiting[tenant_id]
            self._captured.add(tenant_id)
            self._count -= count
            self._bytes -= size
            return tenant_id, requests

    def _capture(self, requests: list[_Request]) -> None:
        events = [event for request in requests for event in request.events]
        try:
            with self._engine.begin() as connection:
                outcomes = gate.capture(
                    connection, events, at=self._clock(), actor=self._actor, publisher=self._publisher
                )
        except Exception as error:
            if len(requests) == 1 or _is_away(error):
                for request in requests:
                    request.outcomes.set_exception(error)
                return
            # One of them is the reason: the others do not pay for it.
            for request in requests:
                self._capture([request])
            return
        place = 0
        for request in requests:
            request.outcomes.set_result(outcomes[place : place + len(request.events)])
            place += len(request.events)


def _fits(count: int, size: int) -> bool:
    return count <= _MOST_AT_ONCE and size <= _MOST_AT_ONCE_BYTES


def _is_away(error: Exception) -> bool:
    """Whether it is the server that failed, or somebody's lock: each request alone would fare alike."""
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError)
