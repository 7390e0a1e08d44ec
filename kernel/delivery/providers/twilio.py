"""Twilio: text messages over HTTP. No keys, and nothing that finds a message by our reference; callbacks carry it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import Field

from kernel.delivery.providers import http as calls
from kernel.delivery.providers import signatures
from kernel.delivery.providers.adapter import PHONE, Adapter, Config
from kernel.delivery.providers.base import BadCallback, Capabilities, Event, Message, Outcome
from kernel.delivery.providers.content import sendable, unsendable

_KINDS = {"delivered": "delivered", "read": "opened", "undelivered": "bounced", "failed": "bounced"}
_STOPPED = "21610"  # the recipient has told Twilio to stop


class TwilioConfig(Config):
    base_url: str = "https://api.twilio.com"
    account_sid: str = Field(pattern=r"^AC[0-9a-zA-Z]{4,64}$")
    # Where Twilio tells what became of a message: our public address, without a query.
    callback_url: str | None = Field(None, pattern=r"^https?://[^\s?#]+$")


class Twilio(Adapter):
    Config = TwilioConfig
    channels = ("sms",)
    needs_secret = True
    sender = PHONE
    capabilities = Capabilities(callback=True, wave=10, concurrency=4)

    def __init__(self, config: TwilioConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.capabilities = replace(
            type(self).capabilities, timeout=config.timeout, callback=config.callback_url is not None
        )
        token = calls.basic(config.account_sid, self._secret)
        self._calls = calls.Caller(
            config.base_url,
            headers={"Authorization": f"Basic {token}"},
            timeout=config.timeout,
            secrets=calls.secrets_of(self._secret, token),
            clock=self._clock,
        )

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        return sendable(messages, lambda good: [self._send(message) for message in good], _refusal)

    def _send(self, message: Message) -> Outcome:
        fields = {"To": message.address, "From": message.sender, "Body": message.body}
        if self._config.callback_url:
            fields["StatusCallback"] = (
                f"{self._config.callback_url}?{urlencode({'reference': message.reference})}"
            )
        return self._calls.post(
            f"/2010-04-01/Accounts/{self._config.account_sid}/Messages.json",
            urlencode(fields).encode(),
            {"Content-Type": "application/x-www-form-urlencoded"},
            message_id=lambda body: body["sid"],
        )

    def events(self, headers: Mapping[str, str], body: bytes, now: datetime) -> list[Event]:
        """`headers` hold the path of the request with its query as `:path`, for that is signed too."""
        if not self._config.callback_url:
            raise BadCallback("this account has no callback_url")
        given = signatures.lowered(headers)
        query = urlsplit(given.get(":path", "")).query
        url = f"{self._config.callback_url}?{query}" if query else self._config.callback_url
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=100)
        except ValueError:
            raise BadCallback("the callback is no form") from None
        right = signature(self._secret, url, fields)
        if not signatures.is_same(given.get("x-twilio-signature", ""), right):
            raise BadCallback("the signature of the callback is wrong")
        return list(_events(dict(fields), dict(parse_qsl(query)), now))


def signature(token: str, url: str, fields: Sequence[tuple[str, str]]) -> str:
    """Over the address and every field, name and value, in the order of the names."""
    signed = url + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(signatures.sha1(token.encode(), signed.encode())).decode()


def _events(fields: Mapping[str, str], query: Mapping[str, str], now: datetime) -> Sequence[Event]:
    sid = fields.get("MessageSid") or fields.get("SmsSid") or ""
    payload = calls.kept_response(dict(fields), b"-", ()) or {}
    has_stopped = fields.get("OptOutType", "").upper() == "STOP" or fields.get("ErrorCode") == _STOPPED
    if has_stopped:
        kind, address = "unsubscribed", fields.get("From" if "OptOutType" in fields else "To")
    else:
        kind, address = _KINDS.get(fields.get("MessageStatus", ""), ""), fields.get("To")
    if not kind:
        return ()
    # A callback has neither an id nor a time; sent twice, it is the same event.
    id_ = hashlib.sha256(f"{sid}:{kind}".encode()).hexdigest()
    return (
        Event(
            event_id=id_,
            kind=kind,
            occurred_at=now,
            message_id=calls.identifier(sid, lambda held: held),
            reference=calls.identifier(query, lambda held: held["reference"]),
            address=calls.identifier(address, lambda held: held),
            payload=payload,
        ),
    )


def _refusal(message: Message) -> str | None:
    if PHONE.fullmatch(message.address) is None:
        return "the address is no number with its country, such as +15551234567"
    return unsendable(message)
