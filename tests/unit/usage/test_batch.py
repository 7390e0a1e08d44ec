"""Keys of a batch: the same as one at a time, from every kind of column."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.usage import keys
from kernel.usage.keys import batch
from kernel.usage.keys.batch import keys_of
from tests.unit.usage.payloads import SITE, requests

NOW = 1_700_000_000_000
EVENT = {"s": "s", "url": "https://example.com/", "ec": "page", "ea": "view", "el": "", "meta": {"fp": "f"}}
# Every field of the quick way as it is usual, and as it may be.
ANY = st.sampled_from(
    [
        None,
        True,
        0,
        1.5,
        "",
        "x",
        " x\ufeff",
        "\x85",
        "\ud800",
        "é",
        [],
        ["x"],
        {},
        {"toString": 1},
        "a" * 5000,
    ]
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        **{name: ANY | st.just("x") for name in ("s", "url", "ec", "el", "sid")},
        **dict.fromkeys(("u", "event_id"), ANY),
        "ea": ANY | st.sampled_from(["heartbeat", "page_view", "click"]),
        "ts": st.integers(NOW - 400_000, NOW + 400_000) | ANY,
        "meta": st.dictionaries(st.sampled_from(["fp", "ts"]), ANY | st.just("f")) | ANY,
    },
)
VERSIONS = st.sampled_from([1, 2, 3])


def one_by_one(version: int, body: Any, now_ms: int) -> str | None:
    try:
        return keys.key(version, SITE, body, now_ms)
    except keys.InvalidPayloadError:
        return None


@given(VERSIONS, BODIES | st.builds(lambda body: {**EVENT, **body}, BODIES))
def test_the_quick_way_gives_what_the_exact_one_gives(version: int, body: dict[str, Any]) -> None:
    assert keys_of(version, SITE, [body], NOW) == [one_by_one(version, body, NOW)]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_thousands_of_requests_give_what_they_give_one_by_one(version: int) -> None:
    asked = list(requests(seed=5, count=1_500))
    bodies = [batch.decoded(each.text) for each in asked]
    times = [each.now_ms for each in asked]
    expected = [one_by_one(version, body, now_ms) for body, now_ms in zip(bodies, times, strict=True)]
    assert keys_of(version, SITE, bodies, times) == expected
    assert keys_of(version, SITE, [each.text for each in asked], times) == expected


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_ordinary_payload_takes_the_quick_way(version: int) -> None:
    assert batch._preimage(version, SITE, EVENT, NOW) is not None
    assert batch._preimage(version, SITE, {**EVENT, "event_id": "e", "ts": NOW}, NOW) is not None
    assert batch._preimage(version, SITE, {"s": "s", "url": "https://ü", "sid": "v"}, NOW) is not None


def test_columns_of_every_kind_give_the_same_keys() -> None:
    bodies = [{**EVENT, "el": str(n)} for n in range(3)]
    texts = [json.dumps(body) for body in bodies]
    times = [NOW, NOW + 5_000, NOW + 10_000]
    expected = [keys.key_v1(SITE, body, now_ms) for body, now_ms in zip(bodies, times, strict=True)]
    for payloads in (
        *(bodies, tuple(bodies), texts, [text.encode() for text in texts], iter(texts)),
        *(pd.Series(texts), pd.Series(bodies), pd.Series(texts, dtype="string[pyarrow]"), np.array(texts)),
        *(pa.array(texts), pa.array(bodies), pa.chunked_array([texts]), pa.Table.from_pylist(bodies)),
        pa.array([text.encode() for text in texts]),
    ):
        assert keys_of(None, SITE, payloads, times) == expected
    for column in (pd.Series(times), np.array(times), pa.array(times)):
        assert keys_of(None, pa.array([SITE] * 3), bodies, column) == expected


def test_each_row_has_its_own_site_and_time() -> None:
    sites = [SITE, SITE.replace("a", "b")]
    made = keys_of("2", sites, [EVENT, EVENT], [NOW, NOW + 2_000])
    assert made == [keys.key_v2(sites[0], EVENT, NOW), keys.key_v2(sites[1], EVENT, NOW + 2_000)]
    assert keys_of("2", SITE, [EVENT, EVENT], np.int64(NOW)) == [made[0]] * 2


def test_a_row_without_a_key_is_none_and_keeps_its_place() -> None:
    rows = [
        EVENT,
        {"s": "s"},
        None,
        "not json",
        '{"s":"s","url":NaN}',
        "[" * 100_000,
        json.dumps(EVENT),
        float("nan"),
    ]
    key = keys.key_v1(SITE, EVENT, NOW)
    assert keys_of("1", SITE, rows, NOW) == [key, None, None, None, None, None, key, None]
    assert keys_of("1", SITE, [], NOW) == []


def test_bytes_are_read_as_a_server_reads_a_body() -> None:
    body = json.dumps({**EVENT, "el": "x"}).encode()
    assert keys_of("1", SITE, [b"\xef\xbb\xbf" + body], NOW) == keys_of("1", SITE, [body], NOW)
    broken = body.replace(b'"x"', b'"\xff"')
    assert keys_of("1", SITE, [broken], NOW) == [keys.key_v1(SITE, {**EVENT, "el": "\ufffd"}, NOW)]


def test_numbers_of_any_length_are_read() -> None:
    digits = "1" * 5_000
    text = json.dumps(EVENT)[:-1] + f', "ev": {digits}, "ts": {digits}}}'
    assert keys_of("2", SITE, [text], NOW) == [keys.key_v2(SITE, EVENT, NOW)]


@pytest.mark.parametrize(("sites", "times"), [([SITE], NOW), (SITE, [NOW]), (SITE, [NOW] * 3)])
def test_columns_of_different_lengths_are_refused(sites: Any, times: Any) -> None:
    with pytest.raises(ValueError, match="zip"):
        keys_of("1", sites, [EVENT, EVENT], times)


@pytest.mark.parametrize("time", [1.7e12, "1", None])
def test_a_time_that_is_no_whole_number_is_refused(time: Any) -> None:
    with pytest.raises(TypeError):
        keys_of("1", SITE, [EVENT], [time])
