"""Who sends: the site of a write key, remembered for a few seconds so that a request seldom costs a look-up."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from kernel.usage import sites
from kernel.usage.arrivals import BusyError
from kernel.usage.sites import Site

# How long a key that was revoked, or a site that was closed, is taken for what it was.
REMEMBERED_SECONDS = 5.0
_MOST_REMEMBERED = 10_000
_MOST_ASKED = 200  # at a time: keys that nobody made must not fill the memory with questions
_THREADS = 2


class Callers:
    """Of one event loop. Keys stand in memory as hashes."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], float]) -> None:
        self._engine, self._clock = engine, clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="callers")
        self._known: dict[bytes, tuple[float, Site | None]] = {}
        self._asked: dict[bytes, asyncio.Future[Site | None]] = {}

    async def site(self, token: str) -> Site | None:
        """The site whose key it is, a closed one too; None for no key. Raises BusyError, or what the database raised."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        until, site = self._known.get(digest, (0.0, None))
        if self._clock() < until:
            return site
        if digest not in self._asked:
            if len(self._asked) >= _MOST_ASKED:
                raise BusyError
            self._asked[digest] = asyncio.ensure_future(self._ask(digest, token))
        # Of several who wait for one answer, one that hangs up does not take it from the others.
        return await asyncio.shield(self._asked[digest])

    def close(self) -> None:
        self._threads.shutdown()

    async def _ask(self, digest: bytes, token: str) -> Site | None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._find, token)
        finally:
            del self._asked[digest]
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[digest] = self._clock() + REMEMBERED_SECONDS, found
        return found

    def _find(self, token: str) -> Site | None:
        with self._engine.begin() as connection:
            return sites.by_key(connection, token)
