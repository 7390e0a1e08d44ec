"""Which line is which: lines that a bank tells twice are one, lines that happened twice are two.

What a bank says of a line is hashed; of lines that are equal in one file each has its place among them. Overlapping
files add nothing then, in whatever order they come, and a coffee that was bought twice stays two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from kernel.books.ingest.statement import Line


class Identified(NamedTuple):
    """`id` follows from account, hash and occurrence: the same wherever the line is imported into this account. As hex.

    `is_repeated`: an earlier line of the file is the same one.
    """

    line: Line
    content_hash: bytes
    occurrence: int
    id: str
    is_repeated: bool


def content_hash(line: Line) -> bytes:
    """SHA-256 over what the bank says of a line; spaces and letter case do not count."""
    _, on, minor, currency, description, counterparty, bank_ref, _, reference, _, card, _, _ = line
    folded = f"{description}\x1f{counterparty}\x1f{reference}".casefold()
    told = f"{bank_ref or ''}\x1f{on}\x1f{minor}\x1f{currency}\x1f{folded}\x1f{card}"
    return sha256(told.encode()).digest()


def identified(account_id: UUID, lines: Iterable[Line]) -> Iterator[Identified]:
    """The lines of one file, in its order. With the bank's own id a line is told once, however often it stands there."""
    seen: dict[bytes, int] = {}
    account = account_id.bytes
    for line in lines:
        content = content_hash(line)
        count = seen[content] = seen.get(content, 0) + 1
        occurrence = count if line.bank_ref is None else 1
        name = account + content + occurrence.to_bytes(4, "big")
        yield Identified(line, content, occurrence, sha256(name).hexdigest()[:32], occurrence < count)
