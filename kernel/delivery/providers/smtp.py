"""E-mail through a mail server. It knows no keys and cannot be asked, so what breaks after the text left is unknown."""

from __future__ import annotations

import base64
import re
import smtplib
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8, EmailPolicy
from email.utils import format_datetime, parseaddr
from typing import Any, Literal

from pydantic import Field

from kernel.delivery.providers import http as calls
from kernel.delivery.providers.adapter import EMAIL_SENDER, Adapter, Config
from kernel.delivery.providers.base import Capabilities, Message, Outcome, rejected, unknown
from kernel.delivery.providers.content import EMAIL, sendable, unsendable
from kernel.delivery.providers.smtp_session import Session
from kernel.http import Deadline

_PORTS = {"starttls": 587, "ssl": 465, "none": 25}
# What says from whom, to whom and how a message is written is ours; it does not come with a message.
_OURS = re.compile(
    r"from|sender|to|cc|bcc|subject|date|message-id|mime-version|content-.*|resent-.*|received", re.I
)


class SmtpConfig(Config):
    host: str = Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")
    port: int | None = Field(None, ge=1, le=65535)
    tls: Literal["starttls", "ssl", "none"] = "starttls"
    # Who logs in when there is a secret; the sender's address unless said otherwise.
    username: str | None = Field(None, pattern=r"^[ -~]{1,256}$")


class Smtp(Adapter):
    """`secret` is the password. A connection serves one message after the other; there are as many as threads send."""

    Config = SmtpConfig
    channels = ("email",)
    sender = EMAIL_SENDER
    capabilities = Capabilities(wave=10, concurrency=2)

    def __init__(self, config: SmtpConfig, **given: Any) -> None:
        super().__init__(config, **given)
        self.capabilities = replace(type(self).capabilities, timeout=config.timeout)
        self._context = ssl.create_default_context() if config.tls != "none" else None
        self._idle: deque[Session] = deque()

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        return sendable(messages, lambda good: [self._send(message) for message in good], _refusal)

    def _send(self, message: Message) -> Outcome:
        sender = parseaddr(message.sender)[1]
        user = self._config.username or sender
        wants_utf8 = not (message.address + sender).isascii()
        try:
            content = _composed(message, sender, self._clock(), SMTPUTF8 if wants_utf8 else SMTP)
        except Exception as error:  # the library that writes messages has more ways to fail than it names
            return rejected("content", f"this cannot be written as a message: {type(error).__name__}")
        session = self._new_session(sender)
        secrets = _secrets(user, self._secret)
        try:
            session = self._ready(session, user, Deadline(self._config.timeout_seconds))
            if wants_utf8 and not session.has_extn("smtputf8"):
                session.close()
                return rejected("content", "the mail server takes no address with such letters")
            code, told = _dialogue(session, message.address, sender, content, wants_utf8)
            outcome = _judged(code, told, session.has_sent, _message_id(message, sender), secrets)
            # After a reply that none can read, the next one may be the reply to this message.
            if code != 421 and (outcome.state == "accepted" or 400 <= code < 600):
                self._idle.append(session)
                return outcome
        except smtplib.SMTPResponseException as error:
            # What is raised after the text was sent is not the server's word on it, but an answer that none can read.
            outcome = _judged(
                0 if session.has_sent else error.smtp_code, error.smtp_error, session.has_sent, "", secrets
            )
        except (smtplib.SMTPException, OSError, ValueError) as error:
            # A ValueError comes of a challenge at log-in that is not base64.
            why = calls.told(str(error), secrets) or type(error).__name__
            outcome = (
                unknown("no_answer", f"no answer after the text was sent: {why}")
                if session.has_sent
                else rejected("not_sent", f"the mail server cannot be used: {why}", retryable=True)
            )
        session.close()
        return outcome

    def _new_session(self, sender: str) -> Session:
        port = self._config.port or _PORTS[self._config.tls]
        domain = sender.rpartition("@")[2]
        return Session(self._config.host, port, self._config.tls, domain=domain, context=self._context)

    def _ready(self, new: Session, user: str, deadline: Deadline) -> Session:
        """A connection that is idle and still answers, else the new one, opened."""
        while self._idle:
            try:
                session = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            session.begin(deadline)
            try:
                if session.is_in_step() and session.rset()[0] == 250:
                    return session
            except (smtplib.SMTPException, OSError):
                pass
            session.close()
        new.begin(deadline)
        new.open(user, self._secret)
        return new

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @classmethod
    def wants(cls, config: Any, secret: str, callback_secret: str) -> list[str]:
        is_open = config.tls == "none" and config.host not in ("localhost", "127.0.0.1", "::1")
        return ["tls"] if secret and is_open else []


def _dialogue(
    session: Session, address: str, sender: str, content: bytes, wants_utf8: bool
) -> tuple[int, bytes]:
    """The reply that settles it: the first refusal, or the last one of all."""
    options = ["SMTPUTF8", "BODY=8BITMIME"] if wants_utf8 else []
    code, told = session.mail(sender, options)
    if code == 250:
        code, told = session.rcpt(address)
    if code not in (250, 251):
        return code, told
    code, told = session.docmd("DATA")
    if code != 354:
        return code, told
    session.has_sent = True
    session.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
    return session.getreply()


def _judged(
    code: int, told: bytes | str, has_sent: bool, message_id: str, secrets: tuple[str, ...]
) -> Outcome:
    said = calls.told(told.decode(errors="replace") if isinstance(told, bytes) else told, secrets)
    why = f"the mail server answered {code}: {said}"
    response = {"code": code, "text": said}
    if has_sent and 200 <= code < 300:
        return Outcome("accepted", message_id=message_id, http_status=code, response=response)
    if code in (530, 534, 535, 538):
        outcome = rejected("credentials", why, http_status=code)
    elif 400 <= code < 600:
        outcome = rejected(f"smtp_{code}", why, retryable=code < 500, http_status=code)
    elif has_sent:
        outcome = unknown("no_answer", f"what the mail server answered after the text cannot be read: {said}")
    else:
        outcome = rejected("not_sent", why, retryable=True, http_status=code)
    return replace(outcome, response=response)


def _message_id(message: Message, sender: str) -> str:
    return f"<{message.reference}@{sender.rpartition('@')[2]}>"


def _composed(message: Message, sender: str, now: datetime, policy: EmailPolicy) -> bytes:
    composed = EmailMessage(policy=policy)
    composed["From"] = message.sender
    composed["To"] = message.address
    composed["Subject"] = message.subject
    composed["Date"] = format_datetime(now)
    composed["Message-ID"] = _message_id(message, sender)
    for name, value in message.headers.items():
        composed[name] = value
    written = {"charset": "utf-8", "cte": "quoted-printable"}
    if not message.plain_body:  # an empty one beside HTML says less than none
        subtype = "html" if message.is_html else "plain"
        composed.set_content(message.body, subtype=subtype, **written)
        return composed.as_bytes()
    composed.set_content(message.plain_body, **written)
    composed.add_alternative(message.body, subtype="html", **written)
    # Not a random one: a message that is composed again is the same.
    composed.set_boundary(f"=_{message.reference}"[:70])
    return composed.as_bytes()


def _secrets(user: str, secret: str) -> tuple[str, ...]:
    """The password, and how the log-in writes it."""
    if not secret:
        return ()
    written = (secret, f"\0{user}\0{secret}")
    return (secret, *(base64.b64encode(text.encode()).decode() for text in written))


def _refusal(message: Message) -> str | None:
    if EMAIL.fullmatch(message.address) is None:
        return "the address is no e-mail address"
    if EMAIL.fullmatch(parseaddr(message.sender)[1]) is None:
        return "the sender is no e-mail address"
    if ours := next((name for name in message.headers if _OURS.fullmatch(name)), None):
        return f"the header {ours} does not come with a message"
    return unsendable(message)
