"""What a capture writes: rows of the ledger, counts, decisions, conflicts, and what is handed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.usage import meters, outbox
from kernel.usage.events import Event
from kernel.usage.keys import javascript
from kernel.usage.outbox import Message, Publisher, texts
from kernel.usage.rulings import Rulings, Slot
from models.statements import array, statements
from models.usage import THRESHOLDS


class Writer:
    """Writes the rulings of one capture, in the transaction and for the tenant that its caller has pinned."""

    def __init__(
        self,
        connection: sa.Connection,
        tenant_id: UUID,
        events: Sequence[Event],
        rulings: Rulings,
        at: datetime,
    ) -> None:
        self._connection, self._tenant_id, self._at = connection, tenant_id, at
        self._events, self._rulings = events, rulings

    def rows(self, new: Sequence[int]) -> None:
        """`new` are the places of events that have no row, in the order of the ledger's index."""
        if new:
            self._execute("insert", **self._of_events(new), **self._of_rulings(new))
        if taken := self._rulings.taken_back:
            keys = texts([self._events[place].key for place in taken])
            given = self._of_rulings(taken)
            del given["billable"]
            self._execute("take_back", keys=keys, **given)

    def decisions(self, actor: str) -> None:
        noted = self._rulings.decisions
        if noted:
            self._execute(
                "decide",
                sites=array(each.slot.site for each in noted),
                keys=texts([self._events[each.place].key for each in noted]),
                months=texts([each.slot.month for each in noted]),
                decisions=array(each.decision for each in noted),
                reasons=array(each.reason for each in noted),
                used=array(each.used for each in noted),
                limits=array(each.slot.plan.terms.monthly_limit for each in noted),
                plans=array(each.slot.plan_id for each in noted),
                actor=actor,
                at=self._at,
            )

    def conflicts(self) -> None:
        for event in (self._events[place] for place in self._rulings.conflicts()):
            self._execute(
                "keep_conflict", site_id=event.site.id, key=event.key, payload_hash=event.payload_hash,
                payload=event.payload.decode(), at=self._at,
            )  # fmt: skip

    def counts(self, slots: Iterable[Slot]) -> None:
        changed = [slot for slot in slots if slot.added or slot.rejected]
        if not changed:
            return
        self._execute(
            "count",
            sites=array(slot.site for slot in changed),
            months=texts([slot.month for slot in changed]),
            accepted=array(slot.added for slot in changed),
            overage=array(slot.overage for slot in changed),
            rejected=array(slot.rejected for slot in changed),
            at=self._at,
        )
        for slot in changed:
            limit = slot.plan.terms.monthly_limit
            for threshold in THRESHOLDS:
                if threshold not in slot.told and slot.used * 100 >= threshold * limit:
                    self._execute(
                        "tell", site_id=slot.site, month=slot.month, threshold=threshold, used=slot.used,
                        limit=limit, at=self._at,
                    )  # fmt: skip

    def values(self) -> None:
        """Of further meters."""
        meters.write(
            self._connection, self._tenant_id, [self._events[place] for place in self._rulings.queued()]
        )

    def hand_on(self, publisher: Publisher) -> None:
        """A message for each month of a site; what cannot be handed on is kept."""
        events, slot_of = self._events, self._rulings.slot_of
        by_month: dict[int, list[int]] = {}
        for place in self._rulings.queued():
            by_month.setdefault(id(slot_of[place]), []).append(place)
        for places in by_month.values():
            site_id, month = events[places[0]].site.id, slot_of[places[0]].month
            keys = [events[place].key for place in places]
            payloads = [events[place].payload for place in places]
            message = Message(self._tenant_id, site_id, month, keys, payloads, self._at)
            try:
                with self._connection.begin_nested():
                    publisher(self._connection, message)
            except Exception as error:
                # Whatever a publisher raises, even one that is not ours: the events are metered, and delivered later.
                outbox.keep(self._connection, message, error)
                self._execute("degrade", site_id=site_id, keys=texts(keys))
                self._rulings.degrade(places)

    def _of_events(self, places: Sequence[int]) -> dict[str, str]:
        """Arrays of what came, under the names of the statement's parameters."""
        events = [self._events[place] for place in places]
        return {
            "keys": texts([event.key for event in events]),
            "received_at": _instants([event.received_at for event in events]),
            "versions": array(event.version for event in events),
            "categories": texts(_plain([event.category for event in events])),
            "actions": texts(_plain([event.action for event in events])),
            "labels": texts(_plain([event.label for event in events])),
            "occurred_at": _instants([event.occurred_at for event in events]),
            "hashes": texts([rf"\x{event.payload_hash.hex()}" for event in events]),
        }

    def _of_rulings(self, places: Sequence[int]) -> dict[str, str]:
        """Arrays of what was decided."""
        slots = [self._rulings.slot_of[place] for place in places]
        states, billable, reasons = self._rulings.rows(places)
        plans = {id(slot): slot.plan_id for slot in {id(slot): slot for slot in slots}.values()}
        return {
            "sites": array(slot.site for slot in slots),
            "plans": array(plans[id(slot)] for slot in slots),
            "states": array(states),
            "billable": array(billable),
            "reasons": array(reasons),
        }

    def _execute(self, name: str, **given: Any) -> None:
        self._connection.execute(statements("usage_gate")[name], {"tenant_id": self._tenant_id} | given)


def _instants(values: Sequence[datetime | None]) -> str:
    # Known by their place in memory: many events come at one instant, and it is written once.
    told = {
        id(each): "NULL" if each is None else f'"{each.isoformat()}"'
        for each in {id(value): value for value in values}.values()
    }
    return array(told[id(value)] for value in values)


def _plain(values: list[str]) -> list[str | None]:
    """Texts as PostgreSQL can hold them; an empty one is null."""
    together = "".join(values)
    if not together.isascii() or "\0" in together:
        values = [javascript.utf8(value).decode().replace("\0", "\ufffd") for value in values]
    return values if all(values) else [value or None for value in values]
