"""What the rooms of the books hand to each other: lines, what a model says of them, and what became of them.

Statements are read in `ingest`, probabilities are made in the package `ml`, gates stand in `autopost`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal
from uuid import UUID

Reason = Literal["cold_start", "below_threshold", "imbalance", "budget_fallback", "anomaly", "rule_conflict"]
# Of several failures the first of this order is the primary reason.
REASONS: tuple[Reason, ...] = (
    "cold_start", "below_threshold", "imbalance", "budget_fallback", "anomaly", "rule_conflict",
)  # fmt: skip
Stage = Literal["P0", "P1", "P2", "P3"]
# People begin to book the vendor otherwise; many lines at once of a vendor that nobody knows.
Brake = Literal["disputed", "flood"]


@dataclass(frozen=True, slots=True)
class BankLine:
    """A transaction as it is decided about. The amount is in minor units, negative for what leaves the account."""

    id: UUID
    bank_account_id: UUID
    on: date
    amount_minor: int
    currency: str
    description: str
    counterparty: str
    vendor: str
    card: str = ""
    bank_category: str = ""


@dataclass(frozen=True, slots=True)
class Opinion:
    """The account that a language model, by its name, answered for a line."""

    model: str
    account: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What rules, memory and model make of a line, before it is calibrated.

    `account` is None where nobody knows anything; `raw_p` is then 0. `top` are the likeliest accounts with their raw
    probabilities, the proposed one first. `sources` says what each source thought, for people to read. `is_new_vendor`:
    no label of this vendor was known when the model was trained. `is_opinion`: without a language model another account, or
    none, would be proposed.
    """

    txn_id: UUID
    account: str | None
    raw_p: float
    top: tuple[tuple[str, float], ...]
    is_new_vendor: bool
    feature_hash: str
    model_version: str
    sources: Mapping[str, Any] = field(default_factory=dict)
    is_opinion: bool = False


@dataclass(frozen=True, slots=True)
class Sure:
    """How sure one may be of what is proposed for a line.

    `calibrated_p` is None without a calibrator. `confidence` is what was calibrated, where that is not the raw probability;
    `seen` what a confidence is made of, now or later. `brake`: a person looks at the line, however sure one is.
    """

    calibrated_p: float | None = None
    confidence: float | None = None
    seen: bytes | None = None
    brake: Brake | None = None


# Of lines and what is proposed for them, how sure, in their order.
Surety = Callable[[Sequence[BankLine], Sequence[Scored]], Sequence[Sure]]
