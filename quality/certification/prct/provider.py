"""The provider that changes are applied to: our own configuration, counting what is written, killing who asks."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import sqlalchemy as sa
from pydantic import JsonValue

from kernel.actions.configuration import Address, PostgresConfiguration, Value


class WorkerKilled(BaseException):
    """Ends a worker as a signal would: no handler of the program sees it."""


class Provider:
    """The configuration of our own subsystems, which counts what is really written and may kill who asks.

    `kill_before` ends the worker before its next read, `kill_after` after its next write; each once.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._inner = PostgresConfiguration(engine)
        self.writes: Counter[tuple[UUID, str]] = Counter()
        self.kill_before = self.kill_after = False

    def read(self, address: Address) -> Value:
        if self.kill_before:
            self.kill_before = False
            raise WorkerKilled
        return self._inner.read(address)

    def write(self, address: Address, value: JsonValue, idempotency_key: str) -> None:
        self._inner.write(address, value, idempotency_key)
        self.writes[address.tenant_id, f"{address.field} {address.entity_id}"] += 1
        if self.kill_after:
            self.kill_after = False
            raise WorkerKilled
