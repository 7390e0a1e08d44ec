"""Idempotency keys: what makes two requests one billable event.

Version 1 and 2 are byte for byte those of rows that are stored already, and never change; version 3 is ours. Many
at a time: `kernel.usage.keys.batch`. Whether a key is new is the ledger's to say.
"""

from __future__ import annotations

import hashlib
from operator import index
from typing import Any

from kernel.usage.keys import javascript
from kernel.usage.keys.payload import Event, InvalidPayloadError, client_time_ms, event_id, parse

URL_UNITS = 4096
CLIENT_TOLERANCE_MS = 300_000
V1_WINDOW_MS = 5_000
HEARTBEAT_WINDOW_MS = 10_000
EVENT_WINDOW_MS = 2_000
V3_WINDOW_MS = 5_000
_V3_DOMAIN = "11:usage-key/3,"


def version(setting: object) -> int:
    """What OPSMANTIK_IDEMPOTENCY_VERSION asks for: 2 and 3 when it is exactly that, else 1."""
    return {"2": 2, "3": 3}.get(str(setting), 1)


def version_of(key: str) -> int:
    """The version a stored key was made by. `canonical:` stands before the keys of version 2 since April 2026."""
    if key.startswith(("v2:", "canonical:")):
        return 2
    return 3 if key.startswith("v3:") else 1


def key(setting: object, site_id: str, payload: dict[str, Any], now_ms: int) -> str:
    """The key by the version that a setting names; for the rest see key_v1, key_v2 and key_v3."""
    return {1: key_v1, 2: key_v2, 3: key_v3}[version(setting)](site_id, payload, now_ms)


def key_v1(site_id: str, payload: dict[str, Any], now_ms: int) -> str:
    """64 hexadecimal digits. The same content is one event within 5 s of the server's clock.

    `site_id` is the internal UUID as the database writes it (small letters), and goes in as it is. `payload` is the
    object that came in, of JSON values; `now_ms` the server's clock when it came, in milliseconds since 1970.
    Raises InvalidPayloadError for a payload that has no key, TypeError when the time is no whole number.
    """
    return _digest(site_id, parse(payload), bucket(index(now_ms), V1_WINDOW_MS))


def key_v2(site_id: str, payload: dict[str, Any], now_ms: int) -> str:
    """`v2:` and 64 hexadecimal digits. The window is the kind's, see time_v2. Otherwise as key_v1."""
    event = parse(payload)
    return f"v2:{_digest(site_id, event, time_v2(event.category, event.action, payload, index(now_ms)))}"


def key_v3(site_id: str, payload: dict[str, Any], now_ms: int) -> str:
    """`v3:` and 64 hexadecimal digits, over fields with their lengths, so that no two events give one pre-image.

    An `event_id` in the payload is the identity, whenever it comes again and whatever comes with it. Without one,
    the same content is one event within 5 s of the server's clock, and a payload that names neither fingerprint nor
    session is refused: its sender cannot be told from others. Otherwise as key_v1.
    """
    event, given, now = parse(payload), event_id(payload), index(now_ms)
    if given is not None:
        return f"v3:{_sha256(preimage_v3('id', site_id, given))}"
    if not event.visitor:
        raise InvalidPayloadError(
            "missing_identity", "The payload does not say whose event it is; send event_id, meta.fp or sid."
        )
    time = str(bucket(now, V3_WINDOW_MS))
    return f"v3:{_sha256(preimage_v3('content', site_id, *event[1:], time))}"


def bucket(time_ms: int, window_ms: int) -> int:
    """The start of the window that a time lies in; windows begin at 1970, those before it too."""
    return time_ms // window_ms * window_ms


def time_v2(category: str, action: str, payload: dict[str, Any], now_ms: int) -> int:
    """The time in a key of version 2, in milliseconds: by kind, the first that fits.

    A heartbeat has 10 s and a page view 2 s of the client's time, or the server's when they lie more than 5 minutes
    apart; a click and a call_intent the server's very millisecond; anything else 2 s of the server's.
    """
    if action == "heartbeat":
        return bucket(_nearby(payload, now_ms), HEARTBEAT_WINDOW_MS)
    if category == "page" or action == "page_view":
        return bucket(_nearby(payload, now_ms), EVENT_WINDOW_MS)
    if action in ("click", "call_intent") or category == "click":
        return now_ms
    return bucket(now_ms, EVENT_WINDOW_MS)


def preimage_v3(*fields: str) -> bytes:
    """`<bytes>:<field>,` of the domain and of each field. Halves of characters keep their three bytes."""
    measured = [
        f"{len(field) if field.isascii() else len(javascript.wtf8(field))}:{field}," for field in fields
    ]
    return javascript.wtf8(_V3_DOMAIN + "".join(measured))


def _nearby(payload: dict[str, Any], now_ms: int) -> int:
    client = client_time_ms(payload)
    return now_ms if client is None or abs(client - now_ms) > CLIENT_TOLERANCE_MS else client


def _digest(site_id: str, event: Event, time_ms: int) -> str:
    url = javascript.cut(event.url, URL_UNITS)
    content = f"{event.category}|{event.action}|{event.label}:{url}:{event.visitor}"
    return _sha256(javascript.utf8(f"{site_id}:{content}:{time_ms}"))


def _sha256(preimage: bytes) -> str:
    return hashlib.sha256(preimage).hexdigest()
