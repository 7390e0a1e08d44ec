"""Signatures over evidence, which say who certified: Ed25519, with a key in a PEM file that only the certifier reads."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

from kernel.errors import RefusedError

_ALGORITHM = "ed25519"
_PRIME = 2**255 - 19
# Under a key of low order one signature is good for many contents, so nobody has signed anything. By their y, which is
# all of a point but a sign: of order 1, 2, 4, and twice of order 8.
_LOW_ORDER = (
    1,
    _PRIME - 1,
    0,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7,
)
# So that what is signed here is a signature over nothing else.
_CONTEXT = b"revenue-os evidence\n"


def sign(digest: str, key: Path) -> dict[str, str]:
    """The signature over a digest, with the public key that checks it. Raises RefusedError for a file that is no key."""
    private = _private(key)
    value = private.sign(_CONTEXT + digest.encode())
    return {
        "algorithm": _ALGORITHM,
        "public_key": _text(private.public_key().public_bytes_raw()),
        "value": _text(value),
    }


def expect(signature: Any, digest: str) -> str:
    """The public key of who signed. Raises RefusedError when the signature is not over the digest."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if signature["algorithm"] != _ALGORITHM:
            raise ValueError
        raw = base64.b64decode(signature["public_key"], validate=True)
        if _is_of_low_order(raw):
            raise ValueError
        key = Ed25519PublicKey.from_public_bytes(raw)
        key.verify(base64.b64decode(signature["value"], validate=True), _CONTEXT + digest.encode())
    except (InvalidSignature, binascii.Error, KeyError, TypeError, ValueError):
        raise RefusedError(
            "the signature of the evidence is wrong: it was not made over this content"
        ) from None
    return signature["public_key"]


def public_key(file: Path) -> str:
    """Of a PEM file with a public key, or with a private one. Raises RefusedError for a file that is neither."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _read(file)
    if b"PRIVATE" in content:
        return _text(_private(file).public_key().public_bytes_raw())
    try:
        key = load_pem_public_key(content)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise RefusedError(f"{file.name} is no public key of Ed25519 in PEM: see docs/how-to/certify.md")
    return _text(key.public_bytes_raw())


def _is_of_low_order(raw: bytes) -> bool:
    return int.from_bytes(raw, "little") % 2**255 % _PRIME in _LOW_ORDER


def _private(file: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(file), password=None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise RefusedError(
            f"{file.name} is no private key of Ed25519 in PEM without a password: see docs/how-to/certify.md"
        )
    return key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RefusedError(f"the key {file.name} cannot be read ({error.strerror})") from None


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
