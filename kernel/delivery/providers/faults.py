"""What the simulator does wrong, how often, and decided how: by a seed and the request alone, so that it repeats."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

# Nothing was done; something was done and not said; it is said in a way that none can use.
BEFORE = ("rate_limited", "refused", "unauthorized", "error_before", "reset_before")
AFTER = ("error_after", "reset_after", "silent", "drip", "malformed", "no_id", "short")
FAULTS = (*BEFORE, *AFTER)


@dataclass(frozen=True, slots=True)
class Faults:
    """`rates` are shares of requests, by fault; together at most 1. Latency is up to so many seconds."""

    seed: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)
    latency_seconds: float = 0

    def __post_init__(self) -> None:
        if unknown := set(self.rates) - set(FAULTS):
            raise ValueError(f"{', '.join(sorted(unknown))} is no fault: choose from {', '.join(FAULTS)}")
        if min(self.rates.values(), default=0) < 0 or sum(self.rates.values()) > 1:
            raise ValueError("the rates of faults are shares between 0 and 1, together at most 1")

    def of(self, request: str, nth: int) -> tuple[str | None, float]:
        """The fault and the latency of the nth time that a request comes."""
        chance = random.Random(f"{self.seed}:{request}:{nth}")  # noqa: S311 - to repeat, not to hide
        latency, drawn = chance.uniform(0, self.latency_seconds), chance.random()
        for fault in FAULTS:
            drawn -= self.rates.get(fault, 0)
            if drawn < 0:
                return fault, latency
        return None, latency
