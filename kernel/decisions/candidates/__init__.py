"""The generators of drafts, by subsystem. A subsystem is one module and one line here.

A generator proposes what could be changed from a value that is known; whether it may be and whether it pays is
decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kernel.decisions.candidates import campaigns, content, crm, data, lifecycle, pricing, routing
from kernel.decisions.contract import Subsystem
from kernel.decisions.levers import Draft, Situation

Generator = Callable[[Situation], Iterable[Draft]]

REGISTRY: Mapping[Subsystem, tuple[Generator, ...]] = {
    "campaigns": campaigns.GENERATORS,
    "crm": crm.GENERATORS,
    "pricing": pricing.GENERATORS,
    "routing": routing.GENERATORS,
    "content": content.GENERATORS,
    "lifecycle": lifecycle.GENERATORS,
    "data": data.GENERATORS,
}


def drafts(situation: Situation) -> list[Draft]:
    return [draft for many in REGISTRY.values() for generate in many for draft in generate(situation)]
