"""Whatever is sent to where callbacks are taken is answered and counted, and nothing of it is left when that ends."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from kernel.delivery import listening
from kernel.delivery.listening import Heard
from kernel.errors import RefusedError
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, _Answering, company

EVENT = json.dumps([{"event_id": "e1", "kind": "delivered", "reference": "theirs"}]).encode()


@pytest.fixture
def acme(world: World) -> Company:
    return company(world.engine, world.ledger)


@contextmanager
def listens(acme: Company, provider: Callable | None = None) -> Iterator[tuple[int, Heard]]:
    made = provider or (lambda _: _Answering(acme))
    with listening.listening(acme.engine, acme.tenant_id, acme.account_id, made) as (url, heard):
        yield urlsplit(url).port, heard


def answered(port: int, body: bytes = EVENT, *headers: str, signature: str = "recorder") -> int | None:
    """The status of the answer to a request with these headers, or with the length of its body; None without an answer."""
    lines = [
        "POST /callbacks HTTP/1.1",
        f"signature: {signature}",
        *(headers or [f"Content-Length: {len(body)}"]),
    ]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        connection.shutdown(socket.SHUT_WR)
        told = connection.makefile("rb").readline().split()
    return int(told[1]) if told else None


def counts(heard: Heard) -> tuple[int, int, int, int]:
    return heard.callbacks, heard.events, heard.refused, heard.failed


def test_a_callback_is_taken_and_one_that_is_not_signed_refused(acme: Company) -> None:
    with listens(acme) as (port, heard):
        told = [answered(port), answered(port), answered(port, signature="somebody")]
    assert (told, counts(heard)) == ([204, 204, 401], (2, 1, 1, 0))


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Length: x", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 5_0", 400),
        ("Content-Length: ²", 400),
        ("Content-Length:", 400),
        ("Content-Length: 500", 400),
        ("Content-Length: 1048577", 413),
        (f"Content-Length: {'9' * 5000}", 413),
        ("Host: acme", 411),
    ],
)
def test_a_length_that_cannot_be_is_answered(
    acme: Company, header: str, status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    with listens(acme) as (port, heard):
        told = answered(port, b"{}", header)
    assert (told, counts(heard)) == (status, (0, 0, 0, 1))
    assert "Traceback" not in caplog.text + capfd.readouterr().err


def refuses(_: sa.Row) -> _Answering:
    raise RefusedError("the account cannot be used: callback_credentials")


def fails(_: sa.Row) -> _Answering:
    raise sa.exc.OperationalError(
        "select 1", {"address": "ann@x.co"}, Exception("the server is away\nat once")
    )


@pytest.mark.parametrize(("provider", "why"), [(refuses, "callback_credentials"), (fails, "server is away")])
def test_what_keeps_a_callback_from_being_taken_is_answered_so_that_it_comes_again(
    acme: Company, provider: Callable, why: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    with listens(acme, provider) as (port, heard):
        told = answered(port)
    assert (told, counts(heard)) == (503, (0, 0, 0, 1))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert why in record.getMessage()
    assert record.exc_info is None
    assert "ann@x.co" not in caplog.text
    assert capfd.readouterr().err.count("Traceback") == 0


def test_a_mistake_of_ours_is_answered_and_shown(acme: Company, caplog: pytest.LogCaptureFixture) -> None:
    with listens(acme, lambda _: None) as (port, heard):
        assert answered(port) == 500
    assert counts(heard) == (0, 0, 0, 1)
    assert "AttributeError" in caplog.text


def test_the_end_waits_for_what_was_begun(acme: Company) -> None:
    begun = threading.Event()

    def slow(_: sa.Row) -> _Answering:
        begun.set()
        time.sleep(0.3)
        return _Answering(acme)

    told = []
    with listens(acme, slow) as (port, heard):
        sender = threading.Thread(target=lambda: told.append(answered(port)))
        sender.start()
        assert begun.wait(5)
    assert counts(heard) == (1, 1, 0, 0)
    sender.join()
    assert told == [204]


def test_the_end_waits_for_nobody_who_has_not_said_all(acme: Company) -> None:
    with listens(acme) as (port, heard):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
        time.sleep(0.1)
        ended = time.monotonic()
    assert time.monotonic() - ended < 3
    assert counts(heard) == (0, 0, 0, 1)
    connection.close()
