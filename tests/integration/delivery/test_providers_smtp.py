"""The mail adapter before a real mail server: log-in, encryption, one connection for many, and what goes over it."""

from __future__ import annotations

import shutil
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from kernel.delivery.providers.base import Message
from kernel.delivery.providers.smtp import Smtp, SmtpConfig
from tests.integration.delivery.conformance import SECRET, MailServer

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MESSAGE = Message(
    "0190-r1",
    "email",
    "Zoë Acme <news@acme.example>",
    "bob@example.org",
    "Grüße 🎉",
    "Hi\n.\n..dots\rü" + "x" * 2000,
)


@contextmanager
def serving(**given: Any) -> Iterator[MailServer]:
    server = MailServer(**given)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def client(port: int, secret: str = "", **config: Any) -> Smtp:
    config = {"host": "localhost", "port": port, "tls": "none", "timeout_seconds": 1} | config
    return Smtp(SmtpConfig.model_validate(config), secret=secret, clock=lambda: NOW)


def test_a_message_arrives_as_it_was_written():
    headers = {
        "List-Unsubscribe": "<https://acme.example/u/1>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    with serving() as server:
        (outcome,) = client(server.port).send([replace(MESSAGE, headers=headers)], "key")
    (kept,) = server.kept
    came = message_from_bytes(kept.content, policy=policy.default)
    assert (kept.mail_from, kept.rcpt_tos) == ("news@acme.example", ["bob@example.org"])
    assert (str(came["From"]), came["To"], came["Subject"]) == (
        MESSAGE.sender,
        MESSAGE.address,
        MESSAGE.subject,
    )
    assert came["Message-ID"] == outcome.message_id == "<0190-r1@acme.example>"
    assert came["Date"].datetime == NOW
    assert {name: came[name] for name in headers} == headers
    assert came.get_content_type() == "text/plain"
    assert came.get_content().splitlines() == MESSAGE.body.splitlines()
    # A line that ends otherwise is one end of a message to some servers, and not to others.
    assert b"\n" not in kept.content.replace(b"\r\n", b"")
    assert b"\r" not in kept.content.replace(b"\r\n", b"")


@pytest.mark.parametrize(("is_html", "kind"), [(True, "text/html"), (False, "text/plain")])
def test_a_body_arrives_as_what_it_was_written_as(is_html: bool, kind: str):
    with serving() as server:
        client(server.port).send([replace(MESSAGE, body="<p>Hi</p>", is_html=is_html)], "key")
    assert message_from_bytes(server.kept[0].content).get_content_type() == kind


def test_html_with_a_plain_text_arrives_as_both_and_the_better_one_last():
    both = replace(MESSAGE, body="<p>Grüße</p>", plain_body="Grüße\n.\nim Text", is_html=True)
    with serving() as server:
        client(server.port).send([both], "key")
        client(server.port).send([both], "key")
    came = message_from_bytes(server.kept[0].content, policy=policy.default)
    assert came.get_content_type() == "multipart/alternative"
    told = [(part.get_content_type(), part.get_content().strip()) for part in came.iter_parts()]
    assert [(kind, text.splitlines()) for kind, text in told] == [
        ("text/plain", both.plain_body.splitlines()), ("text/html", ["<p>Grüße</p>"]),
    ]  # fmt: skip
    # The same message is the same bytes, whenever it is written.
    assert server.kept[0].content == server.kept[1].content
    assert b"\n" not in server.kept[0].content.replace(b"\r\n", b"")


@pytest.mark.parametrize("name", ["From", "bcc", "Message-ID", "Content-Type", "Resent-To"])
def test_a_message_brings_no_header_that_is_ours(name: str):
    with serving() as server:
        (outcome,) = client(server.port).send([replace(MESSAGE, headers={name: "eve@example.org"})], "key")
    assert (outcome.state, outcome.error_code) == ("rejected", "content")
    assert not server.kept


@pytest.mark.parametrize(
    "address", ["bob", "bob@", "a@b@c", "a b@c.d", "<a@b.c>", "a@b.c,eve@x.y", "a@b.c> BODY=8BITMIME", ""]
)
def test_what_is_no_address_is_not_tried(address: str):
    with serving() as server:
        (outcome,) = client(server.port).send([replace(MESSAGE, address=address)], "key")
    assert (outcome.state, outcome.error_code) == ("rejected", "content")
    assert server.connections == 0 or not server.kept


def test_letters_beyond_ascii_need_a_server_that_takes_them():
    foreign = replace(MESSAGE, address="jörg@example.org")
    with serving(enable_SMTPUTF8=True) as server:
        assert client(server.port).send([foreign], "key")[0].state == "accepted"
        assert server.kept[0].rcpt_tos == ["jörg@example.org"]
    with serving(enable_SMTPUTF8=False) as server:
        (outcome,) = client(server.port).send([foreign], "key")
    assert (outcome.state, outcome.is_retryable, outcome.error_code) == ("rejected", False, "content")


def test_one_connection_serves_many_messages_and_is_left_by_none_in_the_middle():
    with serving() as server:
        first = server.connections
        port = client(server.port)
        for fault in (None, "recipient refused", "text deferred", None):
            server.faults = [fault] if fault else []
            port.send([MESSAGE], "key")
        assert server.connections - first == 1
        port.close()


def test_a_connection_that_the_server_has_left_is_opened_again():
    with serving(timeout=0.2) as server:
        port = client(server.port)
        assert port.send([MESSAGE], "key")[0].state == "accepted"
        time.sleep(0.5)
        assert port.send([MESSAGE], "key")[0].state == "accepted"
        port.close()
    assert len(server.kept) == 2


@contextmanager
def scripted(*replies: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A mail server that greets, answers each line with the next reply, and keeps what it was told."""
    told: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            left = list(replies)
            self.wfile.write(left.pop(0))
            is_text = False
            for line in self.rfile:
                told.append(line)
                if is_text and line != b".\r\n":
                    continue
                if not left:
                    return
                reply = left.pop(0)
                is_text = reply.startswith(b"354")
                self.wfile.write(reply)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_address[1], told
        server.shutdown()
        thread.join()


OPENED = (b"220 hi\r\n", b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        ((b"554 no\r\n",), ("rejected", False)),
        ((b"421 later\r\n",), ("rejected", True)),
        ((b"200 odd\r\n",), ("rejected", True)),
        ((*OPENED[:2], b"451 later\r\n"), ("rejected", True)),
        ((*OPENED[:2], b"550 no\r\n"), ("rejected", False)),
        ((*OPENED[:4], b"250 odd\r\n"), ("rejected", True)),
        ((*OPENED, b"250 ok\r\n"), ("accepted", False)),
        ((*OPENED, b"421 later\r\n"), ("rejected", True)),
        ((*OPENED, b"554 no\r\n"), ("rejected", False)),
        ((*OPENED, b"354 odd\r\n"), ("unknown", False)),
        ((*OPENED, b"what\r\n"), ("unknown", False)),
        ((*OPENED, b"250-cut"), ("unknown", False)),
        ((*OPENED, b"250" + b"x" * 9000 + b"\r\n"), ("unknown", False)),
        (OPENED, ("unknown", False)),
        (OPENED[:4], ("rejected", True)),
        ((), ("rejected", True)),
    ],
    ids=range(16),
)
def test_every_reply_has_its_meaning(replies: tuple[bytes, ...], told: tuple[str, bool]):
    with scripted(*(replies or (b"",))) as (port, _):
        (outcome,) = client(port, timeout_seconds=0.5).send([MESSAGE], "key")
    assert (outcome.state, outcome.is_retryable) == told, outcome


def test_a_reply_too_many_is_not_taken_for_that_to_the_next_message():
    with scripted(*OPENED, b"250 ok\r\n250 once more\r\n", b"250 reset\r\n") as (port, told):
        sender = client(port, timeout_seconds=0.5)
        assert [sender.send([MESSAGE], "key")[0].state for _ in range(2)] == ["accepted", "accepted"]
        sender.close()
    assert b"rset\r\n" not in [line.lower() for line in told]


# Log-in and encryption -------------------------------------------------------------------------------------------


def authenticator(server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
    return AuthResult(
        success=(given.login, given.password) == (b"news@acme.example", SECRET.encode()), handled=False
    )


def test_who_has_a_secret_logs_in():
    with serving(authenticator=authenticator, auth_required=True) as server:
        assert client(server.port, SECRET).send([MESSAGE], "key")[0].state == "accepted"
        (wrong,) = client(server.port, f"not {SECRET}").send([MESSAGE], "key")
        (without,) = client(server.port).send([MESSAGE], "key")
    assert (wrong.state, wrong.is_retryable, wrong.error_code) == ("rejected", False, "credentials")
    assert (without.state, without.error_code) == ("rejected", "credentials")
    assert SECRET not in repr(wrong)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and it is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*command.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    return folder


def tls(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize("kind", ["starttls", "ssl"])
def test_an_encrypted_connection_wants_a_certificate_it_can_trust(
    kind: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    given = {"tls_context": tls(certificate)} if kind == "starttls" else {"ssl_context": tls(certificate)}
    with serving(authenticator=authenticator, auth_required=True, **given) as server:
        (untrusted,) = client(server.port, SECRET, tls=kind).send([MESSAGE], "key")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
        port = client(server.port, SECRET, tls=kind)
        trusted = [port.send([MESSAGE], "key")[0] for _ in range(3)]
        port.close()
    assert (untrusted.state, untrusted.error_code) == ("rejected", "not_sent")
    assert [outcome.state for outcome in trusted] == ["accepted"] * 3
    assert len(server.kept) == 3


def test_a_server_without_encryption_is_not_told_the_password():
    with scripted(b"220 hi\r\n", b"250 hello\r\n") as (port, told):
        (outcome,) = client(port, SECRET, tls="starttls").send([MESSAGE], "key")
    assert (outcome.state, outcome.is_retryable, outcome.error_code) == ("rejected", True, "not_sent")
    assert len(told) == 1


@pytest.mark.parametrize(
    "challenge", [b"334 a\r\n", b"334 \xff\r\n", b"334 " + b"A" * 9000 + b"\r\n"], ids=range(3)
)
def test_a_challenge_that_cannot_be_read_has_sent_nothing(challenge: bytes):
    offer = b"250-hello\r\n250 AUTH CRAM-MD5\r\n"
    with scripted(b"220 hi\r\n", offer, challenge, b"535 no\r\n") as (port, _):
        (outcome,) = client(port, SECRET).send([MESSAGE], "key")
    assert outcome.state == "rejected"
    assert SECRET not in repr(outcome)
