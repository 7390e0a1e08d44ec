"""Vapi: an assistant that calls people. No keys, and no look-up by our reference that is known to be complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from kernel.delivery.providers import http as calls
from kernel.delivery.providers import signatures
from kernel.delivery.providers.adapter import PHONE, Adapter, Config
from kernel.delivery.providers.base import BadCallback, Capabilities, Event, Message, Outcome
from kernel.delivery.providers.content import sendable, unsendable

_STATUS = {"ringing": "ringing", "in-progress": "answered"}
_ENDED = {
    "voicemail": "voicemail",
    "customer-did-not-answer": "no_answer",
    "customer-busy": "no_answer",
}


class VapiConfig(Config):
    base_url: str = "https://api.vapi.ai"
    assistant_id: str = Field(min_length=1, max_length=128)
    phone_number_id: str = Field(min_length=1, max_length=128)


class Vapi(Adapter):
    Config = VapiConfig
    channels = ("voice",)
    needs_secret = True
    capabilities = Capabilities(callback=True, wave=10, concurrency=5)

    def __init__(self, config: VapiConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.capabilities = replace(
            type(self).capabilities, timeout=config.timeout, callback=bool(self._callback_secret)
        )
        self._calls = calls.Caller(
            config.base_url,
            headers={"Authorization": f"Bearer {self._secret}"},
            timeout=config.timeout,
            secrets=calls.secrets_of(self._secret),
            clock=self._clock,
        )

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        return sendable(messages, lambda good: [self._send(message) for message in good], _refusal)

    def _send(self, message: Message) -> Outcome:
        call = {
            "assistantId": self._config.assistant_id,
            "phoneNumberId": self._config.phone_number_id,
            "customer": {"number": message.address},
            "metadata": {"reference": message.reference},
            # For the assistant's own text to use: {{message}} and {{subject}}.
            "assistantOverrides": {"variableValues": {"message": message.body, "subject": message.subject}},
        }
        return self._calls.post_json("/call", call)

    def events(self, headers: Mapping[str, str], body: bytes, now: datetime) -> list[Event]:
        if not self._callback_secret:
            raise BadCallback("this account has no secret for callbacks")
        given = signatures.lowered(headers).get("x-vapi-secret", "")
        if not signatures.is_same(given, self._callback_secret):
            raise BadCallback("the secret of the callback is wrong")
        told = calls.parsed(body)
        message = told.get("message") if isinstance(told, dict) else None
        call = message.get("call") if isinstance(message, dict) else None
        if not isinstance(call, dict):
            raise BadCallback("the callback is no message about a call")
        kind = _kind(message)
        id_ = calls.identifier(call, lambda held: held["id"])
        if kind is None or id_ is None:
            return []
        return [
            Event(
                # A message has no id of its own; of one call each kind is told once.
                event_id=hashlib.sha256(f"{id_}:{kind}".encode()).hexdigest(),
                kind=kind,
                occurred_at=_instant(message.get("timestamp")) or now,
                message_id=id_,
                reference=calls.identifier(call, lambda held: held["metadata"]["reference"]),
                address=calls.identifier(call, lambda held: held["customer"]["number"]),
                payload=calls.kept_response(message, body, calls.secrets_of(self._callback_secret)) or {},
            )
        ]


def _kind(message: Mapping[str, Any]) -> str | None:
    ended = str(message.get("endedReason"))
    if message.get("type") == "end-of-call-report" or message.get("status") == "ended":
        return _ENDED.get(ended)
    return _STATUS.get(str(message.get("status"))) if message.get("type") == "status-update" else None


def _instant(told: Any) -> datetime | None:
    """Milliseconds since 1970."""
    try:
        return datetime.fromtimestamp(told / 1000, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _refusal(message: Message) -> str | None:
    if PHONE.fullmatch(message.address) is None:
        return "the address is no number with its country, such as +15551234567"
    return unsendable(message)
