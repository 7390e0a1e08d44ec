"""The ways by which people are told: a signed webhook, and e-mail. What they are told, and when, stands in `telling`."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import smtplib
import ssl
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from typing import Any
from urllib.parse import unquote, urlsplit

from kernel.errors import RefusedError
from kernel.http import Client, NoAnswer, NotSent, is_address

_SECONDS = 10
_LEAST_SECRET = 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"smtp": 587, "smtps": 465}
_ADDRESS = re.compile(r"[^\s@<>(),;:]+@[^\s@<>(),;:]+")
_log = logging.getLogger(__name__)


class NotToldError(RefusedError):
    """Nobody was told by this way, as far as is known. The sentence holds no secret."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Webhook:
    """POSTs {"subject", "body", "fields"} as JSON. X-Signature is `v1=` and the HMAC-SHA256 by the secret, in hex, over
    X-Timestamp (seconds since 1970), a dot and the body. Redirects are not followed; 2xx means it was taken.

    Raises ValueError for an address that is not https, unless it is this machine's, and for a short secret.
    """

    url: str = field(repr=False)  # it may hold a token
    secret: str = field(repr=False)
    clock: Callable[[], datetime] = _now
    timeout_seconds: float = _SECONDS

    def __post_init__(self) -> None:
        parts = urlsplit(self.url) if is_address(self.url) else None
        if parts is None or (parts.scheme != "https" and parts.hostname not in _LOOPBACK):
            raise ValueError("the webhook is no https address: write https://host/path")
        if len(self.secret) < _LEAST_SECRET:
            raise ValueError(f"the webhook's secret is shorter than {_LEAST_SECRET} characters")

    def tell(self, subject: str, body: str, fields: Mapping[str, Any]) -> None:
        """Raises NotToldError."""
        content = json.dumps({"subject": subject, "body": body, "fields": fields}).encode()
        timestamp = str(int(self.clock().timestamp()))
        mac = hmac.digest(self.secret.encode(), f"{timestamp}.".encode() + content, hashlib.sha256)
        headers = {
            "Content-Type": "application/json", "X-Timestamp": timestamp, "X-Signature": f"v1={mac.hex()}",
        }  # fmt: skip
        host = urlsplit(self.url).hostname
        try:
            status = (
                Client(self.url, timeout_seconds=self.timeout_seconds)
                .ask("POST", content=content, headers=headers)
                .status
            )
        except (NotSent, NoAnswer) as error:
            raise NotToldError(f"the webhook at {host} did not answer: {error}") from None
        if not 200 <= status < 300:
            raise NotToldError(f"the webhook at {host} answered {status}: it takes with 200 to 299")


@dataclass(frozen=True, slots=True)
class Mail:
    """E-mail through a mail server, smtp://user@host:587 or smtps://host. TLS is used when the server offers it, and a
    password is said to no server without, unless that is this machine.

    Raises ValueError for what is no address, and for a user without a password or the other way round.
    """

    server: str = field(repr=False)
    sender: str
    recipients: tuple[str, ...]
    password: str = field(default="", repr=False)
    clock: Callable[[], datetime] = _now
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context
    timeout_seconds: float = _SECONDS

    def __post_init__(self) -> None:
        scheme, host, _, user = self._parts()
        if scheme not in _PORTS or not host or urlsplit(self.server).password is not None:
            raise ValueError(
                "the mail server is no address without a password: write smtp://user@host:587, or smtps://host"
            )
        for address in (parseaddr(self.sender)[1], *self.recipients):
            if _ADDRESS.fullmatch(address) is None:
                raise ValueError(f"{address!r} is no e-mail address")
        if bool(user) != bool(self.password):
            raise ValueError("a user of the mail server and a password are given together")

    def tell(self, subject: str, body: str, fields: Mapping[str, Any]) -> None:
        """Raises NotToldError. What one of several recipients refuses is logged: the others were told."""
        message = EmailMessage()
        message["From"], message["To"] = self.sender, ", ".join(self.recipients)
        message["Subject"] = subject
        message["Date"] = format_datetime(self.clock())
        message["Message-ID"] = make_msgid(domain=parseaddr(self.sender)[1].rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body)
        host = self._parts()[1]
        try:
            with closing(self._opened()) as session:
                refused = session.send_message(message)
        except smtplib.SMTPResponseException as error:
            # Its own words may repeat what was said to it.
            raise NotToldError(f"the mail server {host} answered {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise NotToldError(f"the mail server {host} took nothing: {type(error).__name__}") from None
        if refused:
            _log.warning(
                "the mail server %s refused %s of %s addresses", host, len(refused), len(self.recipients)
            )

    def _opened(self) -> smtplib.SMTP:
        scheme, host, port, user = self._parts()
        if scheme == "smtps":
            session: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, timeout=self.timeout_seconds, context=self.context()
            )
        else:
            session = smtplib.SMTP(host, port, timeout=self.timeout_seconds)
        try:
            session.ehlo_or_helo_if_needed()
            is_private = scheme == "smtps"
            if not is_private and session.has_extn("starttls"):
                session.starttls(context=self.context())
                session.ehlo()
                is_private = True
            if user:
                if not is_private and host not in _LOOPBACK:
                    raise NotToldError(
                        f"the mail server {host} offers no TLS: the password is not said in the clear"
                    )
                session.login(user, self.password)
        except BaseException:
            session.close()
            raise
        return session

    def _parts(self) -> tuple[str, str, int, str]:
        """Scheme, host, port and user. Raises ValueError for a port that is none."""
        parts = urlsplit(self.server)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        return parts.scheme, parts.hostname or "", port, unquote(parts.username or "")
