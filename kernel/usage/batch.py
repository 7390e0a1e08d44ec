"""The batch door: files of events into the ledger, by the same rules as requests, with an outcome for every line.

The same file again changes nothing: it came when it came first, and that instant stands in `ops.load_batches`. What
belongs to a month that is closed becomes an adjustment that waits for approval. How files are read stands in `files`.
"""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from kernel import tenancy
from kernel.usage import audit, files, gate, keys, outbox, plans, reading
from kernel.usage.events import Event, Outcome
from kernel.usage.keys.payload import InvalidPayloadError
from kernel.usage.periods import month_of
from kernel.usage.plans import Plan
from kernel.usage.reading import Made
from kernel.usage.rulings import billed
from kernel.usage.sites import Site
from models.statements import array, statements, texts

# How far ahead the clock of the server may be that noted when an event came.
_AHEAD = timedelta(minutes=5)
_ARCHIVED = "month_archived: the rows of {} left the ledger, so nobody knows whether it was metered; correct it by hand."
_REASON = "came when its month was closed"
_MOVED = "month_not_metered: it came in {}, a month that was not metered, and belongs to {}, in which its file came"


class Line(NamedTuple):
    """What became of a line. `status` is that of an outcome, or adjusted, not_billable, invalid; in a dry run, new.

    not_billable came late and would not have been billed in its month either: nothing was written for it. `key` is the
    event's, and `month` the one that it falls in; an invalid line may have neither.
    """

    line: int
    status: str
    reason: str = ""
    key: str = ""
    month: str = ""


@dataclass(slots=True)
class Impact:
    """What a file did, or would do. `months` counts its events by the month that they fall in and what they became;
    `moved` counts those of them that came in another month, by that one, theirs and what they became.
    """

    file: str
    arrived_at: datetime
    was_known: bool
    statuses: Counter[str] = field(default_factory=Counter)
    months: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    moved: Counter[tuple[str, str, str]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Intake:
    """How files are taken. `setting` is the version of keys (`keys.version`), `report` is told of lines that were not
    simply accepted in the month in which they came, or of all that hold anything, in the order of the file, once what
    became of them is committed.
    """

    engine: sa.Engine
    site: Site
    setting: object
    actor: str
    clock: Callable[[], datetime]
    report: Callable[[Sequence[Line]], None] = lambda lines: None
    tells_all: bool = False
    publisher: outbox.Publisher = outbox.write

    def take(self, path: Path) -> Impact:
        """Meters the file's events, each part of it in a transaction of its own.

        Raises RefusedError for a file that is not what its name says, and what a capture raises: what was committed
        before stands, and the same file again goes on behind it.
        """
        files.kind(path)
        given = {"tenant_id": self.site.tenant_id, "site": self.site.public_id, "digest": files.digest(path)}
        with self.engine.begin() as connection:
            tenancy.service(connection, self.site.tenant_id)
            connection.execute(_sql("hold_file"), given | {"site_id": str(self.site.id)})
            first, version = self._arrival(connection, given)
            # Whoever's clock is behind does not become the first.
            now = max(self.clock(), first) if first else self.clock()
            file_id = connection.execute(
                _sql("note_arrival"), given | {"file": path.name, "at": now, "version": version}
            ).scalar_one()
        impact = Impact(path.name, first or now, first is not None)
        error: BaseException | None = None
        try:
            with _uncollected():
                for part in reading.made(path, self.site, version, impact.arrived_at):
                    with self.engine.begin() as connection:
                        lines, accepted = self._taken(connection, part, impact)
                    self._tell(lines, impact, accepted)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(file_id, given, impact, error)
        return impact

    def foresee(self, path: Path) -> Impact:
        """What `take` would do now; nothing is written, held or refused for quota."""
        files.kind(path)
        given = {"tenant_id": self.site.tenant_id, "site": self.site.public_id, "digest": files.digest(path)}
        with self.engine.begin() as connection:
            tenancy.service(connection, self.site.tenant_id)
            first, version = self._arrival(connection, given)
        impact, seen = Impact(path.name, first or self.clock(), first is not None), set[bytes]()
        for part in reading.made(path, self.site, version, impact.arrived_at):
            with self.engine.begin() as connection:
                lines = self._foreseen(connection, part, impact, seen)
            self._tell(lines, impact)
        return impact

    def _arrival(self, connection: sa.Connection, given: dict[str, Any]) -> tuple[datetime | None, int]:
        """When the file came first, None for a new one, and the version of its keys: once made, they stay its own."""
        found = connection.execute(_sql("arrival"), given).first()
        known = None if found is None else found.version
        return None if found is None else found.started_at, keys.version(known or self.setting)

    def _taken(self, connection: sa.Connection, made: Made, impact: Impact) -> tuple[list[Line], int]:
        """Lines, and how many more events were simply accepted: of these nobody is told unless he wants to know all."""
        tenancy.service(connection, self.site.tenant_id)
        self._begin(connection, made, impact)
        sorted_out = self._sort(connection, made, impact, "hold_months")
        lines, taken, moved = sorted_out.lines, sorted_out.open, sorted_out.moved
        outcomes = gate.capture(
            connection, [event for _, event, _ in taken], at=self.clock(), actor=self.actor, publisher=self.publisher,
        )  # fmt: skip
        months = Counter([month for _, _, month in taken])
        told: Iterable[int] = range(len(taken)) if self.tells_all else outcomes.unusual()
        if moved and not self.tells_all:
            told = sorted({*told, *(place for place, (line, _, _) in enumerate(taken) if line in moved)})
        for place in told:
            (line, event, month), outcome = taken[place], outcomes[place]
            told_of = Line(line, outcome.status, _why(outcome), event.key, month)
            lines.append(_told_of(told_of, moved, impact))
            impact.months[month][outcome.status] += 1
            months[month] -= 1
        for month, accepted in (+months).items():
            impact.months[month]["queued"] += accepted
        for line in self._adjusted(connection, sorted_out.late, impact):
            lines.append(_told_of(line, moved, impact))
            impact.months[line.month][line.status] += 1
        return sorted(lines), months.total()

    def _begin(self, connection: sa.Connection, made: Made, impact: Impact) -> None:
        """Begins months that are over and were not: a file may be the first that is heard of them."""
        if begun := self._may_begin(
            connection, {month_of(each) for each in {*made.clock, impact.arrived_at}}
        ):
            given = {"tenant_id": self.site.tenant_id, "months": texts(begun)}
            connection.execute(statements("usage_gate")["open_months"], given)

    def _may_begin(self, connection: sa.Connection, months: set[str]) -> list[str]:
        """Those of the months that nobody has begun and that will be closed as all others are."""
        now = month_of(self.clock())
        given = {"tenant_id": self.site.tenant_id, "now": now, "months": texts(sorted(months))}
        # Mostly there is the present one alone, which the gate begins.
        return list(connection.scalars(_sql("may_begin"), given)) if months - {now} else []

    def _adjusted(
        self, connection: sa.Connection, late: list[tuple[int, Event, str]], impact: Impact
    ) -> Iterator[Line]:
        """What became of events of closed months."""
        if not late:
            return
        # As a capture holds it: neither door meters what the other one is writing down.
        held = {"tenant_id": self.site.tenant_id, "sites": array([self.site.id])}
        connection.execute(statements("usage_gate")["hold_sites"], held)
        known = self._known(connection, late)
        ruling = self._plans(connection, late)
        wanted = {
            event.key: month for place, (_, event, month) in enumerate(late)
            if place not in known and billed(ruling[month], event)[0]
        }  # fmt: skip
        made = connection.execute(
            _sql("adjust_late"),
            {
                "tenant_id": self.site.tenant_id, "site_id": self.site.id, "month": month_of(self.clock()),
                "of_months": texts(list(wanted.values())), "keys": texts(list(wanted)),
                "reason": f"{_REASON}, in {impact.file}", "actor": self.actor, "at": self.clock(),
            },
        )  # fmt: skip
        adjusted = set(made.scalars())
        for place, (line, event, month) in enumerate(late):
            if place in known:
                yield Line(line, known[place], "", event.key, month)
            elif event.key in adjusted:
                adjusted.remove(event.key)
                yield Line(line, "adjusted", _REASON, event.key, month)
            else:
                status = "duplicate" if event.key in wanted else "not_billable"
                yield Line(line, status, "", event.key, month)

    def _foreseen(
        self, connection: sa.Connection, made: Made, impact: Impact, seen: set[bytes]
    ) -> list[Line]:
        tenancy.service(connection, self.site.tenant_id)
        sorted_out = self._sort(connection, made, impact, "months")
        lines, moved = sorted_out.lines, sorted_out.moved
        ruling = self._plans(connection, sorted_out.late)
        for is_late, events in ((False, sorted_out.open), (True, sorted_out.late)):
            known = self._known(connection, events)
            for place, (line, event, month) in enumerate(events):
                # Half of the digest: a set of every key of a large file stays small.
                short = bytes.fromhex(event.key[-32:])
                status = known.get(place) or (
                    "duplicate" if short in seen else "adjusted" if is_late else "new"
                )
                if status == "adjusted" and not billed(ruling[month], event)[0]:
                    status = "not_billable"
                seen.add(short)
                lines.append(_told_of(Line(line, status, "", event.key, month), moved, impact))
                impact.months[month][status] += 1
        return sorted(lines)

    def _plans(self, connection: sa.Connection, late: list[tuple[int, Event, str]]) -> dict[str, Plan]:
        """By which the events of these months are ruled."""
        tenant_id, site_id = self.site.tenant_id, self.site.id
        return {
            month: plans.of_month(connection, tenant_id, [site_id], month, self.clock()).get(
                site_id, plans.DEFAULT
            )
            for month in {month for _, _, month in late}
        }

    def _sort(self, connection: sa.Connection, made: Made, impact: Impact, asked: str) -> _Sorted:
        """A part's records by whether their month takes usage."""
        now, arrived = self.clock(), impact.arrived_at
        month = {instant: month_of(instant) for instant in {*made.clock, arrived, now}}
        given = {"tenant_id": self.site.tenant_id, "months": texts(sorted({*month.values()}))}
        states = {row.year_month: row.state for row in connection.execute(_sql(asked), given)}
        if asked == "months":
            # A run begins them before.
            states |= dict.fromkeys(self._may_begin(connection, {*month.values()}), "OPEN")
        # The gate opens the present one. Any other that nobody has begun is none of the tenant's and pays for nothing: its
        # events are paid for when they arrive.
        is_open = {each: states.get(each, "") in ("OPEN", "CLOSING") for each in month.values()}
        is_open[month[now]] |= month[now] not in states
        paying = {
            instant: instant if is_open[each] or each in states else arrived
            for instant, each in month.items()
        }
        archived = set(connection.scalars(_sql("archived"), given | {"site_id": self.site.id}))
        latest = now + _AHEAD
        result = _Sorted([Line(line, "invalid", reason) for line, reason in made.refused])
        last, paid, paying_month, taken = None, now, month[now], result.open
        for line, instant, each in zip(made.lines, made.clock, made.events, strict=True):
            if isinstance(each, InvalidPayloadError):
                result.lines.append(Line(line, "invalid", f"{each.code}: {each}"))
                continue
            if instant > latest:
                why = "received_at_in_future: received_at has not come yet."
                result.lines.append(Line(line, "invalid", why, each.key, month[instant]))
                continue
            # Many come at one instant.
            if instant is not last:
                last, paid = instant, paying[instant]
                paying_month = month[paid]
                taken = result.open if is_open[paying_month] else result.late
            if paying_month in archived:
                why = _ARCHIVED.format(paying_month)
                result.lines.append(Line(line, "invalid", why, each.key, paying_month))
                continue
            if paid is not instant:
                each = each._replace(received_at=paid)
                if month[instant] != paying_month:
                    result.moved[line] = month[instant]
            taken.append((line, each, paying_month))
        return result

    def _known(self, connection: sa.Connection, events: list[tuple[int, Event, str]]) -> dict[int, str]:
        """Of those that are metered or adjusted already, by their places, what they are answered."""
        given = {
            "tenant_id": self.site.tenant_id, "site_id": self.site.id,
            "keys": texts([event.key for _, event, _ in events]), "places": array(range(len(events))),
        }  # fmt: skip
        rows = connection.execute(_sql("known"), given)
        return {row.place: "rejected_quota" if row.is_refused else "duplicate" for row in rows}

    def _tell(self, lines: list[Line], impact: Impact, accepted: int = 0) -> None:
        impact.statuses += Counter(line.status for line in lines) + Counter(queued=accepted)
        self.report(lines)

    def _end(self, file_id: Any, given: dict[str, Any], impact: Impact, error: BaseException | None) -> None:
        counts = impact.statuses
        told = {
            "id": file_id, "status": "failed" if error else "loaded", "read": counts.total(),
            "new": counts["queued"] + counts["degraded"] + counts["adjusted"], "duplicates": counts["duplicate"],
            "refused": counts["invalid"] + counts["rejected_quota"], "at": self.clock(),
            "error": f"{type(error).__name__}: {error}"[:500] if error else None,
        }  # fmt: skip
        with self.engine.begin() as connection:
            tenancy.service(connection, self.site.tenant_id)
            connection.execute(_sql("note_end"), given | told)
            audit.append(
                connection, self.site.tenant_id, "usage_imported", actor=self.actor, at=self.clock(),
                site_id=self.site.id, file=impact.file, sha256=given["digest"], arrived_at=impact.arrived_at,
                statuses=dict(counts), is_whole=error is None,
            )  # fmt: skip


@dataclass(slots=True)
class _Sorted:
    """What came of a part's records before the gate: lines that are refused, and events with their line and month;
    of those that came in another month, by line, which one.
    """

    lines: list[Line]
    open: list[tuple[int, Event, str]] = field(default_factory=list)
    late: list[tuple[int, Event, str]] = field(default_factory=list)
    moved: dict[int, str] = field(default_factory=dict)


@contextmanager
def _uncollected() -> Iterator[None]:
    """A part is very many small objects that end with it: the collector of cycles would walk through them in vain."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _why(outcome: Outcome) -> str:
    if outcome.is_conflict:
        return "payload_conflict: another payload was metered under its key"
    return outcome.reason or ""


def _told_of(line: Line, moved: dict[int, str], impact: Impact) -> Line:
    """With the month in which it came, where that is another one than its own, and counted then."""
    came = moved.get(line.line)
    if came is None or line.status in ("duplicate", "not_billable"):
        return line
    impact.moved[came, line.month, line.status] += 1
    why = _MOVED.format(came, line.month)
    return line._replace(reason=f"{line.reason}; {why}" if line.reason else why)


def _sql(name: str) -> sa.TextClause:
    return statements("usage_doors")[name]
