"""What both doors make of payloads: events under their keys, or the word of why there is none."""

from __future__ import annotations

import gc
import hashlib
import json
import pickle
import weakref
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.usage import keys
from kernel.usage.events import Event
from kernel.usage.keys.payload import InvalidPayloadError
from kernel.usage.payloads import canonical, decoded, events, milliseconds
from kernel.usage.sites import Site

SITE = Site(UUID(int=1), UUID(int=2), "shop", "Shop", "active", ())
AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
VISIT = {"s": "shop", "url": "https://x.co", "ec": "page", "ea": "view", "el": "hero", "sid": "v"}


def one(payload: Any, setting: str = "1", **given: Any) -> Event | InvalidPayloadError:
    (found,) = events(SITE, [payload], setting=setting, clock=[AT], **given)
    return found


@pytest.mark.parametrize("setting", ["1", "2", "3"])
def test_an_event_stands_under_the_key_of_its_version(setting: str) -> None:
    found = one(VISIT, setting)
    assert isinstance(found, Event)
    assert found.key == keys.key(setting, str(SITE.id), VISIT, 1768471200000)
    assert (found.version, found.received_at, found.site) == (int(setting), AT, SITE)
    assert (found.category, found.action, found.label) == ("page", "view", "hero")
    assert found.payload_hash == hashlib.sha256(canonical(VISIT)).digest()


def test_what_pays_may_be_another_instant_than_what_the_key_is_made_of() -> None:
    other = AT + timedelta(days=40)
    found = one(VISIT, received_at=[other])
    assert isinstance(found, Event)
    assert (found.key, found.received_at) == (one(VISIT).key, other)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (None, "payload_not_object"),
        ([VISIT], "payload_not_object"),
        ({}, "missing_site_or_url"),
        (VISIT | {"s": "else"}, "site_not_found"),
        (VISIT | {"s": 7}, "missing_site_or_url"),
        (VISIT | {"url": "\t"}, "missing_site_or_url"),
    ],
)
def test_what_is_no_event_says_why_in_its_place(payload: Any, code: str) -> None:
    found = events(SITE, [VISIT, payload, VISIT], setting="1", clock=[AT] * 3)
    assert isinstance(found[1], InvalidPayloadError)
    assert found[1].code == code
    assert found[0] == found[2]


def test_an_event_that_names_nobody_has_no_key_of_version_three() -> None:
    found = one({"s": "shop", "url": "x"}, "3")
    assert isinstance(found, InvalidPayloadError)
    assert found.code == "missing_identity"


def test_the_sites_name_may_have_spaces_around_it() -> None:
    assert isinstance(one(VISIT | {"s": " shop\ufeff"}), Event)


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ({"ts": 1768471200}, AT),
        ({"ts": 1768471200000}, AT),
        ({"created_at": "2026-01-15T10:00:00Z"}, AT),
        ({"meta": {"ts": 1768471200000}}, AT),
        ({}, None),
        ({"ts": True}, None),
        ({"ts": "abc"}, None),
        ({"ts": -5}, None),
        ({"ts": 1e300}, None),
        ({"meta": 7}, None),
    ],
)
def test_a_clients_time_is_told_and_never_counts(told: dict[str, Any], seen: datetime | None) -> None:
    found = one(VISIT | told)
    assert isinstance(found, Event)
    assert (found.occurred_at, found.received_at) == (seen, AT)


@pytest.mark.parametrize(
    ("body", "value", "text"),
    [
        (b' {"a":1} ', {"a": 1}, b' {"a":1} '),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}, b'{"a":1}'),
        (b'{"a":"\xff"}', {"a": "\ufffd"}, '{"a":"\ufffd"}'.encode()),
        (b'{"a":"\\ud800"}', {"a": "\ud800"}, b'{"a":"\\ud800"}'),
        (b'{"a":1e999,"b":[3]}', {"a": float("inf"), "b": [3]}, b'{"a":null,"b":[3]}'),
    ],
)
def test_a_body_is_read_as_a_browser_would_and_handed_on_as_json(
    body: bytes, value: Any, text: bytes
) -> None:
    assert decoded(body) == (value, text)
    json.loads(text)


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"[" * 100_000, b"'a'"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidPayloadError) as refused:
        decoded(body)
    assert refused.value.code == "invalid_json"


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), _json, max_size=5))
def test_the_hash_does_not_depend_on_the_order_of_names_or_on_spaces(payload: dict[str, Any]) -> None:
    turned = dict(reversed(payload.items()))
    assert canonical(payload) == canonical(turned)
    assert canonical(decoded(canonical(payload))[0]) == canonical(payload)


def test_a_payload_of_too_many_levels_is_refused() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    found = one(VISIT | {"a": deep})
    assert isinstance(found, InvalidPayloadError)
    assert found.code == "payload_too_deep"


def test_milliseconds_are_cut_before_1970_too() -> None:
    assert milliseconds(datetime(1969, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC)) == -1
    assert milliseconds(AT + timedelta(microseconds=1_999)) == 1768471200001


class _Watched(list[Any]):
    """A list of which it can be known that it is gone."""


@pytest.mark.parametrize(
    "bad", [{}, VISIT | {"url": {"a": [{}]}, "s": 7}, VISIT | {"a": {"x": "\ud800" * 3}, "s": "else"}]
)
def test_what_is_no_event_does_not_keep_those_beside_it(bad: Any) -> None:
    clock = _Watched([AT, AT])
    gone, was_on = weakref.ref(clock), gc.isenabled()
    gc.disable()
    try:
        found = events(SITE, [bad, VISIT], setting="1", clock=clock)
        assert isinstance(found[0], InvalidPayloadError)
        del clock
        assert gone() is None
    finally:
        if was_on:
            gc.enable()


def test_a_payload_of_too_many_levels_does_not_keep_those_beside_it() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    (found,) = events(SITE, [VISIT | {"a": deep}], setting="1", clock=[AT])
    assert isinstance(found, InvalidPayloadError)
    assert (found.__traceback__, found.__context__) == (None, None)


def test_why_a_payload_is_none_can_be_sent_to_another_process() -> None:
    error = InvalidPayloadError("missing_site_or_url", "The payload has no site.")
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), sent.code, str(sent)) == (InvalidPayloadError, error.code, str(error))
