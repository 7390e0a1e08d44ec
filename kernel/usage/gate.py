"""The gate: which events are new, which of them are accepted, and what is written down of each.

A capture is one transaction of its caller: rows of the ledger, counters, decisions and what is handed on stand
together or not at all. Keys stand in `kernel.usage.keys`; who may send, and how often, is decided before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import meters, outbox, plans
from kernel.usage.keys import javascript
from kernel.usage.outbox import Message, Publisher, texts
from kernel.usage.plans import Plan
from kernel.usage.sites import Site
from models.statements import array, statements
from models.usage import THRESHOLDS

# A request that came before midnight is captured a moment later.
_MONTH_GRACE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it came. `payload` is its JSON in UTF-8, `payload_hash` the SHA-256 of a form of it that does not
    depend on how it was written, `received_at` the server's clock then: its month is the one that pays.
    """

    site: Site
    key: str
    version: int
    payload: bytes
    payload_hash: bytes
    received_at: datetime
    occurred_at: datetime | None = None
    category: str = ""
    action: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an event, and what to answer.

    `billing_state` and `billable` are those of its row. `replayed_of` is the state that the row was found in, None for
    a new one. `reason` is why it was refused or is overage. `is_conflict`: under this key another payload was metered.
    """

    key: str
    status: Literal["queued", "degraded", "duplicate", "rejected_quota"]
    billing_state: str
    billable: bool
    quota_remaining: int
    is_overage: bool = False
    reason: str | None = None
    replayed_of: str | None = None
    is_conflict: bool = False


@dataclass(slots=True)
class _Slot:
    """A month of a site: what was counted of it before, and what this capture adds."""

    site: str
    month: str
    plan: Plan
    plan_id: str
    accepted: int
    told: set[int]
    added: int = 0
    overage: int = 0
    rejected: int = 0

    @property
    def used(self) -> int:
        return self.accepted + self.added


@dataclass(frozen=True, slots=True)
class _Decision:
    place: int
    decision: Literal["overage", "rejected_quota", "taken_back"]
    reason: str
    used: int
    slot: _Slot


def capture(
    connection: sa.Connection,
    events: Sequence[Event],
    *,
    at: datetime,
    actor: str,
    publisher: Publisher = outbox.write,
) -> list[Outcome]:
    """Meters events of one tenant, all in this transaction: one outcome for each, in their order.

    The events of a month are decided in the order they come: billable ones that are new are accepted while fewer than
    the plan's limit were. Raises RefusedError, with nothing written, when one of them came in a month that takes no
    more, or from a site that is closed; a sqlalchemy error means that nothing was metered and nothing handed on.
    """
    if not events:
        return []
    tenant_id = events[0].site.tenant_id
    if any(event.site.tenant_id != tenant_id for event in events):
        raise ValueError("a capture is of one tenant: group the events by tenant")
    tenancy.service(connection, tenant_id)
    return _Capture(connection, tenant_id, events, at, actor).run(publisher)


class _Capture:
    """One call of `capture`. A place is an event's number among those that were given."""

    def __init__(
        self, connection: sa.Connection, tenant_id: UUID, events: Sequence[Event], at: datetime, actor: str
    ) -> None:
        self._connection, self._tenant_id = connection, tenant_id
        self._events, self._at, self._actor = events, at, actor
        self._months = [_month(event.received_at) for event in events]
        self._open: set[str] = set()
        self._plans: dict[UUID, Plan] = {}
        self._slots: dict[tuple[UUID, str], _Slot] = {}
        self._outcomes: list[Outcome | None] = [None] * len(events)
        # Of each event the month it came in, or that of its row when its refusal is taken back.
        self._slot_of: list[_Slot] = []
        self._reasons: dict[int, str] = {}
        # The place of an event that stands before this one with the same key.
        self._earlier: dict[int, int] = {}
        self._found: dict[int, sa.Row[Any]] = {}
        self._taken_back: list[int] = []
        self._decisions: list[_Decision] = []

    def run(self, publisher: Publisher) -> list[Outcome]:
        self._hold()
        order = self._order()
        self._look_up(order)
        for place in range(len(self._events)):
            if place not in self._earlier:
                self._decide(place)
        self._write(order)
        self._publish(publisher)
        for place, first in self._earlier.items():
            self._replay(place, self._outcomes[first].billing_state, self._outcomes[first].billable)
        return self._outcomes

    # What is held until the transaction ends --------------------------------------------------------------------------

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
        for site_id in ids:
            if site_id not in held or held[site_id].status != "active":
                raise RefusedError(f"site {site_id} is closed or unknown: nothing was captured")
        self._plans = plans.plans_at(self._connection, self._tenant_id, ids, self._at)
        wanted = {each: (known[each[0]], each[1]) for each in set(came)}
        self._hold_counters(set(wanted.values()))
        slots = {each: self._slots[key] for each, key in wanted.items()}
        self._slot_of = [slots[each] for each in came]

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
            self._slots[row.site_id, row.year_month] = _Slot(
                str(row.site_id), row.year_month, plan, str(plan.id or "NULL"), row.accepted, set(row.told)
            )

    # What is there, and what becomes of the rest ----------------------------------------------------------------------

    def _order(self) -> list[int]:
        """The first event of each key, by site and key as the ledger's index orders them."""
        firsts: dict[str, dict[str, int]] = {}
        for place, event in enumerate(self._events):
            first = firsts.setdefault(self._slot_of[place].site, {}).setdefault(event.key, place)
            if first != place:
                self._earlier[place] = first
        return [places[key] for _, places in sorted(firsts.items()) for key in sorted(places)]

    def _look_up(self, order: list[int]) -> None:
        events = self._events
        rows = self._execute(
            "look_up",
            sites=array([self._slot_of[place].site for place in order]),
            keys=texts([events[place].key for place in order]),
            places=array(order),
        )
        self._found = {row.place: row for row in rows}
        refused = [row for row in self._found.values() if row.billing_state == "REJECTED_QUOTA"]
        if months := {row.year_month for row in refused} - set(self._months):
            self._hold_months(months)
        known = {
            (events[row.place].site.id, row.year_month) for row in refused if row.year_month in self._open
        }
        if missing := known - self._slots.keys():
            self._hold_counters(missing)

    def _decide(self, place: int) -> None:
        event = self._events[place]
        slot = self._slot_of[place]
        billable, reason = _billed(slot.plan, event)
        found = self._found.get(place)
        if found is not None:
            slot = self._slots.get((event.site.id, found.year_month), slot)
            ruling = slot.plan.terms.ruling(slot.used)
            if (
                found.billing_state != "REJECTED_QUOTA"
                or found.year_month not in self._open
                or not billable
                or bytes(found.payload_hash) != event.payload_hash
                or ruling.state == "REJECTED_QUOTA"
            ):
                self._replay(place, found.billing_state, found.billable)
                return
            self._taken_back.append(place)
            self._slot_of[place] = slot
            slot.rejected -= 1
            decision = "taken_back"
        elif not billable:
            self._settle(place, slot, "ACCEPTED", reason, billable=False)
            return
        else:
            ruling = slot.plan.terms.ruling(slot.used)
            decision = "overage" if ruling.state == "OVERAGE" else "rejected_quota"
        if found is not None or ruling.reason is not None:
            why = ruling.reason or "below_monthly_limit"
            self._decisions.append(_Decision(place, decision, why, slot.used, slot))
        if ruling.state == "REJECTED_QUOTA":
            slot.rejected += 1
            self._settle(place, slot, ruling.state, "rejected_quota", billable=False, why=ruling.reason)
            return
        slot.added += 1
        slot.overage += ruling.state == "OVERAGE"
        self._settle(place, slot, ruling.state, reason, billable=True, why=ruling.reason)

    def _settle(
        self, place: int, slot: _Slot, state: str, reason: str, *, billable: bool, why: str | None = None
    ) -> None:
        self._reasons[place] = reason
        found = self._found.get(place)
        self._outcomes[place] = Outcome(
            self._events[place].key,
            "rejected_quota" if state == "REJECTED_QUOTA" else "queued",
            state,
            billable,
            slot.plan.terms.remaining(slot.used),
            state == "OVERAGE",
            why,
            found.billing_state if found is not None else None,
        )

    def _replay(self, place: int, state: str, billable: bool) -> None:
        """Answers as the first time: what was refused is refused, and what was taken is not taken again."""
        event, slot = self._events[place], self._slot_of[place]
        self._outcomes[place] = Outcome(
            event.key,
            "rejected_quota" if state == "REJECTED_QUOTA" else "duplicate",
            state,
            billable,
            slot.plan.terms.remaining(slot.used),
            state == "OVERAGE",
            None,
            state,
            self._stored_hash(place) != event.payload_hash,
        )

    def _stored_hash(self, place: int) -> bytes:
        first = self._earlier.get(place, place)
        return (
            bytes(self._found[first].payload_hash)
            if first in self._found
            else self._events[first].payload_hash
        )

    # What is written down ---------------------------------------------------------------------------------------------

    def _write(self, order: list[int]) -> None:
        self._insert([place for place in order if place not in self._found])
        if self._taken_back:
            self._execute("take_back", **self._columns(self._taken_back, "sites keys states reasons plans"))
        if self._decisions:
            self._note_decisions()
        for place in (*self._found, *self._earlier):
            event = self._events[place]
            if self._stored_hash(place) != event.payload_hash:
                self._execute(
                    "keep_conflict", site_id=event.site.id, key=event.key, payload_hash=event.payload_hash,
                    payload=event.payload.decode(), at=self._at,
                )  # fmt: skip
        self._count([slot for slot in self._slots.values() if slot.added or slot.rejected])
        queued = [place for place in self._reasons if self._outcomes[place].status == "queued"]
        meters.write(self._connection, self._tenant_id, [self._events[place] for place in queued])

    def _insert(self, new: list[int]) -> None:
        if new:
            names = "sites keys received_at states billable reasons versions categories actions labels occurred_at plans hashes"
            self._execute("insert", **self._columns(new, names))

    def _columns(self, places: list[int], names: str) -> dict[str, str]:
        """Arrays of the rows that are written, under the names of the statements' parameters."""
        events = [self._events[place] for place in places]
        outcomes = [self._outcomes[place] for place in places]
        made = {
            "sites": lambda: array([self._slot_of[place].site for place in places]),
            "keys": lambda: texts([event.key for event in events]),
            "received_at": lambda: _instants(event.received_at for event in events),
            "states": lambda: array(outcome.billing_state for outcome in outcomes),
            "billable": lambda: array(outcome.billable for outcome in outcomes),
            "reasons": lambda: array(self._reasons[place] for place in places),
            "versions": lambda: array(event.version for event in events),
            "categories": lambda: texts(_plain([event.category for event in events])),
            "actions": lambda: texts(_plain([event.action for event in events])),
            "labels": lambda: texts(_plain([event.label for event in events])),
            "occurred_at": lambda: _instants(event.occurred_at for event in events),
            "plans": lambda: array([self._slot_of[place].plan_id for place in places]),
            "hashes": lambda: texts([rf"\x{event.payload_hash.hex()}" for event in events]),
        }
        return {name: made[name]() for name in names.split()}

    def _note_decisions(self) -> None:
        noted = self._decisions
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
            actor=self._actor,
            at=self._at,
        )

    def _count(self, slots: list[_Slot]) -> None:
        if not slots:
            return
        self._execute(
            "count",
            sites=array(slot.site for slot in slots),
            months=texts([slot.month for slot in slots]),
            accepted=array(slot.added for slot in slots),
            overage=array(slot.overage for slot in slots),
            rejected=array(slot.rejected for slot in slots),
            at=self._at,
        )
        for slot in slots:
            limit = slot.plan.terms.monthly_limit
            for threshold in THRESHOLDS:
                if threshold not in slot.told and slot.used * 100 >= threshold * limit:
                    self._execute(
                        "tell", site_id=slot.site, month=slot.month, threshold=threshold, used=slot.used,
                        limit=limit, at=self._at,
                    )  # fmt: skip

    def _publish(self, publisher: Publisher) -> None:
        by_site: dict[UUID, list[int]] = {}
        for place, outcome in enumerate(self._outcomes):
            if outcome is not None and outcome.status == "queued":
                by_site.setdefault(self._events[place].site.id, []).append(place)
        for site_id, places in by_site.items():
            keys = [self._events[place].key for place in places]
            payloads = [self._events[place].payload for place in places]
            message = Message(self._tenant_id, site_id, keys, payloads, self._at)
            try:
                with self._connection.begin_nested():
                    publisher(self._connection, message)
            except Exception as error:
                # Whatever it was that failed: the events are metered, and delivered later.
                outbox.keep(self._connection, message, error)
                self._execute("degrade", site_id=site_id, keys=texts(keys))
                for place in places:
                    self._degraded(place)

    def _degraded(self, place: int) -> None:
        outcome = self._outcomes[place]
        state = "DEGRADED_CAPTURE" if outcome.billing_state == "ACCEPTED" else outcome.billing_state
        self._outcomes[place] = replace(outcome, status="degraded", billing_state=state)

    def _execute(self, name: str, **given: Any) -> sa.CursorResult[Any]:
        return self._connection.execute(
            statements("usage_gate")[name], {"tenant_id": self._tenant_id} | given
        )


def _billed(plan: Plan, event: Event) -> tuple[bool, str]:
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


def _month(instant: datetime) -> str:
    utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return f"{utc.year:04}-{utc.month:02}"


def _instants(values: Iterable[datetime | None]) -> str:
    return array("NULL" if value is None else f'"{value.isoformat()}"' for value in values)


def _plain(values: list[str]) -> list[str | None]:
    """Texts as PostgreSQL can hold them; an empty one is null."""
    together = "".join(values)
    if not together.isascii() or "\0" in together:
        values = [javascript.utf8(value).decode().replace("\0", "\ufffd") for value in values]
    return values if all(values) else [value or None for value in values]
