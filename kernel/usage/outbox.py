"""Handing captured events on: within the transaction that captures them, or kept for later when that fails.

Sending the outbox's messages further and recovering the buffer's belong elsewhere; neither meters anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from models.statements import statements, texts

_REASON = 500  # characters


@dataclass(frozen=True, slots=True)
class Message:
    """Events of a month of one site, in the order they came: `payloads` are their JSON, each under the key of the same
    place. `of_buffer` names the message they waited in, when they could not be published at first.
    """

    tenant_id: UUID
    site_id: UUID
    year_month: str
    keys: Sequence[str]
    payloads: Sequence[bytes]
    at: datetime
    of_buffer: UUID | None = None

    @property
    def payload(self) -> str:
        """All of them as one JSON array."""
        return f"[{b','.join(self.payloads).decode()}]"


# Whatever it raises, what it did in the transaction is taken back and the message goes to the buffer.
Publisher = Callable[[sa.Connection, Message], None]


def write(connection: sa.Connection, message: Message) -> None:
    """Puts the message into the outbox."""
    connection.execute(statements("usage_gate")["to_outbox"], _columns(message))


def keep(connection: sa.Connection, message: Message, error: Exception) -> None:
    """Puts a message that could not be published into the buffer, and says why."""
    connection.execute(statements("usage_gate")["to_buffer"], _columns(message) | {"reason": told(error)})


def told(error: Exception) -> str:
    """An error as a column keeps it."""
    words = f"{type(error).__name__}: {error}"[:_REASON]
    return words.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _columns(message: Message) -> dict[str, Any]:
    return {
        "tenant_id": message.tenant_id,
        "site_id": message.site_id,
        "month": message.year_month,
        "of_buffer": message.of_buffer,
        "keys": texts(message.keys),
        "payload": message.payload,
        "at": message.at,
    }
