"""A workload of usage: what clients send, with duplicates, late ones and altered ones, computed from a seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from random import Random

from kernel.usage import payloads
from kernel.usage.events import Event
from kernel.usage.sites import Site

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
LATE_AT = AT + timedelta(days=60)

_NEW, _LATE, _ALTERED = 0.7, 0.1, 0.05  # shares: of all events, of duplicates, of duplicates


@dataclass(frozen=True, slots=True)
class Batch:
    """The events that are new with it have the numbers from `first` to before `last`."""

    tenant: int
    number: int
    first: int
    last: int
    is_late: bool


@dataclass(frozen=True)
class Workload:
    """What clients send: 30 % are duplicates, a tenth of these 60 days late, one in twenty with another payload."""

    seed: int
    events: int
    tenants: int
    batch: int = 200  # new events of a batch on average

    @cached_property
    def batches(self) -> list[Batch]:
        """Those on time in the order they are sent first, then those that are late."""
        chance, made = Random(f"{self.seed}"), []
        for tenant in range(self.tenants):
            new = round(self.events * _NEW / self.tenants)
            first = number = 0
            while first < new:
                last = min(new, first + chance.randint(1, 2 * self.batch - 1))
                made += [Batch(tenant, number, first, last, late) for late in (False, True)]
                first, number = last, number + 1
        chance.shuffle(made)
        return sorted(made, key=lambda each: each.is_late)

    def sent(self, batch: Batch) -> list[tuple[int, int]]:
        """Number and variant of the payload of each event; variant 0 is what the others were changed from."""
        chance = Random(f"{self.seed} {batch}")
        duplicates = (batch.last - batch.first) * (1 - _NEW) / _NEW
        count = duplicates * (_LATE if batch.is_late else 1 - _LATE)
        again = [
            (chance.randrange(batch.last), chance.randint(1, 3) if chance.random() < _ALTERED else 0)
            for _ in range(int(count) + (chance.random() < count % 1))
        ]
        if batch.is_late:
            return again
        sent = [(number, 0) for number in range(batch.first, batch.last)] + again
        chance.shuffle(sent)
        return sent


def events(site: Site, sent: Sequence[tuple[int, int]], at: datetime) -> list[Event]:
    made = payloads.events(
        site,
        [
            {
                "s": site.public_id, "url": f"https://shop.example/{number % 97}", "ec": "page", "ea": "page_view",
                "sid": f"v{number % 1009}", "event_id": str(number), "ev": variant,
            }
            for number, variant in sent
        ],
        setting="3",
        clock=[at] * len(sent),
    )  # fmt: skip
    assert all(isinstance(each, Event) for each in made)
    return made


def public_id(tenant: int) -> str:
    return f"fire-{tenant}"
