"""Taking changes back: watching the conditions an action named itself, and restoring what was there before.

Applying stands in `dispatch`; a person's word to abort comes in through `lifecycle`.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import budget, intents, lifecycle, stopping
from kernel.actions.baseline import Day, local_day, series
from kernel.actions.configuration import (
    ConfigurationPort,
    PostgresConfiguration,
    Rejected,
    Transient,
    Value,
    same,
)
from kernel.actions.executors.base import Assignment
from kernel.actions.executors.tickets import raise_alert
from kernel.actions.intents import Intent
from kernel.actions.stopping import GatesOf
from kernel.decisions import bundle
from kernel.decisions.contract import AbortCondition, Action, ActionGuardrails
from kernel.decisions.dictionary import resolve
from models.errors import RevenueOsError
from models.statements import statements

MONITOR, REVERTER = "abort monitor", "reverter"
_REVERTIBLE = ["abort_requested", "reverting"]
_BROKEN: Mapping[str, tuple[Callable[[Decimal, Decimal], bool], str]] = {
    "gt": (operator.gt, "above"),
    "gte": (operator.ge, "at or above"),
    "lt": (operator.lt, "below"),
    "lte": (operator.le, "at or below"),
}


def in_words(condition: AbortCondition) -> str:
    """For a reader, with the threshold rounded: the last digits of a limit tell nobody anything."""
    size = abs(condition.threshold)
    step = Decimal(1) if size >= 100 else Decimal("0.01") if size >= 1 else Decimal("0.0001")
    rounded = condition.threshold.quantize(step)
    days = "1 day" if condition.consecutive_days == 1 else f"{condition.consecutive_days} days"
    return f"{condition.metric_id} is {_BROKEN[condition.operator][1]} {rounded.normalize():,f} for {days}"


# lost: another worker has it, or it was settled before. later: the target could not be reached or has not followed.
Outcome = Literal["reverted", "drifted", "aborted", "later", "lost"]


@dataclass(frozen=True, slots=True)
class Breach:
    tenant_id: UUID
    action_id: UUID
    note: str


@dataclass(frozen=True, slots=True)
class AbortReport:
    checked: int
    breaches: tuple[Breach, ...]
    failed: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class RevertReport:
    """Counts by outcome; `failed` maps an action to what went wrong."""

    failed: Mapping[UUID, str]
    reverted: int = 0
    drifted: int = 0
    aborted: int = 0
    later: int = 0
    lost: int = 0


# Watching ------------------------------------------------------------------------------------------------------------


def check(
    engine: sa.Engine, clock: Callable[[], datetime], *, gates_of: GatesOf = bundle.gates_of
) -> AbortReport:
    """Asks for the abort of every action in force whose condition held on enough days in a row since it was applied.

    Provisional values count: waiting for final ones would cost a week. Tenants that are switched off wait. What saves
    spend that gates or caps do not allow now stays in force, and a ticket asks a person.
    """
    now = clock()
    with engine.begin() as connection:
        tenancy.service(connection)
        running = list(connection.execute(_sql("running")))
    breaches: list[Breach] = []
    failed: dict[UUID, str] = {}
    for row in running:
        try:
            with engine.begin() as connection:
                tenancy.service(connection, row.tenant_id)
                note = _breach(connection, row, now)
                if (
                    note
                    and not _left_to_people(connection, row, note, now, gates_of)
                    and lifecycle.advance(
                        connection,
                        row.tenant_id,
                        row.id,
                        expected=("applied", "observing"),
                        to="abort_requested",
                        at=now,
                        actor=MONITOR,
                        note=note,
                        reason=note,
                    )
                ):
                    breaches.append(Breach(row.tenant_id, row.id, note))
        except (RevenueOsError, sa.exc.DBAPIError) as error:
            failed[row.id] = str(error)
    return AbortReport(len(running), tuple(breaches), failed)


def _breach(connection: sa.Connection, row: sa.Row[Any], now: datetime) -> str | None:
    conditions = ActionGuardrails.model_validate(row.payload["guardrails"]).abort_conditions
    first = local_day(connection, row.tenant_id, row.applied_at) + timedelta(days=1)
    last = local_day(connection, row.tenant_id, now)
    days = series(connection, row.tenant_id, {resolve(asked.metric_id) for asked in conditions}, first, last)
    notes = (broken(asked, days.get(resolve(asked.metric_id), [])) for asked in conditions)
    return next((note for note in notes if note), None)


def _left_to_people(
    connection: sa.Connection, row: sa.Row[Any], note: str, now: datetime, gates_of: GatesOf
) -> bool:
    action = Action.model_validate(row.payload)
    held = stopping.held_in_force(connection, row.tenant_id, row.id, action, now, gates_of)
    if held:
        assignment = Assignment(row.tenant_id, row.id, action)
        title = f"still in force: {action.action_id}"
        raise_alert(connection, assignment, "breach", title, f"{note}, but {held}: decide what gives way")
    return held is not None


def broken(condition: AbortCondition, days: list[Day]) -> str | None:
    """How the condition was met, when it was on enough calendar days in a row; an unknown day breaks the row."""
    compare, words = _BROKEN[condition.operator]
    held: list[Day] = []
    for day in days:
        value = Decimal("Infinity") if day.status == "infinite" else day.value
        if value is None or not compare(value, condition.threshold):
            held = []
            continue
        follows = held and day.date - held[-1].date == timedelta(days=1)
        held = [*held, day] if follows else [day]
        if len(held) == condition.consecutive_days:
            shown = "infinite" if day.value is None else f"{day.value.normalize():f}"
            return (
                f"{condition.metric_id} was {shown} on {day.date}, {words} {condition.threshold.normalize():f}"
                f" for {len(held)} days in a row"
            )
    return None


# Taking back -----------------------------------------------------------------------------------------------------


def _nothing(point: str) -> None:
    """Where a test may end the process."""


def revert_due(
    engine: sa.Engine, clock: Callable[[], datetime], port: ConfigurationPort | None = None
) -> RevertReport:
    """Takes back every action whose abort was asked for, and goes on where a worker ended half way."""
    with engine.begin() as connection:
        tenancy.service(connection)
        due = [dict(row) for row in connection.execute(_sql("to_revert")).mappings()]
    counts: Counter[Outcome] = Counter()
    failed: dict[UUID, str] = {}
    for action in due:
        try:
            counts[revert(engine, action, clock, port)] += 1
        except (RevenueOsError, ValueError, sa.exc.DBAPIError) as error:
            failed[action["id"]] = str(error)
    return RevertReport(failed, **counts)


def revert(
    engine: sa.Engine,
    action: Mapping[str, Any],
    clock: Callable[[], datetime],
    port: ConfigurationPort | None = None,
    *,
    at: Callable[[str], None] = _nothing,
    gates_of: GatesOf = bundle.gates_of,
) -> Outcome:
    """Restores the value from before, if the target still holds ours; `action` names tenant_id and id.

    Where the target holds a third value, takes the former one no more, or gates and caps do not allow what taking back
    would spend, nothing is written, the action is verify_failed and a ticket asks a person. What turns out never to
    have arrived is aborted.
    May end anywhere and be called again: the intent of the revert is committed before the target is touched, and
    the target is read before it is written.
    """
    with engine.begin() as guard:
        if not guard.execute(_sql("try_lock"), {"key": f"revert {action['id']}"}).scalar():
            return "lost"
        return _Revert(engine, action["tenant_id"], action["id"], clock(), at, gates_of).run(
            port or PostgresConfiguration(engine)
        )


@dataclass(frozen=True, slots=True)
class _Revert:
    """One attempt. Every transaction is short, and none is open while the target is touched but the guard's."""

    engine: sa.Engine
    tenant_id: UUID
    action_id: UUID
    now: datetime
    at: Callable[[str], None]
    gates_of: GatesOf

    def run(self, port: ConfigurationPort) -> Outcome:
        with self.engine.begin() as connection:
            row = self._held(connection)
            if row is None:
                return "lost"
            applied = intents.find(connection, self.tenant_id, self.action_id, "apply")
            if applied is None:
                self._end(connection, "aborted", "nothing had been applied")
                return "aborted"
        if applied.address.entity_type == "ticket":
            return self._withdrawn(applied)
        intent = None
        try:
            found = port.read(applied.address)
            self.at("read")
            if same(found.value, applied.wanted) and not same(found.value, applied.before):
                if held := self._held_in_force(row):
                    return self._handed_over(applied, None, f"{held}: decide what gives way")
                intent = self._recorded(applied)
                if intent is None:
                    return "lost"
                self.at("recorded")
                port.write(intent.address, intent.wanted, intent.key)
                self.at("sent")
                found = port.read(applied.address)
                self.at("read back")
        except Rejected as error:
            return self._handed_over(applied, None, str(error))
        except Transient:
            return "later"
        if same(found.value, applied.before):
            if intent is None and applied.is_open:
                return self._never_arrived(applied, found)
            return self._restored(applied, found)
        if intent is not None and same(found.value, applied.wanted):
            return self._not_followed(applied, intent, found)
        why = (
            f"{applied.address} is {found.value!r}, neither {applied.wanted!r}, which this action set, nor"
            f" {applied.before!r}, which stood before: decide which shall hold"
        )
        return self._handed_over(applied, found, why)

    def _held(self, connection: sa.Connection) -> sa.RowMapping | None:
        """The action under lock, if it is still to be taken back."""
        tenancy.service(connection, self.tenant_id)
        key = {"tenant_id": self.tenant_id, "action_id": self.action_id, "statuses": _REVERTIBLE}
        return connection.execute(_sql("lock_action"), key).mappings().one_or_none()

    def _held_in_force(self, row: sa.RowMapping) -> str | None:
        action = Action.model_validate(row["payload"])
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            return stopping.held_in_force(
                connection, self.tenant_id, self.action_id, action, self.now, self.gates_of
            )

    def _recorded(self, applied: Intent) -> Intent | None:
        with self.engine.begin() as connection:
            if self._held(connection) is None:
                return None
            # What was in doubt stands: from now on it counts as applied, and nobody sends it any more.
            arrived = intents.settle(connection, applied, "confirmed", applied.wanted, self.now)
            self._begin(connection, **({"applied_at": self.now} if arrived else {}))
            wanted = intents.intended(
                self.action_id, "revert", applied.address, applied.wanted, applied.before
            )
            return intents.record(connection, wanted, self.now)

    def _never_arrived(self, applied: Intent, found: Value) -> Outcome:
        with self.engine.begin() as connection:
            row = self._held(connection)
            if row is None:
                return "lost"
            intents.settle(connection, applied, "refused", found.value, self.now)
            why = f"{applied.address} is {found.value!r} as before: the change to {applied.wanted!r} never arrived"
            if applied.state == "in_doubt":
                late = f"{why}, but it had no answer and may be late: look again"
                self._alert(connection, row, "late", f"in doubt: {row['action_id']}", late)
            self._end(connection, "aborted", why)
        return "aborted"

    def _not_followed(self, applied: Intent, intent: Intent, found: Value) -> Outcome:
        """A target may be a moment behind; one that was sent the same before takes it no more."""
        if intent.state == "in_doubt":
            why = f"{applied.address} is still {found.value!r} after it was set to {applied.before!r}: set it by hand"
            return self._handed_over(applied, found, why)
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            intents.settle(connection, intent, "in_doubt", found.value, self.now)
        return "later"

    def _restored(self, applied: Intent, found: Value) -> Outcome:
        with self.engine.begin() as connection:
            if self._held(connection) is None:
                return "lost"
            intent = intents.find(connection, self.tenant_id, self.action_id, "revert")
            if intent is not None:
                intents.settle(connection, intent, "confirmed", found.value, self.now)
            self.at("confirmed")
            told = "restored" if intent else "stood there again already"
            self._begin(connection)
            self._end(connection, "reverted", f"{applied.address}: {applied.before!r} {told}")
        return "reverted"

    def _withdrawn(self, applied: Intent) -> Outcome:
        """A ticket changed nothing that could be restored; a person need not act on it any more."""
        with self.engine.begin() as connection:
            if self._held(connection) is None:
                return "lost"
            withdrawn = {"by": REVERTER, "at": self.now, "why": "withdrawn: its action was taken back"}
            key = {"tenant_id": self.tenant_id, "key": applied.key}
            connection.execute(_sql("withdraw_ticket"), key | withdrawn)
            intents.settle(connection, applied, "refused", None, self.now)
            self._begin(connection)
            self._end(connection, "reverted", "the ticket was withdrawn")
        return "reverted"

    def _handed_over(self, applied: Intent, found: Value | None, why: str) -> Outcome:
        """What was reserved stays reserved: nobody knows what the target spends now."""
        with self.engine.begin() as connection:
            row = self._held(connection)
            if row is None:
                return "lost"
            intent = intents.find(connection, self.tenant_id, self.action_id, "revert")
            if intent is not None:
                # Kept open: a person may have it taken back yet.
                intents.settle(connection, intent, "in_doubt", found.value if found else None, self.now)
            self._alert(connection, row, "drift", f"not reverted: {row['action_id']}", why)
            self._begin(connection)
            self._advance(connection, "reverting", "verify_failed", why, reason=why)
        return "drifted"

    def _alert(self, connection: sa.Connection, row: sa.RowMapping, about: str, title: str, why: str) -> None:
        assignment = Assignment(self.tenant_id, self.action_id, Action.model_validate(row["payload"]))
        raise_alert(connection, assignment, about, title, why)

    def _begin(self, connection: sa.Connection, **columns: Any) -> None:
        self._advance(connection, "abort_requested", "reverting", "", **columns)

    def _end(self, connection: sa.Connection, to: Literal["reverted", "aborted"], note: str) -> None:
        expected = "reverting" if to == "reverted" else "abort_requested"
        self._advance(connection, expected, to, note, closed_at=self.now)
        budget.release(connection, self.tenant_id, self.action_id, self.now)
        key = {"tenant_id": self.tenant_id, "action_id": self.action_id}
        day = local_day(connection, self.tenant_id, self.now)
        given = {**key, "end_date": day, "why": "the change was taken back"}
        connection.execute(_sql("abandon_results"), given)
        self.at("ended")

    def _advance(self, connection: sa.Connection, expected: str, to: str, note: str, **columns: Any) -> None:
        lifecycle.advance(
            connection, self.tenant_id, self.action_id, expected=expected, to=to, at=self.now, actor=REVERTER,
            note=note, **columns,
        )  # fmt: skip


def _sql(name: str) -> sa.TextClause:
    return statements("results")[name]
