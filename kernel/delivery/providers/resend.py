"""Resend: e-mail over HTTP, one or up to a hundred a call, with keys and signed callbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from kernel.delivery.providers import http as calls
from kernel.delivery.providers import signatures
from kernel.delivery.providers.adapter import EMAIL_SENDER, Adapter, Config
from kernel.delivery.providers.base import (
    BadCallback,
    Capabilities,
    Event,
    Message,
    Outcome,
    rejected,
    unknown,
)
from kernel.delivery.providers.content import EMAIL, header_key, sendable, unsendable

BATCH = 100
# Keys are remembered for 24 hours; the hour less is for the call itself and for clocks that differ.
KEY_WINDOW = timedelta(hours=23)
_KINDS = {f"email.{kind}": kind for kind in ("delivered", "opened", "clicked", "bounced", "complained")}


class ResendConfig(Config):
    base_url: str = "https://api.resend.com"


class Resend(Adapter):
    Config = ResendConfig
    channels = ("email",)
    needs_secret = True
    sender = EMAIL_SENDER
    # One request after the other: an account has two a second unless more was agreed.
    capabilities = Capabilities(key_window=KEY_WINDOW, callback=True, batch=BATCH, wave=500, concurrency=2)

    def __init__(self, config: ResendConfig, **given: Any) -> None:
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
        return sendable(messages, lambda good: self._send(good, header_key(key)), self.refusal)

    def refusal(self, message: Message) -> str | None:
        if EMAIL.fullmatch(message.address) is None:
            return "the address is no e-mail address"
        return unsendable(message)

    def _send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        if len(messages) == 1:
            return [self._calls.post_json("/emails", _email(messages[0]), {"Idempotency-Key": key})]
        # One bad address must not keep back the other ninety-nine.
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "x-batch-validation": "permissive",
        }
        content = calls.encoded([_email(message) for message in messages])
        answer = self._calls.ask("POST", "/emails/batch", content, headers)
        if isinstance(answer, Outcome):
            return [answer] * len(messages)
        if not 200 <= answer.status < 300:
            return [self._calls.outcome(answer, lambda body: None)] * len(messages)
        return by_place(
            len(messages), calls.parsed(answer.body), answer.status, calls.secrets_of(self._secret)
        )

    def events(self, headers: Mapping[str, str], body: bytes, now: datetime) -> list[Event]:
        if not self._callback_secret:
            raise BadCallback("this account has no secret for callbacks")
        id_ = signatures.expect_svix(self._callback_secret, headers, body, now)
        told = calls.parsed(body)
        if not isinstance(told, dict) or not isinstance(told.get("data"), dict):
            raise BadCallback("the callback is no event")
        kind = _KINDS.get(str(told.get("type")))
        if kind is None:
            return []
        data = told["data"]
        to = data.get("to")
        tags = _by_name(data.get("tags"))
        return [
            Event(
                event_id=id_,
                kind=kind,
                occurred_at=_instant(told.get("created_at")) or now,
                message_id=calls.identifier(data, lambda held: held["email_id"]),
                reference=calls.identifier(tags, lambda held: held["reference"]),
                address=calls.identifier(to, lambda held: held[0] if len(held) == 1 else None),
                payload=calls.kept_response(told, body, ()) or {},
            )
        ]


def by_place(count: int, body: Any, status: int, secrets: tuple[str, ...]) -> list[Outcome]:
    """An outcome for each of `count` messages: those in `errors` rejected, the others by the place of their id.

    When ids are missing nobody can tell whose, and each message without an error is unknown.
    """
    told = body if isinstance(body, dict) else {}
    errors = {
        place: why
        for error in _list(told.get("errors"))
        if isinstance(error, dict)
        and isinstance(place := error.get("index"), int)
        and isinstance(why := error.get("message", ""), str)
        and 0 <= place < count
    }
    places = [place for place in range(count) if place not in errors]
    entries = _list(told.get("data"))
    if len(entries) == count:
        entries = [entries[place] for place in places]
    elif len(entries) != len(places):
        entries = [None] * len(places)
    ids = [calls.identifier(entry, lambda held: held["id"], secrets) for entry in entries]
    outcomes = {
        place: rejected("invalid", f"refused: {calls.told(why, secrets)}", http_status=status)
        for place, why in errors.items()
    }
    for place, id_ in zip(places, ids, strict=True):
        # An id that stands for two messages says nothing of either.
        outcomes[place] = (
            Outcome("accepted", message_id=id_, http_status=status, response={"id": id_})
            if id_ is not None and ids.count(id_) == 1
            else unknown(
                "no_id", "the answer of the batch does not say what became of it", http_status=status
            )
        )
    return [outcomes[place] for place in range(count)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _email(message: Message) -> dict[str, Any]:
    bodies = {"html" if message.is_html else "text": message.body}
    if message.plain_body:
        bodies["text"] = message.plain_body
    return {
        "from": message.sender,
        "to": [message.address],
        "subject": message.subject,
        **bodies,
        "headers": dict(message.headers),
        "tags": [{"name": "reference", "value": message.reference}],
    }


def _by_name(tags: Any) -> Any:
    """Tags come as a list of names and values, and in some events as one object."""
    if not isinstance(tags, list):
        return tags
    return {tag.get("name"): tag.get("value") for tag in tags if isinstance(tag, dict)}


def _instant(told: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(told))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
