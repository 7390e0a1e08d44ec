"""Dispatch as its tests call it, and a target that fails on order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa

from kernel.actions import configuration, dispatch
from kernel.actions.configuration import PostgresConfiguration
from tests.fakes.approved import means


class Port:
    """Our own configuration behind errors on order: each is raised once; "after" ones once the write is done."""

    def __init__(self, engine: sa.Engine, *, write: tuple = (), after: tuple = (), read: tuple = ()) -> None:
        self.inner = PostgresConfiguration(engine)
        self.errors = {"write": list(write), "after": list(after), "read": list(read)}
        self.sent: Counter[str] = Counter()

    def _raise(self, kind: str) -> None:
        if self.errors[kind] and (error := self.errors[kind].pop(0)):
            raise error

    def read(self, address: configuration.Address) -> configuration.Value:
        self._raise("read")
        return self.inner.read(address)

    def write(self, address: configuration.Address, value: Any, key: str) -> None:
        self._raise("write")
        self.sent[key] += 1
        self.inner.write(address, value, key)
        self._raise("after")


def run(engine: sa.Engine, **more: Any) -> dispatch.DispatchReport:
    return dispatch.run_due(engine, **means(**more))
