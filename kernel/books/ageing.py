"""How long open items have been open, as accountants ask it: counted and added up in steps of thirty days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from kernel.books.reconcile import Open
from kernel.money import major

# The last day of each step; what is older comes after them.
STEPS = (30, 60, 90)


@dataclass(frozen=True, slots=True)
class Aged:
    """Items of one currency and step of age, with what of them came in and what went out, both not negative."""

    currency: str
    age: str
    items: int
    money_in: Decimal
    money_out: Decimal


def days(item: Open, on: date) -> int:
    """How long it is open on a day; what lies after it is not old."""
    return max((on - item.on).days, 0)


def aged(items: Sequence[Open], on: date) -> list[Aged]:
    """Every step of each currency that has an item, the youngest first."""
    found = []
    for currency in sorted({each.currency for each in items}):
        of_currency = [each for each in items if each.currency == currency]
        low = 0
        for high in (*STEPS, None):
            within = [
                each.amount
                for each in of_currency
                if low <= days(each, on) and (high is None or days(each, on) <= high)
            ]
            age = f"over {STEPS[-1]} days" if high is None else f"{low} to {high} days"
            money_in = sum((each for each in within if each > 0), major(0, currency))
            money_out = -sum((each for each in within if each < 0), major(0, currency))
            found.append(Aged(currency, age, len(within), money_in, money_out))
            low = (high or 0) + 1
    return found
