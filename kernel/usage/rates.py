"""How many events a site may send in a second: a bucket in the memory of each process, by site and nothing else.

A refusal writes nothing. How many a month may have is the plan's: see `kernel.usage.plans`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from uuid import UUID

# A process captures several times as many: one site leaves room for others.
PER_SECOND = 1_000.0


class Limiter:
    """Lets a request through while its site's bucket holds anything, and charges what it carried: a large request is
    paid off before the next one, instead of being refused for its size. A bucket holds what one second fills.

    One thread calls it.
    """

    def __init__(self, per_second: float = PER_SECOND, clock: Callable[[], float] = time.monotonic) -> None:
        if not (math.isfinite(per_second) and per_second > 0):
            raise ValueError(f"a rate of {per_second} events a second lets nothing through")
        self._per_second, self._clock = per_second, clock
        # What was in the bucket, and when. Sites that have proven themselves: there are no more than the database has.
        self._buckets: dict[UUID, tuple[float, float]] = {}

    def wait(self, site_id: UUID) -> float:
        """Seconds until the site may send again; 0 when it may now, and then a request of one event is charged."""
        now = self._clock()
        held, then = self._buckets.get(site_id, (self._per_second, now))
        held = min(self._per_second, held + max(0.0, now - then) * self._per_second)
        if held < 1:
            return (1 - held) / self._per_second
        self._buckets[site_id] = held - 1, now
        return 0.0

    def charge(self, site_id: UUID, events: int) -> None:
        """Further events of a request that was let through."""
        held, then = self._buckets[site_id]
        self._buckets[site_id] = held - events, then
