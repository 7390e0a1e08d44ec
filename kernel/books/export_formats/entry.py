"""A posted entry as every format takes it, and by which id a receiver knows it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from uuid import UUID

from kernel.money import major


@dataclass(frozen=True, slots=True)
class Line:
    """One side of an entry, in minor units."""

    account: str
    account_name: str
    debit_minor: int
    credit_minor: int
    memo: str | None = None


@dataclass(frozen=True)
class Posted:
    """A posted entry. `reverses` is the entry that it takes back, `replaces` the one taken back in whose stead it stands."""

    tenant_id: UUID
    id: UUID
    on: date
    currency: str
    memo: str
    lines: tuple[Line, ...]
    reverses: UUID | None = None
    replaces: UUID | None = None

    @property
    def number(self) -> str:
        return number(self.id)

    @cached_property
    def external_id(self) -> str:
        """SHA-256 of what the entry says, 64 hexadecimal digits; the order of its lines does not matter.

        The bytes are `v2|tenant|entry|1|date|currency|` and the lines in order, each `code|debit|credit` in minor units,
        with `;` between them. The 1 is the version of the entry: what is posted is not edited.
        """
        lines = ";".join(
            f"{code}|{debit}|{credit}"
            for code, debit, credit in sorted(
                (line.account, line.debit_minor, line.credit_minor) for line in self.lines
            )
        )
        told = f"v2|{self.tenant_id}|{self.id}|1|{self.on.isoformat()}|{self.currency}|{lines}"
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def told_memo(self) -> str:
        """The memo, behind what the entry takes back or stands for."""
        link = (
            f"[reverses {number(self.reverses)}] "
            if self.reverses
            else f"[replaces {number(self.replaces)}] "
            if self.replaces
            else ""
        )
        return f"{link}{self.memo}"

    def value(self, minor: int) -> Decimal:
        """Minor units as an amount of the entry's currency."""
        return major(minor, self.currency)


def number(entry_id: UUID) -> str:
    """What people and programs call an entry by: 19 characters, for receivers take no more than 21."""
    return f"JE-{entry_id.hex[:16]}"
