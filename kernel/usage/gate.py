"""The gate: which events are new, which of them are accepted, and what is written down of each.

A capture is one transaction of its caller: rows of the ledger, counters, decisions and what is handed on stand
together or not at all. Keys stand in `kernel.usage.keys`; who may send, and how often, is decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import outbox, plans
from kernel.usage.events import Columns, Event
from kernel.usage.outbox import Publisher
from kernel.usage.rulings import Rulings, Slot
from kernel.usage.writing import Writer
from models.statements import array, statements, texts

_MANY = 1_000  # events of a capture
_KEYS = "ingest_idempotency_pkey"
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
    columns = Columns.of(events)
    tenants = {site.tenant_id for site in {id(site): site for site in columns.site}.values()}
    if len(tenants) > 1:
        raise ValueError("a capture is of one tenant: group the events by tenant")
    (tenant_id,) = tenants
    tenancy.service(connection, tenant_id)
    held = _Held(connection, tenant_id, columns, at)

    def written() -> tuple[Rulings, Writer]:
        rulings = Rulings(events, held.slot_of, held.slots, held.earlier, held.found)
        writer = Writer(connection, tenant_id, events, columns, rulings, at)
        writer.rows(held.new())
        return rulings, writer

    found = _all_new(connection, written) if held.may_be_new() else None
    if found is None:
        held.look_up()
        found = written()
    rulings, writer = found
    writer.decisions(actor)
    writer.conflicts()
    writer.counts(held.slots.values())
    writer.values()
    writer.hand_on(publisher)
    return rulings


class _Held:
    """What a capture holds until its transaction ends, and what it finds. A place is an event's number among its own."""

    def __init__(self, connection: sa.Connection, tenant_id: UUID, events: Columns, at: datetime) -> None:
        self._connection, self._tenant_id = connection, tenant_id
        self._events, self._at = events, at
        self._months = _months(events.received_at)
        self._open: set[str] = set()
        self._has_gone = False
        # Of months that may be written, by site and month; of each event, the one it came in.
        self.slots: dict[tuple[UUID, str], Slot] = {}
        self.slot_of: list[Slot] = []
        # The place of an event that stands before this one with the same key.
        self.earlier: dict[int, int] = {}
        self._hold()
        self._firsts_of = self._firsts()
        # Rows that stand in the ledger already, by place; none before they are looked up.
        self.found: dict[int, sa.Row[Any]] = {}

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
        came = list(zip(map(id, self._events.site), self._months, strict=True))
        known = {id(site): site.id for site in {id(site): site for site in self._events.site}.values()}
        ids = set(known.values())
        held = {row.id: row for row in self._execute("hold_sites", sites=array(ids))}
        self._has_gone = self._execute("has_gone", sites=array(ids)).scalar_one()
        for site_id in ids:
            if site_id not in held or held[site_id].status != "active":
                raise RefusedError(f"site {site_id} is closed or unknown: nothing was captured")
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
        sites = {site for site, _ in wanted}
        ruling = {
            month: plans.of_month(self._connection, self._tenant_id, sites, month, self._at)
            for month in {month for _, month in wanted}
        }
        for row in held:
            plan = ruling[row.year_month].get(row.site_id, plans.DEFAULT)
            self.slots[row.site_id, row.year_month] = Slot(
                str(row.site_id), row.year_month, plan, row.accepted, set(row.told)
            )

    def _firsts(self) -> dict[str, dict[str, int]]:
        """Of each site its keys in the order of the ledger's index, each with the place of its first event."""
        keys, places = self._events.key, range(len(self._months))
        by_site: dict[str, dict[str, int]] = {}
        if len({id(slot): slot for slot in self.slot_of}) == 1:
            # From behind, so that of a key its first place stays.
            by_site[self.slot_of[0].site] = dict(zip(reversed(keys), reversed(places), strict=True))
        else:
            for place in reversed(places):
                by_site.setdefault(self.slot_of[place].site, {})[keys[place]] = place
        if sum(map(len, by_site.values())) < len(places):
            for place in places:
                if (first := by_site[self.slot_of[place].site][keys[place]]) != place:
                    self.earlier[place] = first
        return {site: {key: first[key] for key in sorted(first)} for site, first in sorted(by_site.items())}

    def may_be_new(self) -> bool:
        """Whether it is worth trying that no key was seen before."""
        return len(self._months) >= _MANY and not self._has_gone

    def look_up(self) -> None:
        """Finds the rows that stand in the ledger already, and forgets what was ruled without them."""
        for slot in self.slots.values():
            slot.forget()
        self.found = self._look_up()

    def _look_up(self) -> dict[int, sa.Row[Any]]:
        rows: dict[int, sa.Row[Any]] = {}
        for site, firsts in self._firsts_of.items():
            given = {"site": site, "keys": texts(list(firsts))}
            for name in ("look_up_gone", "look_up") if self._has_gone else ("look_up",):
                rows |= {firsts[row.idempotency_key]: row for row in self._execute(name, **given)}
        refused = [
            (self._events.site[place].id, row.year_month)
            for place, row in rows.items()
            if row.billing_state == "REJECTED_QUOTA"
        ]
        if months := {month for _, month in refused} - set(self._months):
            self._hold_months(months)
        known = {(site_id, month) for site_id, month in refused if month in self._open}
        if missing := known - self.slots.keys():
            self._hold_counters(missing)
        return rows

    def new(self) -> list[int]:
        """The places of events that have no row, in the order of the ledger's index."""
        places = [place for firsts in self._firsts_of.values() for place in firsts.values()]
        return [place for place in places if place not in self.found] if self.found else places

    def _execute(self, name: str, **given: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(
            statements("usage_gate")[name], {"tenant_id": self._tenant_id} | given
        )


def _all_new(
    connection: sa.Connection, written: Callable[[], tuple[Rulings, Writer]]
) -> tuple[Rulings, Writer] | None:
    """What was written, as if no key had been seen before; None, and nothing written, when one was.

    Mostly none was, and looking for many keys that are not there costs a fifth of writing them.
    """
    try:
        with connection.begin_nested():
            return written()
    except sa.exc.IntegrityError as error:
        diagnosis = getattr(error.orig, "diag", None)
        if getattr(diagnosis, "constraint_name", None) != _KEYS:
            raise
        return None


def _months(instants: Sequence[datetime]) -> list[str]:
    """Of each; known by their place in memory, since many events come at one instant."""
    told = {id(each): _month(each) for each in {id(instant): instant for instant in instants}.values()}
    return [told[id(instant)] for instant in instants]


def _month(instant: datetime) -> str:
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return f"{utc.year:04}-{utc.month:02}"
