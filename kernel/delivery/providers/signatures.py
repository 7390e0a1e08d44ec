"""Signatures over callbacks and calls: how they are made, and how they are compared."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from kernel.delivery.providers.base import BadCallback

TOLERANCE = timedelta(minutes=5)


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def sha256(secret: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, content, hashlib.sha256)


def sha1(secret: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, content, hashlib.sha1)


def is_same(one: str, other: str) -> bool:
    """In a time that tells nothing of where they differ."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


def expect_recent(told: str, now: datetime) -> None:
    """Raises BadCallback for an instant, in seconds since 1970, further than TOLERANCE from now."""
    try:
        at = datetime.fromtimestamp(int(told), UTC)
    except (ValueError, OverflowError, OSError):
        raise BadCallback("the callback has no time") from None
    if abs(now - at) > TOLERANCE:
        raise BadCallback("the callback is too old or from the future")


def is_usable(secret: str) -> bool:
    """Whether a Svix secret can be read; other secrets always can."""
    try:
        return bool(svix_key(secret))
    except ValueError:
        return False


def svix_key(secret: str) -> bytes:
    """The key in `whsec_` and base64. Raises ValueError for what is not base64."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("the secret of callbacks is not base64 behind whsec_") from None


def svix(secret: str, id_: str, timestamp: str, body: bytes) -> str:
    signed = f"{id_}.{timestamp}.".encode() + body
    return base64.b64encode(sha256(svix_key(secret), signed)).decode()


def expect_svix(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The id of the callback. Raises BadCallback unless one of its signatures is right and its time is near."""
    given = lowered(headers)
    id_, timestamp = given.get("svix-id", ""), given.get("svix-timestamp", "")
    if not id_:
        raise BadCallback("the callback has no id")
    expect_recent(timestamp, now)
    right = svix(secret, id_, timestamp, body)
    matches = [
        is_same(value, right)
        for version, _, value in (one.partition(",") for one in given.get("svix-signature", "").split())
        if version == "v1"
    ]
    if not any(matches):
        raise BadCallback("the signature of the callback is wrong")
    return id_
