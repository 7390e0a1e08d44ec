"""A customer's own receiver: signed JSON over HTTP. Whether it honours keys and can be asked is for its owner to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from pydantic import Field

from kernel.delivery.providers import http as calls
from kernel.delivery.providers import signatures
from kernel.delivery.providers.adapter import Adapter, Config
from kernel.delivery.providers.base import Capabilities, Message, Outcome
from kernel.delivery.providers.content import header_key, sendable
from kernel.http import is_address


class WebhookConfig(Config):
    url: str
    # The receiver gives the first answer to every request with a key that it knows, for key_hours.
    honours_keys: bool = False
    key_hours: int = Field(24, ge=1, le=8760)
    # Asked with ?reference=; answers {"id": …} or 404.
    lookup_url: str | None = None


class Webhook(Adapter):
    """`secret` signs: X-Signature is `v1=` and the HMAC-SHA256, in hex, over X-Timestamp, a dot and the body."""

    Config = WebhookConfig
    needs_secret = True
    capabilities = Capabilities(wave=10)

    def __init__(self, config: WebhookConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.capabilities = replace(
            type(self).capabilities,
            key_window=timedelta(hours=config.key_hours) if config.honours_keys else None,
            lookup=config.lookup_url is not None,
            timeout=config.timeout,
            wave=100 if config.honours_keys else 10,
        )
        self._calls = self._caller(config.url)
        self._lookups = self._caller(config.lookup_url) if config.lookup_url else None

    def _caller(self, url: str) -> calls.Caller:
        return calls.Caller(
            url,
            headers={},
            timeout=self._config.timeout,
            secrets=calls.secrets_of(self._secret),
            clock=self._clock,
        )

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        return sendable(messages, lambda good: [self._send(message, header_key(key)) for message in good])

    def _send(self, message: Message, key: str) -> Outcome:
        content = calls.encoded(
            {
                "reference": message.reference,
                "channel": message.channel,
                "from": message.sender,
                "to": message.address,
                "subject": message.subject,
                "body": message.body,
                "headers": dict(message.headers),
            }
        )
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return self._calls.post("", content, headers | self._signed(content))

    def lookup(self, message: Message, key: str) -> Outcome | None:
        if self._lookups is None:
            return super().lookup(message, key)
        query = "?" + urlencode({"reference": message.reference})
        return self._lookups.found(query, self._signed(query.encode()))

    def _signed(self, content: bytes) -> dict[str, str]:
        timestamp = str(int(self._clock().timestamp()))
        mac = signatures.sha256(self._secret.encode(), f"{timestamp}.".encode() + content)
        return {"X-Timestamp": timestamp, "X-Signature": f"v1={mac.hex()}"}

    @classmethod
    def wants(cls, config: Any, secret: str, callback_secret: str) -> list[str]:
        addresses = {"url": config.url, "lookup_url": config.lookup_url}
        return [key for key, url in addresses.items() if url is not None and not is_address(url)]
