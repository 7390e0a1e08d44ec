"""Keys of many events at a time. The rules stand in `kernel.usage.keys`; here is only what makes them quick.

A payload whose fields are ordinary texts, as nearly all are, takes the quick way; any other goes through the exact
functions. The tests compare the two on every kind of payload.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from itertools import repeat
from numbers import Integral
from operator import index
from typing import Any, NoReturn

import orjson

from kernel.usage import keys
from kernel.usage.keys.javascript import SPACES

# A text of this many characters is never cut: each has at most two units.
_SHORT = keys.URL_UNITS // 2


def keys_of(setting: object, site_ids: Any, payloads: Any, now_ms: Any) -> list[str | None]:
    """The key of each payload, None where it has none (`keys.key` of that payload says why).

    `payloads` is a list, a pandas or Arrow column or an Arrow table; each payload is a dict, or its JSON as text or
    bytes. `site_ids` and `now_ms` are columns of the same length, or one value for all. Raises ValueError when
    lengths differ, TypeError when a time is no whole number.
    """
    version = keys.version(setting)
    prefix = "" if version == 1 else f"v{version}:"
    rows = list(_listed(payloads))
    sites = repeat(site_ids, len(rows)) if isinstance(site_ids, str) else _listed(site_ids)
    times = repeat(now_ms, len(rows)) if isinstance(now_ms, Integral) else _listed(now_ms)
    made: list[str | None] = []
    for site_id, row, time in zip(sites, rows, map(index, times), strict=True):
        payload = row if type(row) is dict else decoded(row)
        preimage = _preimage(version, site_id, payload, time)
        if preimage is not None:
            made.append(prefix + sha256(preimage).hexdigest())
            continue
        try:
            made.append(keys.key(version, site_id, payload, time))
        except keys.InvalidPayloadError:
            made.append(None)
    return made


def _listed(column: Any) -> Iterable[Any]:
    for method in ("to_pylist", "tolist"):  # Arrow; pandas and numpy
        if hasattr(column, method):
            return getattr(column, method)()
    return column


def _preimage(version: int, site_id: str, payload: Any, now_ms: int) -> bytes | None:
    """What the key is the hash of, where all fields are ordinary texts; None for the exact functions.

    One function instead of several, because at this size calls cost as much as the work.
    """
    if type(payload) is not dict or "u" in payload:
        return None
    get = payload.get
    url, site, meta = get("url"), get("s"), get("meta")
    category, action, label = get("ec", ""), get("ea", ""), get("el", "")
    visitor = (type(meta) is dict and meta.get("fp")) or get("sid")
    if not (type(url) is type(site) is type(category) is type(action) is type(label) is type(visitor) is str):
        return None
    if len(url) > _SHORT or not site.strip(SPACES) or not (url := url.strip(SPACES)):
        return None
    if version == 3:
        given = get("event_id")
        if type(given) is str and given:
            return keys.preimage_v3("id", site_id, given)
        if given is not None or not visitor:
            return None
        time = str(keys.bucket(now_ms, keys.V3_WINDOW_MS))
        return keys.preimage_v3("content", site_id, category, action, label, url, visitor, time)
    if version == 2:
        time = keys.time_v2(category, action, payload, now_ms)
    else:
        time = keys.bucket(now_ms, keys.V1_WINDOW_MS)
    try:
        return f"{site_id}:{category}|{action}|{label}:{url}:{visitor}:{time}".encode()
    except UnicodeEncodeError:
        return None


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def decoded(row: Any) -> Any:
    """What JSON.parse makes of a request's body; None when it is no JSON, or nested beyond Python's recursion."""
    if not isinstance(row, (str, bytes)):
        return row
    try:
        return orjson.loads(row)
    except ValueError:
        text = row.decode("utf-8-sig", "replace") if isinstance(row, bytes) else row
    try:
        # Halves of characters, and numbers of any size.
        return json.loads(text, parse_int=float, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None
