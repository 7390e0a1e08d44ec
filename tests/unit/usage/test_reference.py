"""Random requests through our keys and through a JavaScript of their own (node): every byte agrees, in every version.

A check that can fail: each of the mistakes below, made in our code on purpose, is found by the same comparison.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kernel.usage import keys
from kernel.usage.keys import batch, javascript, payload
from tests.unit.usage.payloads import SITE, Request, requests

SCRIPT = Path(__file__).with_name("reference_keys.js")
Answers = list[tuple[Request, list[str]]]


def answered(asked: list[Request]) -> Answers:
    """Each request with what JavaScript makes of it: three keys, or the reasons for none."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; keys are compared with a JavaScript of their own where it is")
    lines = [json.dumps({"site": SITE, "now": each.now_ms, "text": each.text}) + "\n" for each in asked]
    ran = subprocess.run(
        [node, str(SCRIPT)],
        input="".join(lines),
        env={**os.environ, "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=True,
    )
    return list(zip(asked, map(json.loads, ran.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def answers() -> Answers:
    return answered(list(requests(seed=20260401, count=5_000)))


def no_json(constant: str) -> NoReturn:
    raise ValueError(constant)


def key_or_reason(version: int, request: Request) -> str:
    try:
        body = json.loads(request.text, parse_constant=no_json)
    except ValueError:
        return "no_json"
    try:
        return keys.key(version, SITE, body, request.now_ms)
    except keys.InvalidPayloadError as refused:
        return refused.code


def differences(answers: Answers) -> Iterator[str]:
    """Where one key at a time differs from JavaScript."""
    for request, expected in answers:
        made = [key_or_reason(version, request) for version in (1, 2, 3)]
        if made != expected:
            yield f"{made} and not {expected} for {request}"


def differences_of_batches(answers: Answers) -> Iterator[str]:
    """Where many keys at a time differ from JavaScript."""
    texts, times = [request.text for request, _ in answers], [request.now_ms for request, _ in answers]
    for version in (1, 2, 3):
        made = batch.keys_of(version, SITE, texts, times)
        for (request, expected), key in zip(answers, made, strict=True):
            wanted = expected[version - 1]
            if key != (wanted if len(wanted) >= 64 else None):
                yield f"{key} and not {wanted} for {request}"


def test_keys_are_those_of_javascript(answers: Answers) -> None:
    assert list(differences(answers)) == []


def test_keys_of_a_batch_are_those_of_javascript(answers: Answers) -> None:
    assert list(differences_of_batches(answers)) == []


@pytest.mark.slow
def test_a_hundred_thousand_keys_are_those_of_javascript() -> None:
    for seed in range(10):
        some = answered(list(requests(seed, count=10_000)))
        assert list(differences(some)) == []
        assert list(differences_of_batches(some)) == []


def test_the_requests_reach_what_is_to_be_compared(answers: Answers) -> None:
    # Enough of each that a rule that is broken for one in a hundred of them shows.
    texts = [request.text for request, _ in answers]
    keyed = [(request, made) for request, made in answers if made[1].startswith("v2:")]
    by_client = [request for request, _ in keyed if _looks_at_the_client(request)]
    assert len(keyed) > 4_000
    assert len(by_client) > 500
    assert {made[2] for _, made in answers if len(made[2]) < 64} == {
        *("no_json", "payload_not_object", "missing_site_or_url", "url_not_text"),
        *("event_id_not_text", "missing_identity"),
    }
    assert sum("\ud83d" in text or "\\ud83d" in text for text in texts) > 200
    assert sum(len(text) > 4_096 for text in texts) > 200
    quick = [batch._preimage(1, SITE, batch.decoded(text), 0) is not None for text in texts]
    assert 1_000 < sum(quick) < 4_500


def _looks_at_the_client(request: Request) -> bool:
    body = json.loads(request.text)
    event = payload.parse(body)
    times = [keys.time_v2(event.category, event.action, each, request.now_ms) for each in (body, {})]
    return times[0] != times[1]


MISTAKES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "Python's spaces are trimmed": (javascript, "trim", str.strip),
    "an address is cut by characters": (javascript, "cut", lambda text, units: text[:units]),
    "an address is cut by bytes": (
        javascript,
        "cut",
        lambda text, units: text.encode()[:units].decode("utf-8", "ignore"),
    ),
    "halves of characters are dropped": (javascript, "utf8", lambda text: text.encode("utf-8", "ignore")),
    "halves of characters are question marks": (
        javascript,
        "utf8",
        lambda text: text.encode("utf-8", "replace"),
    ),
    "halves of characters keep their bytes": (
        javascript,
        "utf8",
        lambda text: text.encode("utf-8", "surrogatepass"),
    ),
    "halves that meet stay halves": (javascript, "_paired", lambda text: text),
    "numbers are written as Python does": (javascript, "_number_text", lambda value: f"{value}"),
    "numbers are whole": (javascript, "_number_text", lambda value: f"{value:.0f}"),
    "integers stay exact": (javascript, "number", lambda value: value),
    "a text is a number or is not": (javascript, "parse_float", lambda text: _float_or_nan(text)),
    "dates may be anything": (javascript, "is_iso_like", lambda text: True),
    "booleans are numbers": (javascript, "is_number", lambda value: isinstance(value, (int, float))),
    "lists are no texts": (javascript, "_leaves", lambda array: ["[object Object]"]),
    "windows end where they begin": (keys, "bucket", lambda time, width: -(-time // width) * width),
    "windows are rounded towards 1970": (keys, "bucket", lambda time, width: int(time / width) * width),
    "client times are cut to the edge": (
        keys,
        "_nearby",
        lambda body, now: min(max(payload.client_time_ms(body) or now, now - 300_000), now + 300_000),
    ),
}


def _float_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(answers: Answers, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    owner, name, wrong = MISTAKES[mistake]
    assert hasattr(owner, name)
    monkeypatch.setattr(owner, name, wrong)
    assert _finds_one(differences, answers)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("CLIENT_TOLERANCE_MS", 299_999), ("CLIENT_TOLERANCE_MS", 300_001), ("URL_UNITS", 4095)],
)
def test_a_bound_that_is_off_by_one_is_found(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, name: str, wrong: int
) -> None:
    monkeypatch.setattr(keys, name, wrong)
    assert _finds_one(differences, answers)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("SPACES", " \t\r\n"), ("SPACES", javascript.SPACES + "\x85"), ("_SHORT", 5_000)],
)
def test_a_mistake_of_the_quick_way_alone_is_found(
    answers: Answers, monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(batch, name, wrong)
    assert _finds_one(differences_of_batches, answers)


def _finds_one(compare: Callable[[Answers], Iterator[str]], answers: Answers) -> bool:
    try:
        return next(compare(answers), None) is not None
    except (ValueError, AttributeError, TypeError, OverflowError):
        return True  # a mistake may also throw
