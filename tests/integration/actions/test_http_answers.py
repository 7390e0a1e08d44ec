"""What a configuration service may answer, byte by byte: every answer has its meaning, in time, and none breaks a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from kernel.actions.configuration import Address, InDoubt, Rejected, Transient
from kernel.actions.http_configuration import HttpConfiguration
from tests.fakes.answering import answering

ADDRESS = Address(UUID(int=1), "crm", "tenant", "", "max_touches")


def answer(body: bytes, status: int = 200) -> list[bytes]:
    return [b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body]


def of(value: str) -> bytes:
    return b'{"fields": {"max_touches": {"value": %s}, "other": {"value": 1}}}' % value.encode()


@pytest.mark.parametrize(
    "body",
    [
        of("NaN"),
        of("1e999"),
        of('"a\\u0000b"'),
        of('"\\ud800"'),
        of("9" * 5000),
        of("[" * 100_000 + "]" * 100_000),
        of('{"\\u0000": 1}'),
        of('"cut'),
    ],
    ids=["nan", "infinite", "nul", "half a character", "huge", "deep", "nul in a name", "cut off"],
)
def test_an_answer_that_cannot_be_kept_may_pass(body: bytes):
    with (
        answering(lambda request: answer(body)) as url,
        pytest.raises(Transient, match="what is no configuration"),
    ):
        HttpConfiguration(url, timeout_seconds=5).read(ADDRESS)


def test_an_answer_that_only_looks_like_it_is_taken():
    with answering(lambda request: answer(of('"\\\\u0000 and \\u00e4"'))) as url:
        assert HttpConfiguration(url, timeout_seconds=5).read(ADDRESS).value == "\\u0000 and ä"


def test_what_a_service_says_is_told_without_what_no_log_keeps():
    with (
        answering(lambda request: answer(b"no\x00t\x1b[2J \xff", 422)) as url,
        pytest.raises(Rejected) as told,
    ):
        HttpConfiguration(url, timeout_seconds=5).write(ADDRESS, 7, "key")
    assert str(told.value).endswith("the service answered 422 no t [2J \ufffd")


@pytest.mark.parametrize("status", [101, 301, 302, 303, 307, 308, 409, 500, 504])
def test_a_write_that_is_answered_elsewhere_is_in_doubt(status: int):
    with answering(lambda request: answer(b"", status)) as url, pytest.raises(InDoubt):
        HttpConfiguration(url, timeout_seconds=5).write(ADDRESS, 7, "key")


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"]
)
@pytest.mark.parametrize("verb", ["read", "write"])
def test_an_answer_that_drips_ends_at_the_deadline(head: bytes, verb: str):
    def dripping() -> Iterator[bytes]:
        yield head
        for _ in range(40):
            time.sleep(0.1)
            yield b"X"

    started = time.monotonic()
    with answering(lambda request: dripping()) as url, pytest.raises(Transient) as told:
        port = HttpConfiguration(url, timeout_seconds=0.4)
        port.read(ADDRESS) if verb == "read" else port.write(ADDRESS, 7, "key")
    assert isinstance(told.value, InDoubt) == (verb == "write")
    assert time.monotonic() - started < 1.5
