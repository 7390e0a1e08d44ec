"""What a call to a language model costs, by model and day, in millionths of a US dollar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal
from functools import cache
from pathlib import Path

import yaml

from kernel.errors import RefusedError

MICROS = 1_000_000  # of a US dollar


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, from a day on; that is as many millionths of a dollar for a token."""

    model: str
    starts: date
    prompt: Decimal
    completion: Decimal

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """In millionths of a dollar, rounded up."""
        exact = prompt_tokens * self.prompt + completion_tokens * self.completion
        return int(exact.to_integral_value(ROUND_CEILING))


@cache
def listed() -> tuple[Price, ...]:
    """The prices that come with the program."""
    rows = yaml.safe_load(Path(__file__).with_name("llm_prices.yaml").read_text(encoding="utf-8"))
    return tuple(
        Price(row["model"], row["from"], Decimal(row["input"]), Decimal(row["output"])) for row in rows
    )


def price(model: str, on: date, prices: Sequence[Price] | None = None) -> Price:
    """The price that holds on a day (UTC). Raises RefusedError for a model that has none: what it costs is not guessed."""
    known = [
        each for each in (listed() if prices is None else prices) if each.model == model and each.starts <= on
    ]
    if not known:
        raise RefusedError(
            f"language model {model!r} has no price on {on}: add it to kernel/books/llm_prices.yaml before it is asked"
        )
    return max(known, key=lambda each: each.starts)
