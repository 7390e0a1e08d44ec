"""What a capture writes: rows of the ledger, counts, decisions, conflicts, and what is handed on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel.usage import meters, outbox
from kernel.usage.events import Columns, Event
from kernel.usage.keys import javascript
from kernel.usage.outbox import Message, Publisher
from kernel.usage.rulings import Rulings, Slot
from models.statements import array, statements, texts
from models.usage import THRESHOLDS

# So that a key that others know fills no disk: kept payloads of a key that differ, and the bytes of each.
_MOST_CONFLICTS = 32
_MOST_BYTES = 16 * 1024
_MOST_LETTERS = 1_000  # of a category, an action, a label


class Writer:
    """Writes the rulings of one capture, in the transaction and for the tenant that its caller has pinned."""

    def __init__(
        self,
        connection: sa.Connection,
        tenant_id: UUID,
        events: Sequence[Event],
        columns: Columns,
        rulings: Rulings,
        at: datetime,
    ) -> None:
        self._connection, self._tenant_id, self._at = connection, tenant_id, at
        self._events, self._columns, self._rulings = events, columns, rulings

    def rows(self, new: Sequence[int]) -> None:
        """`new` are the places of events that have no row, in the order of the ledger's index."""
        if new:
            self._execute("insert", **self._of_events(new), **self._of_rulings(new))
        if taken := self._rulings.taken_back:
            slots = [self._rulings.slot_of[place] for place in taken]
            states, _, reasons = self._rulings.rows(taken)
            self._execute(
                "take_back",
                sites=array(slot.site for slot in slots),
                keys=texts([self._columns.key[place] for place in taken]),
                states=array(states),
                reasons=array(reasons),
                plans=array(slot.plan_id for slot in slots),
            )

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
                payload=_short(event.payload), at=self._at, most=_MOST_CONFLICTS,
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
        columns, slot_of = self._columns, self._rulings.slot_of
        by_month: dict[int, list[int]] = {}
        for place in self._rulings.queued():
            by_month.setdefault(id(slot_of[place]), []).append(place)
        for places in by_month.values():
            site_id, month = columns.site[places[0]].id, slot_of[places[0]].month
            keys = [columns.key[place] for place in places]
            payloads = [columns.payload[place] for place in places]
            message = Message(self._tenant_id, site_id, month, keys, payloads, self._at)
            try:
                with self._connection.begin_nested():
                    publisher(self._connection, message)
            except Exception as error:
                # Whatever a publisher raises, even one that is not ours: the events are metered, and delivered later.
                outbox.keep(self._connection, message, error)
                self._execute("degrade", site_id=site_id, keys=texts(keys))
                self._rulings.degrade(places)

    def _of_events(self, places: Sequence[int]) -> dict[str, Any]:
        """What came, under the names of the statement's parameters."""
        columns = self._columns
        given: dict[str, Any] = {
            "keys": texts([columns.key[place] for place in places]),
            "hashes": _digests([columns.payload_hash[place] for place in places]),
        }
        for name, values, many in (
            ("version", columns.version, array),
            ("received_at", columns.received_at, _instants),
            ("occurred_at", columns.occurred_at, _instants),
            ("category", columns.category, _plain),
            ("action", columns.action, _plain),
            ("label", columns.label, _plain),
        ):
            given |= _one_or_many(name, values, many, places)
        return given

    def _of_rulings(self, places: Sequence[int]) -> dict[str, Any]:
        """What was decided."""
        slots = [self._rulings.slot_of[place] for place in places]
        states, billables, reasons = self._rulings.rows(places)
        given = _one_or_many("plan", [slot.plan.id for slot in slots], _ids)
        for name, values in (
            ("site", [slot.site for slot in slots]), ("state", states), ("billable", billables), ("reason", reasons),
        ):  # fmt: skip
            given |= _one_or_many(name, values)
        return given

    def _execute(self, name: str, **given: Any) -> None:
        self._connection.execute(statements("usage_gate")[name], {"tenant_id": self._tenant_id} | given)


def _one_or_many(
    name: str,
    values: Sequence[Any],
    many: Callable[[Sequence[Any]], str] = array,
    places: Sequence[int] | None = None,
) -> dict[str, Any]:
    """What all of the values are beside an empty array; or null beside an array of them, or of those of some places.

    The statement coalesces the two: what is the same in every row is neither written nor read for each.
    """
    if values.count(values[0]) == len(values):
        one = values[0]
        return {name: _text(one) if isinstance(one, str) else one, f"{name}s": "{}"}
    chosen = values if places is None else [values[place] for place in places]
    return {name: None, f"{name}s": many(chosen)}


def _instants(values: Sequence[datetime | None]) -> str:
    return _few(values, lambda instant: f'"{instant.isoformat()}"')


def _ids(values: Sequence[UUID | None]) -> str:
    return _few(values, str)


def _few(values: Sequence[Any], write: Callable[[Any], str]) -> str:
    """An array of values that are few, known by their place in memory: each is written once."""
    known = {id(value): value for value in values}.values()
    told = {id(value): "NULL" if value is None else write(value) for value in known}
    return array([told[id(value)] for value in values])


def _digests(values: Sequence[bytes]) -> str:
    """An array of bytea."""
    return '{"\\\\x' + '","\\\\x'.join([value.hex() for value in values]) + '"}'


def _short(payload: bytes) -> str:
    """A payload; of a long one its beginning, as a text."""
    if len(payload) <= _MOST_BYTES:
        return payload.decode()
    return json.dumps(payload[:_MOST_BYTES].decode("utf-8", "ignore"))


def _plain(values: Sequence[str]) -> str:
    values = [value[:_MOST_LETTERS] for value in values]
    together = "".join(values)
    if not together.isascii() or "\0" in together:
        return texts([_text(value) for value in values])
    return texts(values if all(values) else [value or None for value in values])


def _text(value: str) -> str | None:
    """A text as PostgreSQL can hold it; an empty one is null."""
    return javascript.utf8(value[:_MOST_LETTERS]).decode().replace("\0", "\ufffd") or None
