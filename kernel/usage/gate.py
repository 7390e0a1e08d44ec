"""The gate: which events are new, which of them are accepted, and what is written down of each.

A capture is one transaction of its caller: rows of the ledger, counters, decisions and what is handed on stand
together or not at all. Keys stand in `kernel.usage.keys`; who may send, and how often, is decided before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import outbox, plans
from kernel.usage.events import Event
from kernel.usage.outbox import Publisher, texts
from kernel.usage.plans import Plan
from kernel.usage.rulings import Rulings, Slot
from kernel.usage.writing import Writer
from models.statements import array, statements

# A request that came before midnight is captured a moment later.
_MONTH_GRACE = timedelta(hours=1)


def capture(
    connection: sa.Connection,
    events: Sequence[Event],
    *,
    at: datetime,
    actor: str,
    publisher: Publisher = outbox.write,
) -> Rulings:
    """Meters events of one tenant, all in this transaction: one outcome for each, in their order.

    The events of a month are decided in the order they come: billable ones that are new are accepted while fewer than
    the plan's limit were. Raises RefusedError, with nothing written, when one of them came in a month that takes no
    more, or from a site that is closed; a sqlalchemy error means that nothing was metered and nothing handed on.
    """
    if not events:
        return Rulings([], [], {}, {}, {})
    tenant_id = events[0].site.tenant_id
    if any(event.site.tenant_id != tenant_id for event in events):
        raise ValueError("a capture is of one tenant: group the events by tenant")
    tenancy.service(connection, tenant_id)
    held = _Held(connection, tenant_id, events, at)
    rulings = Rulings(events, held.slot_of, held.slots, held.earlier, held.found)
    writer = Writer(connection, tenant_id, events, rulings, at)
    writer.rows([place for place in held.order if place not in held.found])
    writer.decisions(actor)
    writer.conflicts()
    writer.counts(held.slots.values())
    writer.values()
    writer.hand_on(publisher)
    return rulings


class _Held:
    """What a capture holds until its transaction ends, and what it finds. A place is an event's number among its own."""

    def __init__(
        self, connection: sa.Connection, tenant_id: UUID, events: Sequence[Event], at: datetime
    ) -> None:
        self._connection, self._tenant_id = connection, tenant_id
        self._events, self._at = events, at
        self._months = _months(events)
        self._open: set[str] = set()
        self._plans: dict[UUID, Plan] = {}
        self._has_late = False
        # Of months that may be written, by site and month; of each event, the one it came in.
        self.slots: dict[tuple[UUID, str], Slot] = {}
        self.slot_of: list[Slot] = []
        # The place of an event that stands before this one with the same key.
        self.earlier: dict[int, int] = {}
        self._hold()
        # The first event of each key, by site and key as the ledger's index orders them.
        self.order = self._order()
        self.found = self._look_up()

    def _hold(self) -> None:
        months = set(self._months)
        if not self._hold_months(months):
            openable = {_month(self._at), _month(self._at - _MONTH_GRACE)} & months - self._open
            self._execute("open_months", months=texts(sorted(openable)))
            self._hold_months(months)
        if late := months - self._open:
            raise RefusedError(
                f"month {min(late)} takes no more usage: what comes late is an adjustment of an open month"
            )
        # Known by their place in memory: an id is hashed in Python, and there are many events.
        came = list(zip(map(id, [event.site for event in self._events]), self._months, strict=True))
        known = {id(event.site): event.site.id for event in self._events}
        ids = set(known.values())
        held = {row.id: row for row in self._execute("hold_sites", sites=array(ids))}
        self._has_late = any(row.has_late for row in held.values())
        for site_id in ids:
            if site_id not in held or held[site_id].status != "active":
                raise RefusedError(f"site {site_id} is closed or unknown: nothing was captured")
        self._plans = plans.plans_at(self._connection, self._tenant_id, ids, self._at)
        wanted = {each: (known[each[0]], each[1]) for each in set(came)}
        self._hold_counters(set(wanted.values()))
        slots = {each: self.slots[key] for each, key in wanted.items()}
        self.slot_of = [slots[each] for each in came]

    def _hold_months(self, months: set[str]) -> bool:
        """Whether all of them are there; those that take usage are noted."""
        held = self._execute("hold_months", months=texts(sorted(months))).all()
        self._open |= {row.year_month for row in held if row.state in ("OPEN", "CLOSING")}
        return len(held) == len(months)

    def _hold_counters(self, wanted: set[tuple[UUID, str]]) -> None:
        ordered = sorted(wanted, key=str)
        given = {
            "sites": array(site for site, _ in ordered),
            "months": texts([month for _, month in ordered]),
        }
        held = self._execute("hold_counters", **given).all()
        if len(held) < len(wanted):
            self._execute("count_ledger", **given)
            held = self._execute("hold_counters", **given).all()
        for row in held:
            plan = self._plans.get(row.site_id, plans.DEFAULT)
            self.slots[row.site_id, row.year_month] = Slot(
                str(row.site_id), row.year_month, plan, row.accepted, set(row.told)
            )

    def _order(self) -> list[int]:
        firsts: dict[str, dict[str, int]] = {}
        for place, event in enumerate(self._events):
            first = firsts.setdefault(self.slot_of[place].site, {}).setdefault(event.key, place)
            if first != place:
                self.earlier[place] = first
        return [places[key] for _, places in sorted(firsts.items()) for key in sorted(places)]

    def _look_up(self) -> dict[int, sa.Row[Any]]:
        events = self._events
        rows = self._execute(
            "look_up",
            sites=array([self.slot_of[place].site for place in self.order]),
            keys=texts([events[place].key for place in self.order]),
            places=array(self.order),
            has_late=self._has_late,
        )
        found = {row.place: row for row in rows}
        refused = [row for row in found.values() if row.billing_state == "REJECTED_QUOTA"]
        if months := {row.year_month for row in refused} - set(self._months):
            self._hold_months(months)
        known = {
            (events[row.place].site.id, row.year_month) for row in refused if row.year_month in self._open
        }
        if missing := known - self.slots.keys():
            self._hold_counters(missing)
        return found

    def _execute(self, name: str, **given: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(
            statements("usage_gate")[name], {"tenant_id": self._tenant_id} | given
        )


def _months(events: Sequence[Event]) -> list[str]:
    """Of each event; known by their instants' place in memory, since many come at one."""
    instants = [event.received_at for event in events]
    told = {id(each): _month(each) for each in {id(instant): instant for instant in instants}.values()}
    return [told[id(instant)] for instant in instants]


def _month(instant: datetime) -> str:
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return f"{utc.year:04}-{utc.month:02}"
