"""An event as it comes to the gate, and what the gate makes of it: tuples, since there are very many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from kernel.usage.sites import Site


class Event(NamedTuple):
    """An event as it came. `payload` is its JSON in UTF-8, `payload_hash` the SHA-256 of a form of it that does not
    depend on how it was written, `received_at` the server's clock then: its month is the one that pays.
    """

    site: Site
    key: str
    version: int
    payload: bytes
    payload_hash: bytes
    received_at: datetime
    occurred_at: datetime | None = None
    category: str = ""
    action: str = ""
    label: str = ""


class Columns(NamedTuple):
    """The fields of many events, each as a column of them."""

    site: tuple[Site, ...]
    key: tuple[str, ...]
    version: tuple[int, ...]
    payload: tuple[bytes, ...]
    payload_hash: tuple[bytes, ...]
    received_at: tuple[datetime, ...]
    occurred_at: tuple[datetime | None, ...]
    category: tuple[str, ...]
    action: tuple[str, ...]
    label: tuple[str, ...]

    @classmethod
    def of(cls, events: Sequence[Event]) -> Columns:
        """Of one event or more."""
        return cls(*zip(*events, strict=True))


class Outcome(NamedTuple):
    """What became of an event, and what to answer.

    `billing_state` and `billable` are those of its row. `replayed_of` is the state that the row was found in, None for
    a new one. `reason` is why it was refused or is overage. `is_conflict`: under this key another payload was metered.
    """

    key: str
    status: Literal["queued", "degraded", "duplicate", "rejected_quota"]
    billing_state: str
    billable: bool
    quota_remaining: int
    is_overage: bool = False
    reason: str | None = None
    replayed_of: str | None = None
    is_conflict: bool = False
