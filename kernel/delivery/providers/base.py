"""The port to providers: what one can do, what it is given, and what it may answer.

A provider knows nothing of the database. It is given rendered messages and says what became of each; what it cannot
say is `unknown`, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

State = Literal["accepted", "rejected", "unknown"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider guarantees; from this alone follows how an attempt without an answer is settled.

    `key_window`: how long a repeated call under the same key gives the first one's answer; None: no keys.
    `lookup`: whether a message can be found by our reference. `callback`: whether events arrive, signed.
    `batch`: how many messages one call takes; 1: no batches. A batch answers for each message by its place.
    `wave`: how many messages may be in flight in one transaction. Without keys and lookup everything in flight at a
    crash has to be asked for, so such a provider has a small one.
    """

    key_window: timedelta | None = None
    lookup: bool = False
    callback: bool = False
    batch: int = 1
    wave: int = 10
    timeout: timedelta = timedelta(seconds=30)  # of one call, to the last byte of the answer
    concurrency: int = 4  # calls of one wave at a time


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it goes out. `reference` is the id of the attempt, which lookups and callbacks give back.

    `is_html`: whether `body` was written as HTML, whatever stands in its fields. `plain_body` says in plain text what it
    says then, which may be nothing; None otherwise.
    """

    reference: str
    channel: str
    sender: str
    address: str
    subject: str
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    plain_body: str | None = None
    is_html: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message.

    `retry_after` and `is_retryable` belong to `rejected`: the provider has said, or it is certain, that nothing was
    done, and another attempt may end otherwise. `message_id` is the provider's; every accepted message has one.
    """

    state: State
    message_id: str | None = None
    is_retryable: bool = False
    retry_after: timedelta | None = None
    http_status: int | None = None
    error_code: str | None = None
    error: str | None = None
    response: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """What a callback tells of one message. `kind` is one of models.delivery.DELIVERY_STATUSES, or `unsubscribed`."""

    event_id: str
    kind: str
    occurred_at: datetime
    message_id: str | None = None
    reference: str | None = None
    address: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


class Provider(Protocol):
    """An account with a provider. May be called from several threads at once."""

    capabilities: Capabilities

    def send(self, messages: Sequence[Message], key: str) -> Sequence[Outcome]:
        """One call; an outcome for each message, in their order. Never raises for what a provider or a network does.

        Called again with the same messages and key inside `key_window`, it has no second effect.
        """

    def lookup(self, message: Message, key: str) -> Outcome | None:
        """What the provider knows of an earlier call; None when it knows of none, which is no proof that none comes.

        Raises LookupFailed when it cannot be asked now. Only with `capabilities.lookup`.
        """

    def events(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Sequence[Event]:
        """The events of a callback. Raises BadCallback for a signature that is wrong or too old."""

    def close(self) -> None: ...


class LookupFailed(Exception):
    """The provider could not be asked; later again."""


class BadCallback(Exception):
    """A callback that is not from the provider, is too old, or cannot be read."""


def unknown(code: str, why: str, *, http_status: int | None = None) -> Outcome:
    return Outcome("unknown", http_status=http_status, error_code=code, error=why)


def rejected(
    code: str, why: str, *, retryable: bool = False, retry_after: timedelta | None = None, http_status: int | None = None
) -> Outcome:  # fmt: skip
    return Outcome(
        "rejected", is_retryable=retryable, retry_after=retry_after, http_status=http_status, error_code=code, error=why
    )  # fmt: skip
