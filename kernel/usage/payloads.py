"""What both doors make of the payloads that came in: events under their keys, or the word of why there is none.

How requests and files are cut into payloads stands with each door; what becomes of events, in `kernel.usage.gate`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from kernel.usage import keys
from kernel.usage.events import Event
from kernel.usage.keys import batch, javascript
from kernel.usage.keys.payload import InvalidPayloadError, client_time_ms
from kernel.usage.sites import Site

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LAST_MS = 253_402_300_799_999  # the last instant that a datetime can tell
_DEPTH = 254  # levels that orjson writes
# Where a client's time may stand, `meta.ts` apart.
_NAMES = ("ec", "ea", "el")
_TIMES = frozenset(("ts", "timestamp", "created_at"))


def decoded(body: bytes) -> tuple[Any, bytes]:
    """The value of a body, and its JSON in UTF-8 to be handed on: the body itself wherever that is one.

    Raises InvalidPayloadError when it is no JSON.
    """
    try:
        return orjson.loads(body), body
    except ValueError:
        value = batch.decoded(body)
    if value is None:
        raise InvalidPayloadError("invalid_json", "The body is no JSON; send one JSON object per event.")
    # Read so, every number is a float.
    value = _changed(value, _DEPTH, _whole)
    return value, canonical(value)


def events(
    site: Site,
    payloads: Sequence[Any],
    *,
    setting: object,
    clock: Sequence[datetime],
    received_at: Sequence[datetime] | None = None,
    bodies: Sequence[bytes | None] | None = None,
) -> list[Event | InvalidPayloadError]:
    """Of each payload its event, or why it is none, in their order.

    `setting` is the version of keys (`keys.version`); `clock` the server's clock when each came, of which keys are made.
    `received_at` is what pays, and the same unless given. `bodies` are the payloads as JSON where they are known.
    """
    version = keys.version(setting)
    times = [milliseconds(instant) for instant in clock]
    made = batch.keys_of(version, str(site.id), payloads, times)
    paying = clock if received_at is None else received_at
    written = [None] * len(payloads) if bodies is None else bodies
    found: list[Event | InvalidPayloadError] = []
    for key, payload, time, instant, body in zip(made, payloads, times, paying, written, strict=True):
        try:
            if key is None:
                # Says why there is none.
                key = keys.key(version, str(site.id), payload, time)
            if payload["s"] != site.public_id and javascript.trim(payload["s"]) != site.public_id:
                raise InvalidPayloadError(
                    "site_not_found", "The payload is another site's: send it as that site."
                )
            form = canonical(payload)
        except InvalidPayloadError as error:
            found.append(error)
            continue
        found.append(
            Event(
                site, key, version, form if body is None else body, hashlib.sha256(form).digest(), instant,
                _occurred_at(payload), *[each if type(each) is str else "" for each in map(payload.get, _NAMES)],
            )
        )  # fmt: skip
    return found


def canonical(payload: Any) -> bytes:
    """The payload's JSON with sorted names and no spaces. A number that JSON cannot hold is null, as browsers write it.

    Raises InvalidPayloadError for one that is nested deeper than 254 levels.
    """
    try:
        return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Halves of characters, or too many levels.
        plain = _changed(payload, _DEPTH, _finite)
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def milliseconds(instant: datetime) -> int:
    """Since 1970, cut."""
    return (instant - _EPOCH) // _MILLISECOND


def _changed(value: Any, levels: int, change: Callable[[float], Any]) -> Any:
    """The value with each of its floats changed. Raises InvalidPayloadError for more levels than these."""
    if levels == 0:
        raise InvalidPayloadError(
            "payload_too_deep", f"The payload has more than {_DEPTH} levels; send flat fields."
        )
    if isinstance(value, dict):
        return {name: _changed(each, levels - 1, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_changed(each, levels - 1, change) for each in value]
    return change(value) if isinstance(value, float) else value


def _whole(number: float) -> float:
    return int(number) if abs(number) < 2**53 and number == int(number) else number


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _occurred_at(payload: dict[str, Any]) -> datetime | None:
    """When the client says that it happened; None when it says nothing that a calendar knows."""
    meta = payload.get("meta")
    if _TIMES.isdisjoint(payload) and not (isinstance(meta, dict) and "ts" in meta):
        return None
    told = client_time_ms(payload)
    return None if told is None or not 0 <= told <= _LAST_MS else _EPOCH + told * _MILLISECOND
