"""The HTTP door: POST /api/sync for events, and what a deployment asks of a server.

The order is fixed: who sends, how often, what it is, whether it is new, whether its month has room, handing it on.
What is answered stands in `answers`, the last three in `kernel.usage.gate`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kernel import tenancy
from kernel.usage import outbox, payloads, rates
from kernel.usage.answers import Answers, Build, Item
from kernel.usage.arrivals import MOST_WAITING, Arrivals, BusyError
from kernel.usage.callers import Callers
from kernel.usage.counts import Counts
from kernel.usage.events import Event, Outcome
from kernel.usage.keys.payload import InvalidPayloadError
from kernel.usage.sites import Site
from models import migrate
from models.statements import statements

MOST_EVENTS = 50
MOST_BYTES = 256 * 1024
_TOO_MANY = "batch_too_many_events"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """What the door is made with. `setting` is the version of keys (`keys.version`), `rate` events a second and site."""

    engine: sa.Engine
    build: Build
    setting: object = "1"
    rate: float = rates.PER_SECOND
    threads: int = 2
    most_waiting: int = MOST_WAITING
    publisher: outbox.Publisher = outbox.write
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ticks: Callable[[], float] = time.monotonic
    is_stopping: Callable[[], bool] = lambda: False


def app(door: Door, counts: Counts | None = None) -> Starlette:
    """The application. Whoever ends it lets it answer first what it has taken."""
    serving = _Serving(door, counts or Counts())

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        serving.begin()
        try:
            yield
        finally:
            await run_in_threadpool(serving.end)

    routes = [
        Route("/api/sync", serving.sync, methods=["POST"]),
        Route("/api/sync", serving.preflight, methods=["OPTIONS"]),
        Route("/healthz", serving.healthz, methods=["GET"]),
        Route("/readyz", serving.readyz, methods=["GET"]),
        Route("/metrics", serving.metrics, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class _Serving:
    def __init__(self, door: Door, counts: Counts) -> None:
        self._door, self._counts = door, counts
        self._limiter = rates.Limiter(door.rate, door.ticks)
        self._arrivals: Arrivals
        self._callers: Callers

    def begin(self) -> None:
        door = self._door
        self._callers = Callers(door.engine, door.ticks)
        self._arrivals = Arrivals(
            door.engine, door.clock, threads=door.threads, publisher=door.publisher, most_waiting=door.most_waiting
        )  # fmt: skip

    def end(self) -> None:
        self._arrivals.close()
        self._callers.close()
        self._door.engine.dispose()

    async def preflight(self, request: Request) -> Response:
        return Answers(self._door.build, request.headers.get("origin")).preflight()

    async def sync(self, request: Request) -> Response:
        begun = time.perf_counter()
        try:
            return await self._answer(request)
        except _Refusal as refusal:
            self._counts.add(refusal.counted, refusal.events)
            return refusal.answer
        finally:
            self._counts.took(time.perf_counter() - begun)
            self._counts.waits(self._arrivals.waiting)

    async def _answer(self, request: Request) -> Response:
        site, answers = await self._sender(request)
        body = await _body(request, answers)
        if seconds := self._limiter.wait(site.id):
            raise _Refusal("rate_limited", answers.rate_limited(seconds))
        try:
            is_batch, values, bodies = _items(body)
        except InvalidPayloadError as error:
            raise _Refusal(
                "invalid", answers.invalid(error, 413 if error.code == _TOO_MANY else 400)
            ) from None
        self._limiter.charge(site.id, len(values) - 1)
        items: list[Any] = payloads.events(
            site, values, setting=self._door.setting, clock=[self._door.clock()] * len(values), bodies=bodies
        )
        events = [item for item in items if isinstance(item, Event)]
        self._counts.add("invalid", len(items) - len(events))
        outcomes = iter(await self._captured(events, answers) if events else ())
        items = [next(outcomes) if isinstance(item, Event) else item for item in items]
        self._count(items)
        if is_batch:
            return answers.batch(items, self._door.clock())
        return answers.invalid(items[0]) if not events else answers.single(items[0], self._door.clock())

    async def _sender(self, request: Request) -> tuple[Site, Answers]:
        """The site that sends, and how to answer it."""
        answers, origin = Answers(self._door.build), request.headers.get("origin")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            told = "missing_write_key", "Send a header Authorization: Bearer with a write key of the site."
            raise _Refusal("unauthorized", answers.unauthorized(401, *told))
        try:
            site = await self._callers.site(token.strip())
        except BusyError:
            raise _Refusal("unavailable", answers.busy()) from None
        except sa.exc.SQLAlchemyError as error:
            raise _closed(answers, error, 1) from error
        if site is None:
            told = "wrong_write_key", "The write key is unknown or revoked: send one that is in use."
            raise _Refusal("unauthorized", answers.unauthorized(403, *told))
        if site.status != "active":
            told = "site_closed", "The site was closed and takes nothing any more: stop sending."
            raise _Refusal("unauthorized", answers.unauthorized(403, *told))
        if origin is not None and origin not in site.origins:
            told = "origin_not_allowed", "The site takes nothing from this origin: add it to the site's."
            raise _Refusal("unauthorized", answers.unauthorized(403, *told))
        return site, Answers(self._door.build, origin)

    async def _captured(self, events: list[Event], answers: Answers) -> list[Outcome]:
        try:
            return await asyncio.wrap_future(self._arrivals.put(events))
        except BusyError:
            raise _Refusal("unavailable", answers.busy()) from None
        except Exception as error:
            # Whatever it was: the gate is closed, and nothing was taken.
            raise _closed(answers, error, len(events)) from error

    def _count(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item, Outcome):
                self._counts.add("allowed" if item.status == "queued" else item.status)
                self._counts.add("overage", item.is_overage and item.status in ("queued", "degraded"))
                self._counts.add("conflict", item.is_conflict)

    async def healthz(self, _request: Request) -> Response:
        """That the process answers: nothing else is asked."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """Whether requests may be sent here."""
        if self._door.is_stopping():
            return PlainTextResponse("shutting down\n", 503)
        try:
            why = await run_in_threadpool(_missing, self._door.engine)
        except sa.exc.SQLAlchemyError:
            why = "the database cannot be reached"
        return PlainTextResponse(f"{why or 'ready'}\n", 503 if why else 200)

    async def metrics(self, _request: Request) -> Response:
        try:
            gauges = await run_in_threadpool(_gauges, self._door.engine)
        except sa.exc.SQLAlchemyError:
            gauges = {"billing_database_up": 0.0}
        return PlainTextResponse(self._counts.text(gauges), media_type="text/plain; version=0.0.4")


class _Refusal(Exception):
    """A request that ends here: what it counts as, and its answer."""

    def __init__(self, counted: str, answer: Response, events: int = 1) -> None:
        super().__init__(counted)
        self.counted, self.answer, self.events = counted, answer, events


def _closed(answers: Answers, error: Exception, events: int) -> _Refusal:
    _log.error("billing gate closed: %s", error)
    return _Refusal("gate_closed", answers.gate_closed(), events)


async def _body(request: Request, answers: Answers) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MOST_BYTES:
                error = InvalidPayloadError(
                    "body_too_large", f"The body has more than {MOST_BYTES} bytes; send less at once."
                )
                raise _Refusal("invalid", answers.invalid(error, 413))
            parts.append(part)
    except ClientDisconnect:
        # Nobody reads the answer.
        raise _Refusal("invalid", answers.busy()) from None
    return b"".join(parts)


def _items(body: bytes) -> tuple[bool, list[Any], list[bytes | None]]:
    """Whether it is a batch, its payloads, and the JSON of those whose text is known. Raises InvalidPayloadError."""
    value, text = payloads.decoded(body)
    if isinstance(value, dict) and "s" not in value and isinstance(value.get("events"), list):
        value = value["events"]
    if not isinstance(value, list):
        return False, [value], [text]
    if not value:
        raise InvalidPayloadError("events_empty", "The request has no events; send at least one.")
    if len(value) > MOST_EVENTS:
        raise InvalidPayloadError(
            _TOO_MANY,
            f"The request has {len(value)} events and may have {MOST_EVENTS}: send the rest in others.",
        )
    return True, value, [None] * len(value)


def _missing(engine: sa.Engine) -> str | None:
    """What the database lacks, in a sentence."""
    with engine.connect() as connection:
        # A newer one than this program's is not missing: what migrates goes first.
        found = connection.execute(statements("usage_doors")["revision"]).scalar()
    return None if found and found >= _head() else "migrations are not applied: run revenue-os db migrate"


@cache
def _head() -> str:
    return migrate.head() or ""


def _gauges(engine: sa.Engine) -> dict[str, float]:
    with engine.begin() as connection:
        tenancy.service(connection)
        told = connection.execute(statements("usage_doors")["gauges"]).one()
    return {"billing_database_up": 1.0} | {name: float(value) for name, value in told._mapping.items()}
