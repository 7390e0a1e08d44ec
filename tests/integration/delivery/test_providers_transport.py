"""What goes over HTTP, byte by byte, and how long it may take."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from kernel.delivery.providers import http as calls
from kernel.delivery.providers.base import LookupFailed, Message
from kernel.delivery.providers.registry import PROVIDERS
from kernel.http import LARGEST_ANSWER, Client, NoAnswer, NotSent
from tests.fakes.answering import answering
from tests.integration.delivery.conformance import SECRET

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAIL = Message(
    "r1", "email", "news@acme.example", "bob@example.org", "Grüße", "Hi", {"List-Unsubscribe": "<u>"}
)
TEXT = Message("r1", "sms", "+15550000000", "+15551234567", "", "Grüße & mehr")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answer(body: bytes, status: int = 200, headers: bytes = b"") -> list[bytes]:
    return [b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), headers) + body]


def provider(name: str, **config: Any) -> Any:
    kind = PROVIDERS[name]
    given = kind.Config.model_validate({"timeout_seconds": 1} | config)
    return kind(given, secret=SECRET, clock=lambda: NOW)


def request_of(
    name: str, message: Message, key: str = "key", **config: Any
) -> tuple[str, dict[str, str], bytes]:
    """The first line, the headers and the body of what an adapter sends."""
    asked = []

    def pieces(request: bytes) -> list[bytes]:
        asked.append(request)
        return answer(b'{"id": "m1", "sid": "m1"}')

    with answering(pieces) as url:
        address = {"url": f"{url}/hook?a=1"} if name == "webhook" else {"base_url": f"{url}/base"}
        (outcome,) = provider(name, **address, **config).send([message], key)
    assert outcome.state == "accepted"
    head, _, body = asked[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def test_resend_is_given_a_key_the_reference_and_the_headers():
    first, headers, body = request_of("resend", MAIL)
    assert first == "POST /base/emails HTTP/1.1"
    assert (headers["authorization"], headers["idempotency-key"]) == (f"Bearer {SECRET}", "key")
    assert headers["user-agent"] == "revenue-os"
    assert json.loads(body) == {
        "from": "news@acme.example",
        "to": ["bob@example.org"],
        "subject": "Grüße",
        "text": "Hi",
        "headers": {"List-Unsubscribe": "<u>"},
        "tags": [{"name": "reference", "value": "r1"}],
    }


def test_twilio_is_given_a_form_and_where_to_tell():
    config = {"account_sid": "AC0123", "callback_url": "https://acme.example/told"}
    first, headers, body = request_of("twilio", TEXT, **config)
    assert first == "POST /base/2010-04-01/Accounts/AC0123/Messages.json HTTP/1.1"
    assert headers["authorization"] == f"Basic {calls.basic('AC0123', SECRET)}"
    assert parse_qs(body.decode()) == {
        "To": ["+15551234567"],
        "From": ["+15550000000"],
        "Body": ["Grüße & mehr"],
        "StatusCallback": ["https://acme.example/told?reference=r1"],
    }


def test_vapi_is_given_the_number_the_reference_and_the_text():
    first, headers, body = request_of("vapi", TEXT, assistant_id="a", phone_number_id="p")
    assert (first, headers["authorization"]) == ("POST /base/call HTTP/1.1", f"Bearer {SECRET}")
    assert json.loads(body) == {
        "assistantId": "a",
        "phoneNumberId": "p",
        "customer": {"number": "+15551234567"},
        "metadata": {"reference": "r1"},
        "assistantOverrides": {"variableValues": {"message": "Grüße & mehr", "subject": ""}},
    }


def test_a_webhook_is_signed_over_its_time_and_body():
    first, headers, body = request_of("webhook", MAIL)
    assert first == "POST /hook?a=1 HTTP/1.1"
    timestamp = str(int(NOW.timestamp()))
    signed = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert (headers["x-timestamp"], headers["x-signature"]) == (timestamp, f"v1={signed}")
    assert json.loads(body)["reference"] == "r1"


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "ä", "k" * 300])
def test_a_key_brings_no_header_of_its_own(key: str):
    _, headers, _ = request_of("resend", MAIL, key)
    assert "x-evil" not in headers
    assert len(headers["idempotency-key"]) == 64


# Look-ups --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "found"),
    [(answer(b'{"id": "m1"}'), "m1"), (answer(b"{}", 404), None)],
    ids=["found", "unknown"],
)
def test_a_receiver_can_be_asked_for_a_message(pieces: list[bytes], found: str | None):
    asked = []

    def told(request: bytes) -> list[bytes]:
        asked.append(request)
        return pieces

    with answering(told) as url:
        outcome = provider("webhook", url=url, lookup_url=f"{url}/messages").lookup(MAIL, "key")
    assert (outcome and outcome.message_id) == found
    assert asked[0].startswith(b"GET /messages?reference=r1 HTTP/1.1\r\n")
    assert b"X-Signature: v1=" in asked[0]


@pytest.mark.parametrize(
    "pieces",
    [answer(b"{}"), answer(b"", 500), answer(b"", 401), answer(b"", 429), answer(b"", 302), [b"HTTP"], []],
    ids=range(7),
)
def test_a_receiver_that_cannot_say_is_asked_later(pieces: list[bytes]):
    with answering(lambda request: pieces) as url, pytest.raises(LookupFailed):
        provider("webhook", url=url, lookup_url=url).lookup(MAIL, "key")
    with pytest.raises(LookupFailed):
        provider("webhook", url=url, lookup_url=url).lookup(MAIL, "key")
    with pytest.raises(LookupFailed):
        provider("resend").lookup(MAIL, "key")


# Time and size ---------------------------------------------------------------------------------------------------


def dripping(head: bytes) -> Iterator[bytes]:
    yield head
    for _ in range(60):
        time.sleep(0.05)
        yield b"1"


HEADS = [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]  # fmt: skip


@pytest.mark.parametrize("head", HEADS, ids=range(5))
def test_an_answer_that_drips_ends_at_the_deadline(head: bytes):
    started = time.monotonic()
    with answering(lambda request: dripping(head)) as url, pytest.raises(NoAnswer):
        Client(url, timeout_seconds=0.3).ask("POST", "/", b"{}")
    assert time.monotonic() - started < 1


def test_interim_answers_without_end_are_ended_by_the_deadline():
    def forever() -> Iterable[bytes]:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            yield b"HTTP/1.1 100 Continue\r\n\r\n"

    started = time.monotonic()
    with answering(lambda request: forever()) as url, pytest.raises(NoAnswer):
        Client(url, timeout_seconds=0.3).ask("POST", "/", b"{}")
    assert time.monotonic() - started < 1


def test_a_service_that_reads_slowly_what_it_is_sent_ends_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def read() -> None:
            came, _ = listening.accept()
            with came:
                until = time.monotonic() + 3
                while time.monotonic() < until and not is_over.wait(0.05) and came.recv(1 << 16):
                    pass

        is_over = threading.Event()
        reader = threading.Thread(target=read)
        reader.start()
        started = time.monotonic()
        with pytest.raises(NoAnswer):
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            Client(url, timeout_seconds=0.3).ask("POST", "/", b"x" * (64 << 20))
        assert time.monotonic() - started < 1
        is_over.set()
        reader.join()


def test_a_body_without_end_is_cut():
    with answering(lambda request: [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (LARGEST_ANSWER + 9)]) as url:
        assert len(Client(url, timeout_seconds=2).ask("GET", "/").body) == LARGEST_ANSWER


@pytest.mark.parametrize(
    "answered",
    [[b"\0\0\0"], [b"HTTP/1.1 abc\r\n\r\n"], [b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"],
     [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n"],
     [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]],
    ids=range(5),
)  # fmt: skip
def test_what_is_no_http_is_no_answer(answered: list[bytes]):
    with answering(lambda request: answered) as url, pytest.raises(NoAnswer):
        Client(url, timeout_seconds=1).ask("POST", "/", b"{}")


def test_a_redirection_is_not_followed():
    asked = []

    def pieces(request: bytes) -> list[bytes]:
        asked.append(request)
        return answer(b"", 307, b"Location: /other\r\n")

    with answering(pieces) as url:
        (outcome,) = provider("resend", base_url=url).send([MAIL], "key")
    assert (outcome.state, outcome.http_status, len(asked)) == ("unknown", 307, 1)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}", "http://nowhere.invalid", "https://127.0.0.1:{port}"]
)
def test_where_nobody_listens_nothing_was_sent(url: str):
    with pytest.raises(NotSent):
        Client(url.format(port=free_port()), timeout_seconds=2).ask("POST", "/", b"{}")


def test_a_service_that_speaks_no_tls_was_sent_nothing():
    with answering(lambda request: answer(b'{"id": "m1"}')) as url, pytest.raises(NotSent):
        Client(url.replace("http:", "https:"), timeout_seconds=1).ask("POST", "/", b"{}")


def test_a_header_that_cannot_be_sent_is_told_without_its_value():
    with answering(lambda request: answer(b"{}")) as url, pytest.raises(NotSent) as told:
        Client(url, headers={"Authorization": f"Bearer {SECRET}\n"}).ask("POST", "/", b"{}")
    assert SECRET not in str(told.value)
