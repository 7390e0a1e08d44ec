"""What several metrics ask of one tenant's records: coverage, windows, leads, deals, MRR.

A metric's own formula stands in the module of its domain.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from models.vocabulary import CLOSED_STAGES, OPEN_STAGES
from tests.oracle.frames import Tenant, day_end
from tests.oracle.records import Key, LedgerEntry, Opportunity, Records, Revenue, Stage, Weight
from tests.oracle.results import Result, Rows, amount, dictionary, unknown

# Without a date no day can be covered; finance inputs have a rule of their own.
WITHOUT_COVERAGE = {
    "accounts", "contacts", "campaigns", "campaign_channels", "opportunity_channel_attribution",
    "finance_inputs_monthly", "all",
}  # fmt: skip
WINDOWS = (7, 30, 90)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Coverage:
    source_system: str
    fact: str
    covered_from: date
    covered_to: date
    is_required: bool


@dataclass(frozen=True, slots=True)
class Lead:
    created_at: datetime
    day: date
    contact: Key | None


@dataclass(frozen=True, slots=True)
class Closing:
    """A deal that stands closed: since when, and its state at the end of the day asked about."""

    opportunity: Key
    at: datetime
    day: date
    state: Stage


class ByDay(Generic[T]):
    """Records with a `day`, in the order of their days."""

    def __init__(self, records: Iterable[T]) -> None:
        self._records = sorted(records, key=lambda record: record.day)  # type: ignore[attr-defined]
        self._days: list[date] = [record.day for record in self._records]  # type: ignore[attr-defined]

    def within(self, first: date, last: date) -> list[T]:
        return self._records[bisect_left(self._days, first) : bisect_right(self._days, last)]

    def last_until(self, day: date) -> T | None:
        position = bisect_right(self._days, day)
        return self._records[position - 1] if position else None


class Book:
    """One tenant's records, and the answers several metrics share."""

    def __init__(
        self,
        records: Records,
        tenant: Tenant,
        coverage: Sequence[Coverage],
        watermarks: Sequence[tuple[str, datetime]],
        metrics: dict[str, Callable[[Book, date], Rows]],
    ) -> None:
        self.records = records
        self.tenant = tenant
        self.coverage = coverage
        self.watermarks = watermarks
        self.zone = ZoneInfo(tenant.newest("time_zone", "UTC"))
        self._metrics = metrics
        self._remembered: dict[Hashable, Any] = {}

        self.spend = ByDay(row for row in records.spend if row.channel.is_paid)
        self.events = ByDay(records.events)
        self.activities = ByDay(records.activities)
        self.revenue = ByDay(records.revenue)
        self.ledger = ByDay(records.ledger)
        self.opportunities: dict[Key, Opportunity] = {row.key: row for row in records.opportunities}

    # The rows of a metric.

    def rows(self, metric_id: str, day: date) -> Rows:
        """Every row of the metric on the day; only the total when its sources are missing or stale."""
        return self.once(("rows", metric_id, day), lambda: self._rows(metric_id, day))

    def total(self, metric_id: str, day: date) -> Result:
        return self.rows(metric_id, day)[""]

    def _rows(self, metric_id: str, day: date) -> Rows:
        status = self.source_status(metric_id, day)
        if status != "ok":
            return {"": unknown(status)}
        rows = self._metrics[metric_id](self, day)
        return {key: self._whole(metric_id, day, row) for key, row in rows.items()}

    def _whole(self, metric_id: str, day: date, row: Result) -> Result:
        """The row; unknown when its sources begin on different days and one begins within its window."""
        days = row.window_days or dictionary()[metric_id].window_days
        begin = set(self._first_covered_days(metric_id))
        if len(begin) > 1 and not self.covers_window(metric_id, day, days):
            return unknown().over(row.window_days)
        return row

    def once(self, question: Hashable, answer: Callable[[], T]) -> T:
        if question not in self._remembered:
            self._remembered[question] = answer()
        return self._remembered[question]

    # Days and coverage.

    def day_end(self, day: date) -> datetime:
        return day_end(day, self.zone)

    def local_day(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def source_status(self, metric_id: str, day: date) -> str:
        facts = self._asked(metric_id)
        if any((first := self.covered_from(fact)) is None or day < first for fact in facts):
            return "undefined"
        if any((last := self._covered_to(fact)) is not None and day > last for fact in facts):
            return "stale_source"
        return "ok"

    def covered_from(self, fact: str) -> date | None:
        return min((row.covered_from for row in self.coverage if row.fact == fact), default=None)

    def covers(self, fact: str, day: date) -> bool:
        first = self.covered_from(fact)
        return first is not None and first <= day

    def all_begun(self, fact: str, day: date) -> bool:
        """Whether every source that hands over the fact covers the day or began before it."""
        return all(row.covered_from <= day for row in self.coverage if row.fact == fact)

    def covers_window(self, metric_id: str, day: date, days: int) -> bool:
        first, _ = window(day, days)
        return all(covered <= first for covered in self._first_covered_days(metric_id))

    def covered_days(self, fact: str, first: date, last: date) -> list[date]:
        return [on for on in days_between(first, last) if self.covers(fact, on)]

    def _asked(self, metric_id: str) -> list[str]:
        return [fact for fact in dictionary()[metric_id].sources if fact not in WITHOUT_COVERAGE]

    def _first_covered_days(self, metric_id: str) -> list[date]:
        return [first for fact in self._asked(metric_id) if (first := self.covered_from(fact)) is not None]

    def _covered_to(self, fact: str) -> date | None:
        required = [row.covered_to for row in self.coverage if row.fact == fact and row.is_required]
        return min(required, default=None)

    def flow(self, metric_id: str, day: date, of_day: Callable[[date], tuple[Decimal, int]]) -> Rows:
        """A flow and its sums over 7, 30 and 90 days; `of_day` gives value and number of things counted."""

        def summed(days: int) -> Result:
            each = [
                self.once((metric_id, on), lambda on=on: of_day(on))
                for on in days_between(*window(day, days))
            ]
            return amount(sum((value for value, _ in each), Decimal(0)), sum(count for _, count in each))

        windows = {
            f"window=T{days}": (summed(days) if self.covers_window(metric_id, day, days) else unknown()).over(
                days
            )
            for days in WINDOWS
        }
        return {"": summed(1), **windows}

    # People.

    @cached_property
    def _survivors(self) -> dict[Key, Key]:
        merged = {row.key: row.merged_into for row in self.records.contacts}
        survivors = {}
        for contact in merged:
            survivor = contact
            for _ in range(3):
                survivor = merged.get(survivor) or survivor
            survivors[contact] = survivor
        return survivors

    def survivor(self, contact: Key | None) -> Key | None:
        return None if contact is None else self._survivors.get(contact, contact)

    def first_of_leads(self, event_type: str) -> ByDay[Lead]:
        """Each lead's first event of the type."""
        return self.once(("leads", event_type), lambda: ByDay(self._first_of_leads(event_type)))

    def _first_of_leads(self, event_type: str) -> Iterable[Lead]:
        found: dict[Hashable, Lead] = {}
        for event in self.records.events:
            if event.type != event_type:
                continue
            contact = self.survivor(event.contact)
            lead_id = event.properties.get("lead_id")
            if contact is not None:
                known_as: Hashable = ("contact", contact)
            elif lead_id not in (None, ""):
                known_as = ("lead", str(lead_id))
            else:
                known_as = ("event", event.key)
            if known_as not in found or event.at < found[known_as].created_at:
                found[known_as] = Lead(event.at, event.day, contact)
        return found.values()

    @cached_property
    def _outbound(self) -> dict[Key, list[datetime]]:
        reached = defaultdict(list)
        for activity in self.records.activities:
            contact = self.survivor(activity.contact)
            if contact is not None and activity.direction == "outbound":
                reached[contact].append(activity.at)
        return {contact: sorted(moments) for contact, moments in reached.items()}

    def first_outbound(self, lead: Lead) -> datetime | None:
        """The first outbound activity with the lead's contact, at or after its creation."""
        if lead.contact is None:
            return None
        moments = self._outbound.get(lead.contact, [])
        position = bisect_left(moments, lead.created_at)
        return moments[position] if position < len(moments) else None

    # Deals.

    @cached_property
    def stages_of(self) -> dict[Key, list[Stage]]:
        """Every state of each deal, in order."""
        found = defaultdict(list)
        for stage in sorted(self.records.stages, key=lambda row: row.changed_at):
            found[stage.opportunity].append(stage)
        return dict(found)

    @cached_property
    def _ends_of_days(self) -> dict[Key, ByDay[Stage]]:
        """The last state of each local day on which a deal changed."""
        return {
            opportunity: ByDay({stage.day: stage for stage in stages}.values())
            for opportunity, stages in self.stages_of.items()
        }

    def state(self, opportunity: Key, day: date) -> Stage | None:
        """The deal at the end of the day; None before its first row."""
        states = self._ends_of_days.get(opportunity)
        return states.last_until(day) if states else None

    def states(self, day: date) -> dict[Key, Stage]:
        """Every deal that exists, at the end of the day."""
        return self.once(
            ("states", day),
            lambda: {
                key: state for key, states in self._ends_of_days.items() if (state := states.last_until(day))
            },
        )

    def open_deals(self, day: date) -> list[Stage]:
        return [state for state in self.states(day).values() if state.stage in OPEN_STAGES]

    def closings(self, day: date, first: date, last: date) -> list[Closing]:
        """The deals that stand closed at the end of the day, and closed within first..last."""
        return [closing for closing in self._closings(day) if first <= closing.day <= last]

    def _closings(self, day: date) -> list[Closing]:
        return self.once(
            ("closings", day),
            lambda: [
                self._closing(key, state, day)
                for key, state in self.states(day).items()
                if state.stage in CLOSED_STAGES
            ],
        )

    def _closing(self, opportunity: Key, state: Stage, day: date) -> Closing:
        start = state
        for earlier in reversed(self._ends_of_days[opportunity].within(date.min, day)):
            if earlier.stage != state.stage:
                break
            start = earlier
        return Closing(opportunity, start.changed_at, start.day, state)

    @cached_property
    def weights(self) -> dict[Key, list[Weight]]:
        """What each channel earned of a deal; deals without attribution are absent."""
        found = defaultdict(list)
        for row in self.records.weights:
            found[row.opportunity].append(row)
        return dict(found)

    @cached_property
    def paid_kinds(self) -> set[str]:
        return {channel.kind for channel in self.records.channels if channel.is_paid}

    def paid_share(self, event: Revenue) -> Decimal:
        """How much of a revenue event paid channels earned."""
        weights = self.weights.get(event.opportunity) if event.opportunity else None
        if weights:
            return sum((row.weight for row in weights if row.channel.is_paid), Decimal(0))
        return Decimal(event.attributed_channel in self.paid_kinds)

    # Customers and their MRR.

    @cached_property
    def _first_bookings(self) -> ByDay[Revenue]:
        """The first new booking of each account."""
        first: dict[Key, Revenue] = {}
        for event in sorted(self.records.revenue, key=lambda row: (row.day, row.key)):
            if event.type == "new_booking" and event.account is not None:
                first.setdefault(event.account, event)
        return ByDay(first.values())

    def first_bookings(self, first: date, last: date) -> list[Revenue]:
        return self._first_bookings.within(first, last)

    def ledger_up_to(self, day: date) -> list[LedgerEntry]:
        return self.ledger.within(date.min, day)

    def mrr(self, day: date) -> Decimal:
        """MRR of all accounts at the end of the day."""
        days, sums = self._running_mrr
        position = bisect_right(days, day)
        return sums[position - 1] if position else Decimal(0)

    @cached_property
    def _running_mrr(self) -> tuple[list[date], list[Decimal]]:
        days, sums, running = [], [], Decimal(0)
        for entry in self.ledger.within(date.min, date.max):
            running += entry.mrr_delta
            days.append(entry.day)
            sums.append(running)
        return days, sums

    def mrr_of_accounts(self, day: date) -> dict[Key, Decimal]:
        """MRR of each account that ever had any, at the end of the day."""
        found: dict[Key, Decimal] = defaultdict(Decimal)
        for entry in self.ledger_up_to(day):
            found[entry.account] += entry.mrr_delta
        return dict(found)


def window(day: date, days: int, *, ago: int = 0) -> tuple[date, date]:
    """First and last of the `days` days that end `ago` days before the day."""
    last = day - timedelta(days=ago)
    return last - timedelta(days=days - 1), last


def days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
