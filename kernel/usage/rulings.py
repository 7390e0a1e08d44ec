"""What becomes of the events of a capture, decided in memory from what is held; nothing is read or written here.

Most captures are far from any limit. Events of a month that has room for all of them are accepted together, and their
outcomes are made when somebody asks for one; the others are ruled one by one, in the order they came.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import sqlalchemy as sa

from kernel.usage.events import Event, Outcome
from kernel.usage.plans import Plan


@dataclass(slots=True)
class Slot:
    """A month of a site: what was counted of it before, and what this capture adds.

    `fresh` are the places of new events, ascending; when there is room for all of them they need no ruling each.
    """

    site: str
    month: str
    plan: Plan
    accepted: int
    told: set[int]
    fresh: list[int] = field(default_factory=list)
    has_room: bool = False
    added: int = 0
    overage: int = 0
    rejected: int = 0

    @property
    def used(self) -> int:
        return self.accepted + self.added

    @property
    def plan_id(self) -> str:
        """As an array has it."""
        return str(self.plan.id or "NULL")

    def forget(self) -> None:
        """As if nothing had been ruled."""
        self.fresh, self.has_room = [], False
        self.added = self.overage = self.rejected = 0

    def used_before(self, place: int) -> int:
        """What was used when the event of this place came."""
        return self.accepted + bisect_left(self.fresh, place) if self.has_room else self.used


@dataclass(frozen=True, slots=True)
class Decision:
    """What a row alone does not tell: written beside it."""

    place: int
    decision: Literal["overage", "rejected_quota", "taken_back"]
    reason: str
    used: int
    slot: Slot


class Rulings(Sequence[Outcome]):
    """The outcomes of a capture's events, in their order; a place is an event's number among them.

    `found` are the rows that stand in the ledger already, by place; `earlier` names for a place the one before it with
    the same key; `slots` are those of months that may still be written, by site and month, `own` each event's.
    """

    def __init__(
        self,
        events: Sequence[Event],
        own: list[Slot],
        slots: Mapping[tuple[Any, str], Slot],
        earlier: Mapping[int, int],
        found: Mapping[int, sa.Row[Any]],
    ) -> None:
        self._events, self._slots, self._earlier, self._found = events, slots, earlier, found
        self.slot_of = own
        self.taken_back: list[int] = []
        self.decisions: list[Decision] = []
        self._reasons: dict[int, str] = {}
        self._ruled: dict[int, Outcome] = {}
        self._degraded: set[int] = set()
        for place, slot in enumerate(own):
            if place not in found and place not in earlier:
                slot.fresh.append(place)
        careful = {id(slot) for slot in map(self._refusing_slot, found) if slot is not None}
        places = [*found]
        for slot in {id(slot): slot for slot in own}.values():
            terms = slot.plan.terms
            fits = slot.accepted + len(slot.fresh) <= terms.monthly_limit
            slot.has_room = fits and terms.billing_rule == "every_event" and id(slot) not in careful
            if slot.has_room:
                slot.added = len(slot.fresh)
            else:
                places += slot.fresh
        for place in sorted(places):
            self._rule(place)

    def __len__(self) -> int:
        return len(self._events)

    @overload
    def __getitem__(self, place: int) -> Outcome: ...
    @overload
    def __getitem__(self, place: slice) -> list[Outcome]: ...
    def __getitem__(self, place: int | slice) -> Outcome | list[Outcome]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        if (first := self._earlier.get(place)) is not None:
            of = self[first]
            return self._replayed(place, of.billing_state, of.billable, self.slot_of[place].used)
        if (ruled := self._ruled.get(place)) is not None:
            return ruled
        slot, key = self.slot_of[place], self._events[place].key
        left = slot.plan.terms.remaining(slot.used_before(place) + 1)
        if place in self._degraded:
            return Outcome(key, "degraded", "DEGRADED_CAPTURE", True, left)
        return Outcome(key, "queued", "ACCEPTED", True, left)

    def __iter__(self) -> Iterator[Outcome]:
        return (self[place] for place in range(len(self)))

    def queued(self) -> list[int]:
        """The places of what is handed on: all that was taken now."""
        others = {place for place, outcome in self._ruled.items() if outcome.status != "queued"}
        return [place for place in range(len(self)) if place not in others and place not in self._earlier]

    def degrade(self, places: Collection[int]) -> None:
        """These could not be handed on: they are metered, and delivered later. Overage stays overage."""
        for place in places:
            ruled = self._ruled.get(place)
            if ruled is None:
                self._degraded.add(place)
                continue
            state = "DEGRADED_CAPTURE" if ruled.billing_state == "ACCEPTED" else ruled.billing_state
            self._ruled[place] = ruled._replace(status="degraded", billing_state=state)

    def unusual(self) -> list[int]:
        """The places of all that was not simply accepted and handed on."""
        return sorted({*self._ruled, *self._earlier, *self._degraded})

    def rows(self, places: Sequence[int]) -> tuple[list[str], list[bool], list[str]]:
        """State, whether it is billable, and the reason, of the rows that are written for them."""
        states, billable = ["ACCEPTED"] * len(places), [True] * len(places)
        reasons = ["default_billable"] * len(places)
        if self._ruled:
            for at, place in enumerate(places):
                if (ruled := self._ruled.get(place)) is not None:
                    states[at], billable[at] = ruled.billing_state, ruled.billable
                    reasons[at] = self._reasons[place]
        return states, billable, reasons

    def conflicts(self) -> list[int]:
        """Places of events whose key stands for another payload."""
        return [
            place
            for place in (*self._found, *self._earlier)
            if self._stored_hash(place) != self._events[place].payload_hash
        ]

    def _refusing_slot(self, place: int) -> Slot | None:
        """The slot in which a refusal may be taken back."""
        found = self._found[place]
        if found.billing_state != "REJECTED_QUOTA":
            return None
        return self._slots.get((self._events[place].site.id, found.year_month))

    def _rule(self, place: int) -> None:
        event, found, slot = self._events[place], self._found.get(place), self.slot_of[place]
        if found is not None:
            refusing = self._refusing_slot(place)
            if refusing is None or not self._takes_back(place, refusing):
                used = slot.used_before(place)
                self._ruled[place] = self._replayed(place, found.billing_state, found.billable, used)
                return
            self.slot_of[place] = slot = refusing
        billable, reason = billed(slot.plan, event)
        if not billable:
            self._settle(place, slot, "ACCEPTED", reason, billable=False)
            return
        ruling = slot.plan.terms.ruling(slot.used)
        if found is not None:
            self.taken_back.append(place)
            slot.rejected -= 1
            why = ruling.reason or "below_monthly_limit"
            self.decisions.append(Decision(place, "taken_back", why, slot.used, slot))
        elif ruling.reason is not None:
            decided = "overage" if ruling.state == "OVERAGE" else "rejected_quota"
            self.decisions.append(Decision(place, decided, ruling.reason, slot.used, slot))
        if ruling.state == "REJECTED_QUOTA":
            slot.rejected += 1
            self._settle(place, slot, ruling.state, "rejected_quota", billable=False, why=ruling.reason)
            return
        slot.added += 1
        slot.overage += ruling.state == "OVERAGE"
        self._settle(place, slot, ruling.state, reason, billable=True, why=ruling.reason)

    def _takes_back(self, place: int, slot: Slot) -> bool:
        """Whether what was refused fits by now: the same payload, and still one that is billed."""
        event = self._events[place]
        return (
            billed(slot.plan, event)[0]
            and self._stored_hash(place) == event.payload_hash
            and slot.plan.terms.ruling(slot.used).state != "REJECTED_QUOTA"
        )

    def _settle(
        self, place: int, slot: Slot, state: str, reason: str, *, billable: bool, why: str | None = None
    ) -> None:
        self._reasons[place] = reason
        found = self._found.get(place)
        self._ruled[place] = Outcome(
            self._events[place].key,
            "rejected_quota" if state == "REJECTED_QUOTA" else "queued",
            state,
            billable,
            slot.plan.terms.remaining(slot.used),
            state == "OVERAGE",
            why,
            found.billing_state if found is not None else None,
        )

    def _replayed(self, place: int, state: str, billable: bool, used: int) -> Outcome:
        """Answers as the first time: what was refused is refused, and what was taken is not taken again."""
        event = self._events[place]
        return Outcome(
            event.key,
            "rejected_quota" if state == "REJECTED_QUOTA" else "duplicate",
            state,
            billable,
            self.slot_of[place].plan.terms.remaining(used),
            state == "OVERAGE",
            None,
            state,
            self._stored_hash(place) != event.payload_hash,
        )

    def _stored_hash(self, place: int) -> bytes:
        first = self._earlier.get(place, place)
        found = self._found.get(first)
        kept = None if found is None else found.payload_hash
        return self._events[first].payload_hash if kept is None else bytes(kept)


def billed(plan: Plan, event: Event) -> tuple[bool, str]:
    """Whether a new event is billable, and the reason of the row."""
    if plan.terms.billing_rule == "every_event":
        return True, "default_billable"
    match event.category, event.action:
        case "conversion", _:
            return True, "conversion"
        case "interaction", "view":
            return True, "interaction_view"
        case "interaction", "scroll_depth":
            return False, "scroll_depth"
        case "system", _:
            return False, "system"
    # So that a new kind of event is never free by accident.
    return True, "default_billable"
