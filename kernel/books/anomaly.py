"""What is unusual about a line's amount, by what its vendor's lines were so far.

Which lines were told of twice, imports say. A line that is unusual is never posted by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from kernel.books.contract import BankLine
from kernel.money import major

# Decisions name it: what counts as unusual then can be told later.
DETECTOR = "anomaly-1"
LEAST_LINES = 5
LIMIT = 3.0
# Standard deviations of a normal distribution in its median absolute deviation.
_OF_MAD = 1.4826
# A vendor that always charges the same deviates from it from 16 % on (3 x 0.05 in the logarithm), not from a cent.
_LEAST_SCALE = 0.05


@dataclass(frozen=True, slots=True)
class Usual:
    """Of a vendor's lines of one sign and currency: how many, since when, and median and MAD of log |amount in minor units|."""

    count: int
    first_on: date
    median: float
    mad: float


@dataclass(frozen=True, slots=True)
class Unusual:
    """`z` is None where there are too few lines to tell."""

    why: str
    z: float | None = None


def z(amount_minor: int, usual: Usual) -> float:
    """The robust z-score of log |amount|: (x - median) / (1.4826 MAD), after Iglewicz and Hoaglin (1993)."""
    return (math.log(abs(amount_minor)) - usual.median) / max(_OF_MAD * usual.mad, _LEAST_SCALE)


def look(line: BankLine, usual: Usual | None, *, large_amount: Decimal, is_suspected: bool) -> Unusual | None:
    """Why a line is unusual; None when it is not. `is_suspected`: it may be another line told otherwise."""
    if is_suspected:
        return Unusual("may be another line told twice")
    if usual is not None and usual.count >= LEAST_LINES:
        found = z(line.amount_minor, usual)
        return Unusual("amount far from the vendor's usual ones", found) if abs(found) > LIMIT else None
    is_first = usual is None or line.on <= usual.first_on
    if is_first and major(abs(line.amount_minor), line.currency) > large_amount:
        return Unusual("large amount of a vendor seen for the first time")
    return None
