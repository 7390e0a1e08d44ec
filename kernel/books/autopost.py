"""The gates between a proposal and the journal: all are asked of every line, and one that does not hold keeps it back.

Where the facts come from stands in `decide`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

from kernel.books.contract import REASONS, Reason
from kernel.money import major


@dataclass(frozen=True, slots=True)
class Memory:
    """What people said of a vendor's lines of one sign: how many have a label, and the last of these labels, newest first."""

    label_count: int = 0
    last: tuple[str, ...] = ()

    def is_consistent(self, least: int) -> bool:
        """Whether the last `least` labels are there and name one account: a disagreement begins the count anew."""
        return len(self.last) >= least and len(set(self.last[:least])) == 1


@dataclass(frozen=True, slots=True)
class Facts:
    """All that gates ask. `calibrated_p` is None without a calibrator, `threshold` None while no certificate holds."""

    account: str | None
    bank_code: str
    calibrated_p: float | None
    threshold: float | None
    memory: Memory
    coldstart_min_labels: int
    has_budget_fallback: bool
    is_unusual: bool
    has_rule_conflict: bool


def needs_two(amount_minor: int, currency: str, four_eyes_above: Decimal | None) -> bool:
    """Whether two people are to approve an entry of this amount."""
    return four_eyes_above is not None and major(abs(amount_minor), currency) > four_eyes_above


def failures(facts: Facts, accounts_in_use: Collection[str]) -> tuple[Reason, ...]:
    """The gates that do not hold, the primary reason first; nothing when the line may be posted."""
    account, least = facts.account, facts.coldstart_min_labels
    # Two sides of one account, or of one that is not in use, make no entry; without a proposal there is none to judge.
    makes_no_entry = account is not None and (
        account == facts.bank_code or account not in accounts_in_use or facts.bank_code not in accounts_in_use
    )
    failing = {
        "cold_start": not facts.memory.is_consistent(least) or facts.memory.last[0] != account,
        "below_threshold": facts.calibrated_p is None
        or facts.threshold is None
        or facts.calibrated_p < facts.threshold,
        "imbalance": makes_no_entry,
        "budget_fallback": facts.has_budget_fallback,
        "anomaly": facts.is_unusual,
        "rule_conflict": facts.has_rule_conflict,
    }
    return tuple(reason for reason in REASONS if failing[reason])


def is_drawn(purpose: str, tenant_id: UUID, txn_id: UUID, percent: Decimal | int) -> bool:
    """Whether a line is of a stable part of all lines: the same lines whenever it is asked, and more as it grows."""
    drawn = int.from_bytes(sha256(f"{purpose}|{tenant_id}|{txn_id}".encode()).digest()[:8])
    return drawn * 100 < percent * 2**64
