"""A target that takes a change without an answer and lets it arrive when the test says so."""

from __future__ import annotations

from typing import Any

from kernel.actions.configuration import Address, InDoubt, Transient, Value


class Late:
    """Holds one value. `readable` off: nothing can be read. A write is kept back until `arrive`, or made at once."""

    def __init__(self, value: Any, *, answers: bool = False) -> None:
        self.value, self.answers, self.readable = value, answers, True
        self.by, self.sent = "", []

    def read(self, address: Address) -> Value:
        if not self.readable:
            raise Transient("down")
        return Value(self.value, self.by)

    def write(self, address: Address, value: Any, idempotency_key: str) -> None:
        self.sent.append((value, idempotency_key))
        if not self.answers:
            raise InDoubt("no answer")
        self.arrive()

    def arrive(self) -> None:
        self.value, self.by = self.sent[-1]
