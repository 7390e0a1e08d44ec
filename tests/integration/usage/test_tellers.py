"""The ways by which people are told, against servers on this machine: what arrives, and what each failure says."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from kernel.usage.tellers import Mail, NotToldError, Webhook

NOW = datetime(2026, 1, 15, 10, tzinfo=UTC)
SECRET = "a secret of the webhook"
PASSWORD = "s3cret of the mailbox"
TOLD = ("Usage, acme: over", "It is over.", {"kind": "alarm", "n": 1})


class Hook(ThreadingHTTPServer):
    """Answers every request alike, and keeps it."""

    status = 200
    seconds = 0.0

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/usage"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Hook = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        server.released.wait(server.seconds)
        self.send_response(server.status)
        if server.status == 302:
            self.send_header("Location", server.url + "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def test_a_webhook_gets_signed_json(hook: Hook) -> None:
    Webhook(hook.url, SECRET, lambda: NOW).tell(*TOLD)
    ((path, headers, body),) = hook.got
    assert (path, headers["content-type"]) == ("/usage", "application/json")
    assert json.loads(body) == {"subject": TOLD[0], "body": TOLD[1], "fields": TOLD[2]}
    assert headers["x-timestamp"] == str(int(NOW.timestamp()))
    signed = headers["x-timestamp"].encode() + b"." + body
    assert headers["x-signature"] == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_takes_with_a_2xx_alone_and_is_not_followed(hook: Hook, status: int) -> None:
    hook.status = status
    with pytest.raises(NotToldError, match=f"answered {status}"):
        Webhook(hook.url, SECRET).tell(*TOLD)
    assert len(hook.got) == 1


def test_a_webhook_that_is_silent_is_given_up(hook: Hook) -> None:
    hook.seconds = 20
    with pytest.raises(NotToldError, match="did not answer"):
        Webhook(hook.url, SECRET, timeout_seconds=0.3).tell(*TOLD)


def test_a_webhook_that_is_gone_says_so_without_its_address_or_secret(hook: Hook) -> None:
    hook.server_close()
    with pytest.raises(NotToldError) as failed:
        Webhook(hook.url + "/token-of-ours", SECRET).tell(*TOLD)
    assert "127.0.0.1 did not answer" in str(failed.value)
    assert not [word for word in ("token-of-ours", SECRET) if word in str(failed.value)]


@pytest.mark.parametrize(
    "url", ["http://hooks.example/x", "ftp://x", "hooks.example", "https://a@hooks.example"]
)
def test_a_webhook_is_https_unless_it_is_on_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="no https address"):
        Webhook(url, SECRET)


# E-mail


class Mailbox:
    def __init__(self) -> None:
        self.got: list[tuple[list[str], Any, bool]] = []
        self.logins: list[tuple[str, bool]] = []
        self.refused: tuple[str, ...] = ()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, _options: Any) -> str:
        if address in self.refused:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        told = message_from_bytes(envelope.content, policy=default)
        self.got.append((envelope.rcpt_tos, told, session.ssl is not None))
        return "250 taken"

    def __call__(self, server: Any, session: Any, _envelope: Any, _kind: str, data: Any) -> AuthResult:
        self.logins.append((data.password.decode(), session.ssl is not None))
        return AuthResult(success=data.password.decode() == PASSWORD, handled=False)


class Server(Controller):
    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def served(box: Mailbox, **given: Any) -> Iterator[int]:
    server = Server(box, hostname="127.0.0.1", port=0, ready_timeout=5, **given)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of 127.0.0.1 that nobody has signed but itself."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", str(file) + ".crt"]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    return file


def mail(port: int, user: str = "", **given: Any) -> Mail:
    server = f"smtp://{user}{'@' if user else ''}127.0.0.1:{port}"
    return Mail(server, "Usage <usage@acme.example>", ("ops@acme.example", "cfo@acme.example"), **given)


def test_a_mail_reaches_everybody() -> None:
    box = Mailbox()
    with served(box) as port:
        mail(port, clock=lambda: NOW).tell("Usage, ácme: over", "It is über.", {})
    ((recipients, told, _),) = box.got
    assert recipients == ["ops@acme.example", "cfo@acme.example"]
    assert (told["Subject"], told.get_content().strip()) == ("Usage, ácme: over", "It is über.")
    assert (told["From"], told["Date"].datetime) == ("Usage <usage@acme.example>", NOW)


def test_tls_is_used_when_it_is_offered_and_the_password_is_said_behind_it(certificate: Path) -> None:
    box, server = Mailbox(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(f"{certificate}.crt", certificate)
    trusting = lambda: ssl.create_default_context(cafile=f"{certificate}.crt")  # noqa: E731
    with served(box, tls_context=server, authenticator=box, auth_require_tls=True) as port:
        mail(port, "usage", password=PASSWORD, context=trusting).tell(*TOLD)
        assert [is_private for _, _, is_private in box.got] == [True]
        assert box.logins == [(PASSWORD, True)]
        # A certificate that nobody vouches for is none.
        with pytest.raises(NotToldError, match="SSLCertVerificationError"):
            mail(port, "usage", password=PASSWORD).tell(*TOLD)
    assert len(box.got) == len(box.logins) == 1


def test_a_wrong_password_is_told_without_it() -> None:
    box = Mailbox()
    with (
        served(box, authenticator=box, auth_require_tls=False) as port,
        pytest.raises(NotToldError, match="answered 535") as failed,
    ):
        mail(port, "usage", password="a wrong one").tell(*TOLD)
    assert "wrong" not in str(failed.value)
    assert box.got == []


def test_a_password_is_said_to_no_other_machine_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernel.usage import tellers

    monkeypatch.setattr(tellers, "_LOOPBACK", ())
    box = Mailbox()
    with (
        served(box, authenticator=box, auth_require_tls=False) as port,
        pytest.raises(NotToldError, match="offers no TLS: the password is not said in the clear"),
    ):
        mail(port, "usage", password=PASSWORD).tell(*TOLD)
    assert (box.logins, box.got) == ([], [])


def test_an_address_that_is_refused_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    box = Mailbox()
    box.refused = ("cfo@acme.example",)
    with served(box) as port:
        mail(port).tell(*TOLD)
        assert "refused 1 of 2 addresses" in caplog.text
        box.refused += ("ops@acme.example",)
        with pytest.raises(NotToldError, match="took nothing: SMTPRecipientsRefused"):
            mail(port).tell(*TOLD)
    assert [recipients for recipients, _, _ in box.got] == [["ops@acme.example"]]


def test_a_mail_server_that_is_gone_says_so() -> None:
    with served(Mailbox()) as port:
        pass
    with pytest.raises(
        NotToldError, match=r"the mail server 127\.0\.0\.1 took nothing: ConnectionRefusedError"
    ):
        mail(port).tell(*TOLD)


@pytest.mark.parametrize(
    ("server", "password", "told"),
    [
        ("mail.acme.example", "", "mail server is no address"),
        ("https://mail.acme.example", "", "mail server is no address"),
        ("smtp://usage:pw@mail.acme.example", "pw", "without a password"),
        ("smtp://usage@mail.acme.example", "", "given together"),
        ("smtp://mail.acme.example", "pw", "given together"),
        ("smtp://mail.acme.example:99999", "", "[Pp]ort"),
    ],
)
def test_a_mail_server_that_cannot_be_used_is_refused(server: str, password: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Mail(server, "usage@acme.example", ("ops@acme.example",), password)
