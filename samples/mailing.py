"""A mailing of a sample company: the part of its contacts that it goes to, and who of them agreed to be written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

# One in so many left after having agreed; one in so many was never asked.
_LEFT, _NEVER_ASKED = 90, 60


@dataclass(frozen=True, slots=True)
class Consents:
    agreed: tuple[str, ...]
    left: tuple[str, ...]


def part(people: Mapping[tuple[str, str], int], wanted: int) -> tuple[list[str], list[str]]:
    """The stages and personas that name the smallest part with `wanted` people; all of them when there are fewer.

    `people` counts contacts by stage and persona.
    """
    stages = sorted({stage for stage, _ in people})
    personas = sorted({persona for _, persona in people})
    parts = [
        (sum(people.get((stage, persona), 0) for stage in some for persona in of), some, of)
        for some in _choices(stages)
        for of in _choices(personas)
    ]
    _, some, of = min((found for found in parts if found[0] >= wanted), default=(0, stages, personas))
    return list(some), list(of)


def consents(addresses: Sequence[str], most: int) -> Consents:
    """By the place of an address alone, so that it repeats; `most` agreed and stayed, whoever is beyond was never asked."""
    left = tuple(addresses[_LEFT // 2 :: _LEFT])
    stayed = [
        address for place, address in enumerate(addresses, 1) if place % _NEVER_ASKED and address not in left
    ]
    return Consents((*stayed[:most], *left), left)


def _choices(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(words, size) for size in range(1, len(words) + 1))
