"""What an answer over HTTP means, and what of it is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from kernel.delivery.providers import http
from kernel.delivery.providers.base import Message
from kernel.delivery.providers.content import begins_with_tag, header_key
from kernel.delivery.providers.resend import _email, by_place

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def classify(status: int, body: bytes = b"{}", headers: dict[str, str] | None = None, **given):
    return http.classify(status, headers or {}, body, now=NOW, **given)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_success_with_an_id_is_accepted(status: int):
    told = classify(status, b'{"id": "m1", "more": 1}')
    assert (told.state, told.message_id, told.http_status) == ("accepted", "m1", status)
    assert told.response == {"id": "m1", "more": 1}


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"id": null}', b'{"id": ""}', b'{"id": true}', b'{"id": {}}', b'{"id": "a\\u0000"}', b'{"id":',
     b'{"id": "\\ud800"}', b"\xff", b"[" * 100_000, b'{"id": "' + b"a" * 256 + b'"}'],
    ids=range(13),
)  # fmt: skip
def test_success_without_an_id_that_can_be_kept_is_unknown(body: bytes):
    told = classify(200, body)
    assert (told.state, told.message_id, told.is_retryable) == ("unknown", None, False)


@pytest.mark.parametrize("status", [400, 402, 404, 405, 410, 413, 415, 422, 451])
def test_a_refusal_is_rejected_for_good(status: int):
    told = classify(status, b'{"name": "invalid_to", "message": "no"}')
    assert (told.state, told.is_retryable, told.error_code) == ("rejected", False, "invalid_to")
    assert told.error == f"answered {status}: no"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_as_credentials(status: int):
    assert classify(status, b'{"name": "x"}').error_code == "credentials"


@pytest.mark.parametrize("status", [100, 301, 302, 307, 408, 409, 425, 444, 499, 500, 502, 503, 504, 599])
def test_what_leaves_it_open_is_unknown(status: int):
    told = classify(status, b'{"id": "m1"}')
    assert (told.state, told.is_retryable, told.error_code) == ("unknown", False, f"http_{status}")


@pytest.mark.parametrize(
    ("told", "wait"),
    [
        ("0", timedelta(0)),
        ("7", timedelta(seconds=7)),
        ("86401", timedelta(hours=24)),
        ("999999999999", timedelta(hours=24)),
        ("Sun, 01 Mar 2026 12:00:30 GMT", timedelta(seconds=30)),
        ("Sun, 01 Mar 2026 12:00:30 -0000", timedelta(seconds=30)),
        ("Sun, 01 Mar 2026 11:00:00 GMT", timedelta(0)),
        ("Sun, 01 Mar 2099 12:00:00 GMT", timedelta(hours=24)),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 5000, None),
        ("²", None),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
    ],
)
def test_how_long_to_wait_is_seconds_or_a_date_and_at_most_a_day(told: str, wait: timedelta | None):
    outcome = classify(429, headers={"retry-after": told})
    assert (outcome.state, outcome.is_retryable, outcome.retry_after) == ("rejected", True, wait)


@pytest.mark.parametrize(
    "body",
    [b'{"id": "m1", "a\\u0000b": "c\\u0000\\ud800", "n": NaN, "i": 1e999}', b"\0\xff\xfe not json \x1b[2J",
     json.dumps({"id": "m1", "long": "\u00e4" * 9000}).encode(), b"[" * 900 + b"]" * 900, b"\xc3\xa4" * 9000],
    ids=range(5),
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 422, 500])
def test_a_response_is_kept_as_a_database_takes_it(body: bytes, status: int):
    told = classify(status, body)
    text = json.dumps(told.response, ensure_ascii=False, allow_nan=False)
    assert len(told.response.get("text", text).encode()) <= http.KEPT_BYTES + len('{"body": }')
    assert "\\u0000" not in text
    assert (told.error or "").isprintable()


def test_no_secret_is_kept_whoever_repeats_it():
    body = json.dumps({"id": "m1", "message": "key s3cret is bad", "s3cret": ["s3cret", {"a": "xs3cretx"}]})
    for status in (200, 401, 422, 429, 500):
        assert "s3cret" not in repr(classify(status, body.encode(), secrets=("s3cret",)))
        assert "s3cret" not in repr(classify(status, b"plain s3cret text", secrets=("s3cret",)))
    assert classify(200, b'{"id": "s3cret"}', secrets=("s3cret",)).state == "unknown"


def states(count: int, body: object) -> list[tuple[str, str | None]]:
    return [(told.state, told.message_id) for told in by_place(count, body, 200, ())]


ACCEPTED = [("accepted", "a"), ("accepted", "b")]
UNKNOWN = ("unknown", None)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, ACCEPTED),
        ({"data": [{"id": "a"}]}, [UNKNOWN, UNKNOWN]),
        ({"data": [{"id": "a"}, {}]}, [("accepted", "a"), UNKNOWN]),
        ({"data": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}, [UNKNOWN, UNKNOWN]),
        ({"data": [{"id": "a"}, {"id": "a"}]}, [UNKNOWN, UNKNOWN]),
        ({"data": [{"id": "b"}], "errors": [{"index": 0, "message": "no"}]}, [("rejected", None), ("accepted", "b")]),
        ({"data": [None, {"id": "b"}], "errors": [{"index": 0}]}, [("rejected", None), ("accepted", "b")]),
        ({"data": [], "errors": [{"index": 0}]}, [("rejected", None), UNKNOWN]),
        ({"data": [{"id": "a"}, {"id": "b"}], "errors": [{"index": 7}, {"index": "0"}, 3]}, ACCEPTED),
        ({"data": {"id": "a"}, "errors": 5}, [UNKNOWN, UNKNOWN]),
        (None, [UNKNOWN, UNKNOWN]),
    ],
)  # fmt: skip
def test_a_batch_is_told_by_place_and_never_guessed(body: object, told: list[tuple[str, str | None]]):
    assert states(2, body) == told


def test_a_key_that_no_header_takes_goes_as_its_digest():
    assert header_key("run/1") == "run/1"
    for strange in ("a" * 257, "ä", "a\r\nb", ""):
        assert len(header_key(strange)) == 64
    assert header_key("ä") != header_key("ö")


@pytest.mark.parametrize(
    ("body", "told"), [("<p>Hi", True), (" \n<!doctype html>", True), ("Hi <b>", False), ("<3", False)]
)
def test_a_body_that_begins_with_a_tag_is_html(body: str, told: bool):
    assert begins_with_tag(body) is told


@pytest.mark.parametrize(
    ("body", "plain_body", "told"),
    [
        ("Hi", None, {"text": "Hi"}),
        ("<b>Ann</b>, hi", None, {"text": "<b>Ann</b>, hi"}),
        ("<p>Hi", "", {"html": "<p>Hi"}),
        ("<p>Hi", "Hi", {"html": "<p>Hi", "text": "Hi"}),
    ],
)
def test_resend_is_given_html_and_plain_text_where_there_are_both(
    body: str, plain_body: str | None, told: dict[str, str]
):
    email = _email(
        Message("r", "email", "a@x.co", "b@x.co", "Hi", body, {}, plain_body, plain_body is not None)
    )
    assert {name: email[name] for name in ("html", "text") if name in email} == told
