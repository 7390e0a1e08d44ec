"""Keys: what makes an item the same item, and a call the same call."""

from __future__ import annotations

import hashlib


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
