"""A provider in memory, for benches and tests: it keeps what it was given, and forgets it with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import Field

from kernel.delivery.providers.adapter import Adapter, Config
from kernel.delivery.providers.base import Capabilities, Message, Outcome
from kernel.delivery.providers.content import sendable


class MemoryConfig(Config):
    keys: bool = True
    delay_seconds: float = Field(0, ge=0, le=60, allow_inf_nan=False)


class Memory(Adapter):
    """`effects` are the messages that went out, each as often as it did, with the key of its call."""

    Config = MemoryConfig
    capabilities = Capabilities(key_window=timedelta(days=1), batch=100, wave=1000)

    def __init__(
        self, config: MemoryConfig, *, sleep: Callable[[float], None] = time.sleep, **given: Any
    ) -> None:
        super().__init__(config, **given)
        if not config.keys:
            self.capabilities = replace(type(self).capabilities, key_window=None, wave=10)
        self.effects: list[tuple[str, Message]] = []
        self._answers: dict[str, list[Outcome]] = {}
        self._lock = threading.Lock()
        self._sleep = sleep

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        self._sleep(self._config.delay_seconds)
        return sendable(messages, lambda good: self._send(good, key))

    def _send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        with self._lock:
            if self._config.keys and key in self._answers:
                return self._answers[key]
            self.effects += [(key, message) for message in messages]
            told = [Outcome("accepted", message_id=f"memory-{message.reference}") for message in messages]
            self._answers[key] = told
            return told
