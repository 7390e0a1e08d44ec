"""What the HTTP door has counted, in the text that Prometheus reads. No invoice is made of it: the ledger is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, MutableSequence

# Events, but requests where their events are not known: what is refused before it is read.
COUNTERS = {
    "allowed": "Events that were new and handed on, overage among them.",
    "duplicate": "Events that were metered before.",
    "rejected_quota": "Events that their month has no room for.",
    "overage": "Events allowed or degraded beyond the monthly limit.",
    "degraded": "Events that were new and kept to be handed on later.",
    "conflict": "Duplicates that came with another payload than the one that was metered.",
    "invalid": "Events without a key, and requests that cannot be read.",
    "rate_limited": "Requests beyond their site's rate.",
    "unauthorized": "Requests without a write key that is in use, or from a foreign origin.",
    "unavailable": "Requests that found too much waiting.",
    "gate_closed": "Events of requests that failed in the database.",
}
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_NAMES = tuple(COUNTERS)
# Of a process: its counters, requests by their duration, the seconds of all of them, and what waits.
WIDTH = len(_NAMES) + len(SECONDS) + 1 + 2


class Counts:
    """The counts of one process, in its part of what all processes of a door share."""

    def __init__(self, shared: MutableSequence[float] | None = None, process: int = 0) -> None:
        self._shared: MutableSequence[float] = [0.0] * WIDTH if shared is None else shared
        self._start = process * WIDTH

    def add(self, name: str, count: int = 1) -> None:
        self._shared[self._start + _NAMES.index(name)] += count

    def took(self, seconds: float) -> None:
        """A request, from its first byte to its answer."""
        place = self._start + len(_NAMES)
        self._shared[place + bisect_left(SECONDS, seconds)] += 1
        self._shared[self._start + WIDTH - 2] += seconds

    def waits(self, events: int) -> None:
        self._shared[self._start + WIDTH - 1] = events

    def text(self, gauges: Mapping[str, float]) -> str:
        """Of all processes together, and what else was measured."""
        rows = range(0, len(self._shared), WIDTH)
        sums = [sum(self._shared[row + column] for row in rows) for column in range(WIDTH)]
        return "".join(_lines(sums, gauges))


def _lines(sums: list[float], gauges: Mapping[str, float]) -> Iterator[str]:
    for name, value in zip(_NAMES, sums, strict=False):
        metric = f"billing_ingest_{name}_total"
        yield f"# HELP {metric} {COUNTERS[name]}\n# TYPE {metric} counter\n{metric} {value:.0f}\n"
    metric, reached = "billing_ingest_request_seconds", 0.0
    yield f"# HELP {metric} How long requests took.\n# TYPE {metric} histogram\n"
    for bound, value in zip((*map(str, SECONDS), "+Inf"), sums[len(_NAMES) :], strict=False):
        reached += value
        yield f'{metric}_bucket{{le="{bound}"}} {reached:.0f}\n'
    yield f"{metric}_sum {sums[-2]:.6f}\n{metric}_count {reached:.0f}\n"
    for metric, value in {"billing_ingest_waiting_events": sums[-1], **gauges}.items():
        yield f"# TYPE {metric} gauge\n{metric} {value:g}\n"
