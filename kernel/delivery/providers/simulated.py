"""The simulator as a provider: Resend's way of speaking, a look-up by our reference, and as much of it as is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import Field

from kernel.delivery.providers.base import Message, Outcome
from kernel.delivery.providers.content import unsendable
from kernel.delivery.providers.resend import BATCH, Resend, ResendConfig
from models.delivery import CHANNELS


class SimulatedConfig(ResendConfig):
    base_url: str
    mode: Literal["none", "keys", "lookup", "keys-lookup"] = "keys"
    account: str = Field("default", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    batch: int = Field(BATCH, ge=1, le=BATCH)  # messages a call


class Simulated(Resend):
    Config = SimulatedConfig
    channels = CHANNELS
    needs_secret = False
    sender = None
    capabilities = replace(Resend.capabilities, concurrency=4)

    def __init__(self, config: SimulatedConfig, **given: Any) -> None:
        path = f"{config.base_url.rstrip('/')}/{config.mode}/{config.account}"
        super().__init__(config.model_copy(update={"base_url": path}), **given)
        has_keys, has_lookup = "keys" in config.mode, "lookup" in config.mode
        self.capabilities = replace(
            self.capabilities,
            key_window=self.capabilities.key_window if has_keys else None,
            lookup=has_lookup,
            batch=config.batch,
            wave=500 if has_keys or has_lookup else 10,
        )

    def refusal(self, message: Message) -> str | None:
        return unsendable(message)

    def lookup(self, message: Message, key: str) -> Outcome | None:
        if not self.capabilities.lookup:
            return super().lookup(message, key)
        return self._calls.found("/messages?" + urlencode({"reference": message.reference}))
