"""What of a message can be sent at all, whatever the provider. What one provider alone refuses stands with it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence

from kernel.delivery.providers.base import Message, Outcome, rejected

EMAIL = re.compile(r"[^\s@<>(),;:\\\"\[\]]{1,64}@[^\s@<>(),;:\\\"\[\]]{1,253}")
_REFERENCE = re.compile(r"[\w.-]{1,128}", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_KEY = re.compile(r"[!-~]{1,256}")


def begins_with_tag(body: str) -> bool:
    """Whether a body, as it was written, is HTML."""
    return re.match(r"\s*<[a-zA-Z!]", body) is not None


def header_key(key: str) -> str:
    """The key as a header takes it; one that is too long or of other characters goes as its digest."""
    return key if _KEY.fullmatch(key) else hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def unsendable(message: Message) -> str | None:
    """Why the message cannot be sent; None when it can be tried."""
    if not _REFERENCE.fullmatch(message.reference):
        return "the reference is not of letters, digits, dots and dashes"
    if strange := next((name for name in message.headers if not _HEADER_NAME.fullmatch(name)), None):
        return f"{strange[:40]!a} is no name of a header"
    lines = {"sender": message.sender, "address": message.address, "subject": message.subject}
    lines |= {f"header {name}": value for name, value in message.headers.items()}
    for name, text in lines.items():
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
            return f"the {name} holds a line break or a character that is none"
    body = message.body + (message.plain_body or "")
    if "\0" in body or any(unicodedata.category(character) == "Cs" for character in body):
        return "the body holds the character NUL or half a character"
    return None


def sendable(
    messages: Sequence[Message],
    send: Callable[[Sequence[Message]], Sequence[Outcome]],
    refusal: Callable[[Message], str | None] = unsendable,
) -> list[Outcome]:
    """Sends what can be sent and rejects the rest; an outcome for each, in their order."""
    why = [refusal(message) for message in messages]
    good = [message for message, told in zip(messages, why, strict=True) if told is None]
    outcomes = iter(send(good) if good else ())
    return [next(outcomes) if told is None else rejected("content", told) for told in why]
