"""Keys: the vectors, what each version takes for one event, and where its windows have their edges."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.errors import RefusedError
from kernel.usage import keys
from tests.unit.usage.payloads import SITE

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "usage-keys.md"
NOW = 1_700_000_000_000
CLOCK = st.integers(-8_640_000_000_000_000, 8_640_000_000_000_000)  # all times a JavaScript date can hold
WINDOWS = st.sampled_from([2_000, 5_000, 10_000])


def vectors() -> list[dict[str, Any]]:
    """Those of the reference page. `{n x c}` in an address is n times c: the page would not be readable otherwise."""
    block = re.search(r"```jsonl\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    found = [json.loads(line) for line in block[1].splitlines()]
    for vector in found:
        url = vector["payload"].get("url", "")
        if repeated := re.search(r"\{(\d+) x (.)\}", url):
            vector["payload"]["url"] = url.replace(repeated[0], repeated[2] * int(repeated[1]))
    return found


VECTORS = {vector["id"]: vector for vector in vectors()}


def payload(**fields: Any) -> dict[str, Any]:
    """A heartbeat with a fingerprint, and what is given; None takes a field out."""
    whole = {
        "s": "test_site",
        "url": "https://example.com/page",
        "ec": "system",
        "ea": "heartbeat",
        "el": "button",
        "sid": "sess-123",
        "meta": {"fp": "fingerprint-1"},
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}


def v1(now_ms: int = NOW, **fields: Any) -> str:
    return keys.key_v1(SITE, payload(**fields), now_ms)


def v2(now_ms: int = NOW, **fields: Any) -> str:
    return keys.key_v2(SITE, payload(**fields), now_ms)


def v3(now_ms: int = NOW, **fields: Any) -> str:
    return keys.key_v3(SITE, payload(**fields), now_ms)


def code(**fields: Any) -> str:
    with pytest.raises(keys.InvalidPayloadError) as refused:
        v3(**fields)
    return refused.value.code


# Vectors


def test_all_vectors_are_on_the_page() -> None:
    assert [name for name in VECTORS if name.startswith("K")] == [f"K{n:02d}" for n in range(1, 31)]
    assert len(VECTORS) == 36


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_a_vector_gives_its_keys(vector: dict[str, Any]) -> None:
    expected = {name: vector[name] for name in ("v1", "v2", "v3") if name in vector}
    made = {name: getattr(keys, f"key_{name}")(SITE, vector["payload"], vector["now"]) for name in expected}
    assert made == expected


def test_vectors_that_should_be_one_event_are_one() -> None:
    assert VECTORS["K01"]["v1"] == VECTORS["K27"]["v1"]  # spaces around the address
    assert (
        len({VECTORS[name]["v2"] for name in ("K16", "K17", "K18", "K19")}) == 1
    )  # four spellings of an instant
    assert VECTORS["K08"]["v2"] == VECTORS["K09"]["v2"]  # a click does not look at ts


# Which version


@pytest.mark.parametrize("setting", [None, "", "1", "0", "4", " 2", "2 ", "v2", "02", "two", "2.0", 1, True])
def test_a_setting_that_names_no_other_version_gives_version_1(setting: object) -> None:
    assert keys.version(setting) == 1
    assert keys.key(setting, SITE, payload(), NOW) == v1()


@pytest.mark.parametrize(("setting", "make"), [("2", v2), (2, v2), ("3", v3), (3, v3)])
def test_a_setting_names_its_version(setting: object, make: Callable[[], str]) -> None:
    assert keys.key(setting, SITE, payload(), NOW) == make()


def test_a_stored_key_tells_its_version() -> None:
    assert [keys.version_of(made()) for made in (v1, v2, v3)] == [1, 2, 3]
    assert keys.version_of(v2().replace("v2:", "canonical:")) == 2


def test_the_same_bytes_are_hashed_by_version_1_and_2_when_their_times_agree() -> None:
    assert v2() == f"v2:{v1()}"


# Windows and clocks


@given(CLOCK, WINDOWS)
@example(4_999, 5_000)
@example(5_000, 5_000)
@example(-1, 5_000)
def test_a_window_begins_at_or_before_its_time_and_ends_after_it(time_ms: int, window_ms: int) -> None:
    start = keys.bucket(time_ms, window_ms)
    assert start <= time_ms < start + window_ms
    assert start % window_ms == 0


@given(CLOCK, WINDOWS)
def test_a_window_is_the_one_that_doubles_compute(time_ms: int, window_ms: int) -> None:
    assert keys.bucket(time_ms, window_ms) == math.floor(time_ms / window_ms) * window_ms


@pytest.mark.parametrize(
    ("fields", "window_ms"),
    [
        ({"ea": "heartbeat"}, 10_000),
        ({"ea": "heartbeat", "ec": "page"}, 10_000),
        ({"ea": "heartbeat", "ec": "click"}, 10_000),
        ({"ea": "view", "ec": "page"}, 2_000),
        ({"ea": "page_view", "ec": "click"}, 2_000),
        ({"ea": "click", "ec": "page"}, 2_000),
        ({"ea": "click", "ec": "cta"}, 1),
        ({"ea": "view", "ec": "click"}, 1),
        ({"ea": "call_intent", "ec": "conversion"}, 1),
        ({"ea": "phone_call", "ec": "conversion"}, 2_000),
        ({"ea": "Heartbeat"}, 2_000),
        ({"ea": ["heartbeat"]}, 2_000),
    ],
)
def test_version_2_has_the_window_of_the_kind_that_fits_first(fields: dict[str, Any], window_ms: int) -> None:
    start = keys.bucket(NOW, 10_000)
    assert v2(start, **fields) == v2(start + window_ms - 1, **fields) != v2(start + window_ms, **fields)
    assert v2(start, **fields) != v2(start - 1, **fields)


@pytest.mark.parametrize("make", [v1, v3])
def test_versions_1_and_3_have_a_window_of_five_seconds(make: Callable[..., str]) -> None:
    start = keys.bucket(NOW, 5_000)
    assert make(start) == make(start + 4_999) != make(start + 5_000)


@given(CLOCK, st.integers(-400_000, 400_000))
@example(NOW, 300_000)
@example(NOW, 300_001)
@example(NOW, -300_000)
@example(NOW, -300_001)
def test_a_clients_time_counts_within_five_minutes_and_is_replaced_beyond(now_ms: int, away: int) -> None:
    client = now_ms + away
    in_milliseconds = client >= 10**12
    used = client if in_milliseconds and abs(away) <= 300_000 else now_ms
    if not in_milliseconds and abs(client * 1000 - now_ms) <= 300_000:
        used = client * 1000
    assert keys.time_v2("", "heartbeat", {"ts": client}, now_ms) == keys.bucket(used, 10_000)


@pytest.mark.parametrize("ea", ["click", "call_intent", "phone_call"])
def test_only_heartbeats_and_page_views_look_at_a_clients_time(ea: str) -> None:
    assert v2(ea=ea, ec="cta", ts=NOW + 60_000) == v2(ea=ea, ec="cta")


def test_versions_1_and_3_never_look_at_a_clients_time() -> None:
    assert v1(ts=NOW + 60_000) == v1()
    assert v3(ts=NOW + 60_000) == v3()


@pytest.mark.parametrize("now_ms", [1.7e12, "1700000000000", None])
@pytest.mark.parametrize("make", [v1, v2, v3])
def test_a_clock_that_is_no_whole_number_is_refused(make: Callable[..., str], now_ms: Any) -> None:
    with pytest.raises(TypeError):
        make(now_ms)


# What is hashed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"meta": {"fp": ""}}, {"meta": None}),
        ({"meta": {"fp": 5}}, {"meta": None}),
        ({"meta": [{"fp": "x"}]}, {"meta": None}),
        ({"meta": "fp"}, {"meta": None}),
        ({"ec": None}, {"ec": ""}),
        ({"ec": None}, {"ec": 5}),
        ({"el": None}, {"el": ["button"]}),
        ({"url": None, "u": "https://x"}, {"url": "https://x"}),
        ({"url": " \n", "u": "https://x"}, {"url": "https://x"}),
        ({"url": "https://x", "u": "https://y"}, {"url": "https://x"}),
        ({"url": 12}, {"url": "12"}),
        ({"url": True}, {"url": "true"}),
        ({"url": 1e21}, {"url": "1e+21"}),
        ({"url": 10**20}, {"url": "100000000000000000000"}),
        ({"url": 2**53 + 1}, {"url": "9007199254740992"}),
        ({"url": {"a": 1}}, {"url": "[object Object]"}),
        ({"url": [1, [None, [2.5, []]], {}]}, {"url": "1,,2.5,,[object Object]"}),
        ({"s": "test_site"}, {"s": "\ufefftest_site "}),
        ({"r": "https://from"}, {"r": None}),
    ],
)
def test_two_payloads_that_say_the_same_have_one_key(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert v1(**one) == v1(**other)
    assert v2(**one) == v2(**other)


@pytest.mark.parametrize(
    "field",
    [
        {"ec": "system "},
        {"ea": "HEARTBEAT"},
        {"el": ""},
        {"url": "https://example.com/page#a"},
        {"meta": {"fp": "f"}},
    ],
    ids=str,
)
def test_nothing_but_the_address_is_trimmed_and_no_case_is_folded(field: dict[str, Any]) -> None:
    assert v1(**field) != v1()
    assert v2(**field) != v2()


def test_another_site_has_another_key() -> None:
    assert keys.key_v1(SITE.replace("a", "b"), payload(), NOW) != v1()


def test_an_address_counts_to_4096_units_and_a_character_may_be_cut_in_half() -> None:
    assert v1(url="a" * 4096) == v1(url="a" * 5000) != v1(url="a" * 4095)
    assert v1(url="a" * 4095 + "\U0001f600") == v1(url="a" * 4095 + "\ufffd") == v1(url="a" * 4095 + "\ud83d")
    assert v1(url="\U0001f600" * 2048) == v1(url="\U0001f600" * 2049) != v1(url="\U0001f600" * 2047)


def test_a_space_that_the_cut_brings_to_the_end_stays() -> None:
    assert v1(url="a" * 4095 + " b") == v1(url="a" * 4095 + " c") != v1(url="a" * 4095)


def test_halves_of_a_character_are_replaced_and_two_that_meet_are_one() -> None:
    assert v1(el="x\ud800y") == v1(el="x\udfffy") == v1(el="x\ufffdy")
    assert v1(el="\ud83d" + "\ude00") == v1(el="\U0001f600")
    assert v3(el="\ud83d" + "\ude00") == v3(el="\U0001f600")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"s": None}, "missing_site_or_url"),
        ({"s": 5}, "missing_site_or_url"),
        ({"s": " \ufeff"}, "missing_site_or_url"),
        ({"url": None}, "missing_site_or_url"),
        ({"url": "\u2003"}, "missing_site_or_url"),
        ({"url": []}, "missing_site_or_url"),
        ({"url": {"toString": None}}, "url_not_text"),
        ({"u": [{"toString": "x"}]}, "url_not_text"),
        ({"url": datetime(2026, 1, 1, tzinfo=UTC)}, "url_not_text"),
        ({"event_id": 7}, "event_id_not_text"),
        ({"event_id": ""}, "event_id_not_text"),
        ({"meta": None, "sid": None}, "missing_identity"),
    ],
)
def test_a_payload_without_a_key_is_refused_with_its_reason(fields: dict[str, Any], expected: str) -> None:
    assert code(**fields) == expected


def test_the_page_names_every_reason() -> None:
    source = Path(keys.__file__).parent
    raised = {
        name
        for file in source.glob("*.py")
        for name in re.findall(r'InvalidPayloadError\(\s*"(\w+)"', file.read_text(encoding="utf-8"))
    }
    table = PAGE.read_text(encoding="utf-8").split("| Code | When |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == raised
    assert len(raised) == 5


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_what_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(RefusedError, match="no JSON object"):
        keys.key_v1(SITE, body, NOW)


@pytest.mark.parametrize("make", [v1, v2])
def test_versions_1_and_2_take_an_event_that_is_nobodys_and_look_at_no_event_id(
    make: Callable[..., str],
) -> None:
    assert make(meta=None, sid=None, event_id="a") == make(meta=None, sid=None, event_id=7)


# Version 3

_PART = st.text(alphabet=st.characters(codec=None), max_size=4) | st.sampled_from(
    ["a:", ":", "|", "1:a,", "\ud800"]
)
_PARTS = st.fixed_dictionaries({"ec": _PART, "ea": _PART, "el": _PART, "sid": _PART.filter(bool)})


def in_utf16(parts: dict[str, str]) -> list[bytes]:
    return [parts[name].encode("utf-16-le", "surrogatepass") for name in sorted(parts)]


@given(_PARTS, _PARTS)
def test_two_events_share_a_key_of_version_3_only_when_all_their_fields_agree(
    one: dict[str, str], other: dict[str, str]
) -> None:
    assert (v3(meta=None, **one) == v3(meta=None, **other)) == (in_utf16(one) == in_utf16(other))


def test_fields_that_run_into_each_other_share_a_key_of_versions_1_and_2_and_not_of_version_3() -> None:
    one, other = {"ec": "a|b", "ea": "c"}, {"ec": "a", "ea": "b|c"}
    assert v1(**one) == v1(**other)
    assert v2(**one) == v2(**other)
    assert v3(**one) != v3(**other)


def test_halves_of_characters_stay_apart_in_version_3() -> None:
    assert len({v3(event_id=given) for given in ("\ud800", "\udfff", "\ufffd")}) == 3


def test_addresses_that_differ_behind_the_cut_stay_apart_in_version_3() -> None:
    assert v3(url="a" * 4096) != v3(url="a" * 4097)


def test_an_event_with_an_id_is_the_same_whenever_and_with_whatever_it_comes() -> None:
    assert v3(NOW, event_id="e-1") == v3(NOW + 86_400_000, event_id="e-1", el="other", meta=None, sid=None)
    assert v3(event_id="e-1") != v3(event_id="e-2")
    assert keys.key_v3(SITE.replace("a", "b"), payload(event_id="e-1"), NOW) != v3(event_id="e-1")


def test_an_id_cannot_imitate_the_content_of_an_event() -> None:
    content = keys.preimage_v3("content", SITE, "", "", "", "https://x", "visitor", "0").decode()
    assert v3(event_id=content) != keys.key_v3(SITE, {"s": "s", "url": "https://x", "sid": "visitor"}, 0)


def test_no_id_is_as_null() -> None:
    body = payload()
    assert keys.key_v3(SITE, {**body, "event_id": None}, NOW) == keys.key_v3(SITE, body, NOW)
