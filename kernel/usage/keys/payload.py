"""What of a tracker's payload makes an event: which fields count, how they are read, and which payloads have no key.

The reading is that of a payload as it arrives, once. Site lookup, consent and quotas belong elsewhere.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from kernel.errors import RefusedError
from kernel.usage.keys import javascript


class InvalidPayloadError(RefusedError):
    """A payload that has no key. `code` is what the caller of the interface is told."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, str(self))


class Event(NamedTuple):
    """The fields of a payload that keys are made of. Texts may hold halves of characters."""

    site: str  # the public id, for the lookup; no key holds it
    category: str
    action: str
    label: str
    url: str  # trimmed, of any length
    visitor: str  # the fingerprint, else the session, else empty


def parse(payload: Any) -> Event:
    """Reads a payload of JSON values. Raises InvalidPayloadError."""
    if not isinstance(payload, dict):
        raise InvalidPayloadError(
            "payload_not_object", "The payload is no JSON object; send one object per event."
        )
    site = javascript.trim(_text(payload.get("s")))
    # Both are read before one is taken: an unreadable u refuses the payload beside a good url, too.
    url, other = _address(payload, "url"), _address(payload, "u")
    if not site or not (url or other):
        raise InvalidPayloadError(
            "missing_site_or_url", "The payload has no site or no address; send s and url (or u)."
        )
    return Event(
        site=site,
        category=_text(payload.get("ec")),
        action=_text(payload.get("ea")),
        label=_text(payload.get("el")),
        url=url or other,
        visitor=_text(_meta(payload).get("fp")) or _text(payload.get("sid")),
    )


def event_id(payload: dict[str, Any]) -> str | None:
    """The id its sender gave the event; None when there is none. Raises InvalidPayloadError for what is no id."""
    given = payload.get("event_id")
    if given is None or (isinstance(given, str) and given):
        return given
    raise InvalidPayloadError(
        "event_id_not_text", "event_id is no text; send a text that is not empty, or none."
    )


def client_time_ms(payload: dict[str, Any]) -> int | None:
    """The time of the client in milliseconds since 1970; None when the payload has no usable one.

    The first of the places that holds the right type decides, even when its value is no time.
    """
    numbers = payload.get("ts"), payload.get("timestamp"), payload.get("created_at"), _meta(payload).get("ts")
    found = next((javascript.number(each) for each in numbers if javascript.is_number(each)), None)
    if found is None:
        found = _time_of_texts(payload)
    # Below 1e12 a number is taken for seconds: milliseconds were that small until 2001.
    found = found * 1000 if found < 1e12 else found
    return math.floor(found) if math.isfinite(found) else None


def _time_of_texts(payload: dict[str, Any]) -> float:
    ts = payload.get("ts")
    if isinstance(ts, str):
        return javascript.parse_float(ts)
    for name in ("timestamp", "created_at"):
        value = payload.get(name)
        if isinstance(value, str) and javascript.is_iso_like(value):
            return javascript.parse_date(value)
    return math.nan


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _meta(payload: dict[str, Any]) -> dict[str, Any]:
    meta = payload.get("meta")
    return meta if isinstance(meta, dict) else {}


def _address(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if value is None:
        return ""
    try:
        return javascript.trim(javascript.text(value))
    except javascript.UnprintableError:
        raise InvalidPayloadError("url_not_text", f"{name} cannot be read as a text; send a text.") from None
