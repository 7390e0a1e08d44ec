"""What both doors make of the payloads that came in: events under their keys, or the word of why there is none.

How requests and files are cut into payloads stands with each door; what becomes of events, in `kernel.usage.gate`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
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
    # A text that holds JSON is a text here, and no payload.
    objects = [payload if type(payload) is dict else None for payload in payloads]
    instants = {id(instant): instant for instant in clock}
    of_clock = {name: milliseconds(instant) for name, instant in instants.items()}
    times = [of_clock[id(instant)] for instant in clock]
    made = batch.keys_of(version, str(site.id), objects, times)
    errors: dict[int, InvalidPayloadError] = {}
    for place, (key, payload) in enumerate(zip(made, objects, strict=True)):
        if key is None or payload is None or payload["s"] != site.public_id:
            try:
                made[place] = _checked(site, key, version, payloads[place], times[place])
            except InvalidPayloadError as error:
                errors[place] = _kept(error)
    forms = _forms(objects, errors)
    written = forms if bodies is None else [each or form for each, form in zip(bodies, forms, strict=True)]
    columns = (
        made, objects, clock if received_at is None else received_at, forms, written
    )  # fmt: skip
    if errors:
        good = [place for place in range(len(payloads)) if place not in errors]
        columns = tuple([column[place] for place in good] for column in columns)
    found = _events(site, version, *columns)
    if not errors:
        return found
    rest = iter(found)
    return [errors[place] if place in errors else next(rest) for place in range(len(payloads))]


def _checked(site: Site, key: str | None, version: int, payload: Any, time: int) -> str:
    """The key of a payload that is out of the ordinary. Raises InvalidPayloadError for one that is no event of the site."""
    key = keys.key(version, str(site.id), payload, time) if key is None else key
    if javascript.trim(payload["s"]) != site.public_id:
        raise InvalidPayloadError("site_not_found", "The payload is another site's: send it as that site.")
    return key


def _kept(error: InvalidPayloadError) -> InvalidPayloadError:
    """The same without where it was raised: that holds all events beside it, in a cycle that nobody collects."""
    return InvalidPayloadError(error.code, str(error))


def _forms(objects: Sequence[Any], errors: dict[int, InvalidPayloadError]) -> list[bytes]:
    """The canonical JSON of each; of those that have none `errors` says why, and of those that are in it there is none."""
    try:
        return [orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in objects]
    except TypeError:
        pass
    forms = []
    for place, each in enumerate(objects):
        try:
            forms.append(b"" if place in errors else canonical(each))
        except InvalidPayloadError as error:
            errors[place] = _kept(error)
            forms.append(b"")
    return forms


def _events(
    site: Site,
    version: int,
    made: Sequence[Any],
    objects: Sequence[Any],
    paying: Sequence[datetime],
    forms: Sequence[bytes],
    written: Sequence[bytes],
) -> list[Any]:
    # Column by column: a call for each of very many events costs more than what it does.
    hashes = [hashlib.sha256(form).digest() for form in forms]
    occurred = [
        None if _TIMES.isdisjoint(each) and not (type(meta := each.get("meta")) is dict and "ts" in meta)
        else _occurred_at(each)
        for each in objects
    ]  # fmt: skip
    texts = [[text if type(text := each.get(name)) is str else "" for each in objects] for name in _NAMES]
    return list(
        map(
            Event._make,
            zip(repeat(site), made, repeat(version), written, hashes, paying, occurred, *texts, strict=False),
        )
    )


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
    told = client_time_ms(payload)
    return None if told is None or not 0 <= told <= _LAST_MS else _EPOCH + told * _MILLISECOND
