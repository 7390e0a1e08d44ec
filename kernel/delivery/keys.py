"""Keys: what makes an item the same item, and a call the same call."""

from __future__ import annotations

import hashlib
import secrets
import time
from uuid import UUID


def digest(*fields: str) -> str:
    """SHA-256 over the version and every field with its length, so that no two lists of fields give one text.

    As `delivery.item_key` in the database computes it.
    """
    text = "v1" + "".join(f"{len(field.encode())}:{field}" for field in fields)
    return hashlib.sha256(text.encode()).hexdigest()


def provider_key(item_key: str, n: int) -> str:
    """Of one attempt: the same when it is replayed, another after a definite refusal."""
    return f"ro1-{item_key[:48]}-{n}"


def batch_key(keys: list[str]) -> str:
    return f"rob1-{digest(*keys)[:48]}"


def new_id() -> UUID:
    """A UUID of version 7: rows that come one after the other lie beside each other in an index."""
    milliseconds = time.time_ns() // 1_000_000
    return UUID(
        int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    )
