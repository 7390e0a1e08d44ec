"""Conversion metrics: from lead to deal to won, and how fast and how reliably people follow up."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from tests.oracle.book import Book, ByDay, Closing, Lead, days_between, window
from tests.oracle.records import Key, Stage
from tests.oracle.results import ZERO, Result, Rows, amount, dictionary, ratio

# How long a lead waited, and whether somebody reached out then (else it still waits).
Wait = tuple[timedelta, bool]
OPENS, CLOSES = time(9), time(17)


def in_hours(elapsed: timedelta) -> Decimal:
    return Decimal(elapsed // timedelta(microseconds=1)) / 3_600_000_000


def in_days(elapsed: timedelta) -> Decimal:
    return in_hours(elapsed) / 24


def percentile(values: list[Decimal], share: Decimal) -> Decimal:
    """Between the two nearest ranks, linearly: what percentile_cont gives."""
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    below, above = math.floor(rank), math.ceil(rank)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def _statistic(values: list[Decimal], of: Callable[[list[Decimal]], Decimal]) -> Result:
    return amount(of(values), len(values)) if values else Result(None, "undefined")


def win_rate(book: Book, day: date) -> Rows:
    closings = book.closings(day, *window(day, 90))
    valued = [closing for closing in closings if closing.state.amount is not None]
    minimum = dictionary()["win_rate"].minimum_sample
    return {
        "": ratio(len(_won(closings)), len(closings), len(closings), minimum=minimum),
        "basis=value": ratio(_amounts(_won(valued)), _amounts(valued), len(valued), minimum=minimum),
    }


def _won(closings: list[Closing]) -> list[Closing]:
    return [closing for closing in closings if closing.state.stage == "closed_won"]


def _amounts(closings: list[Closing]) -> Decimal:
    return sum((closing.state.amount for closing in closings if closing.state.amount is not None), ZERO)


def won_within(book: Book, day: date) -> list[Closing]:
    """The deals that stand won at the end of the day and were won in the 90 days."""
    return _won(book.closings(day, *window(day, 90)))


def avg_sales_cycle_days(book: Book, day: date) -> Rows:
    cycles = [
        in_days(closing.at - book.opportunities[closing.opportunity].created_at)
        for closing in won_within(book, day)
    ]
    ages = [
        in_days(book.day_end(day) - book.opportunities[deal.opportunity].created_at)
        for deal in book.open_deals(day)
    ]
    return {
        "": ratio(sum(cycles, ZERO), len(cycles), len(cycles)),
        "stat=median": _statistic(cycles, statistics.median),
        "stat=p90": _statistic(cycles, lambda values: percentile(values, Decimal("0.9"))),
        "stat=open_age": ratio(sum(ages, ZERO), len(ages), len(ages)),
    }


def stage_conversion_lead_to_opp(book: Book, day: date) -> Rows:
    created = book.once("deals by contact", lambda: _deals_by_contact(book))
    leads = book.first_of_leads("lead_created").within(*window(day, 30, ago=30))
    converted = [
        lead
        for lead in leads
        if any(
            lead.created_at <= moment <= lead.created_at + timedelta(days=30)
            for moment in created.get(lead.contact, [])
        )
    ]
    return {"": ratio(len(converted), len(leads), len(leads))}


def _deals_by_contact(book: Book) -> dict[Key | None, list[datetime]]:
    found = defaultdict(list)
    for deal in book.records.opportunities:
        if deal.contact is not None:
            found[book.survivor(deal.contact)].append(deal.created_at)
    return dict(found)


def stage_conversion_opp_to_close(book: Book, day: date) -> Rows:
    median = book.rows("avg_sales_cycle_days", day)["stat=median"].value
    if median is None:
        return {"": Result(None, "undefined")}
    matured = min(math.ceil(2 * median), 365)
    first, last = window(day, 90, ago=matured)
    cohort = [deal for deal in book.records.opportunities if first <= deal.day <= last]
    won = [
        deal
        for deal in cohort
        if (state := book.state(deal.key, day)) is not None and state.stage == "closed_won"
    ]
    return {"": ratio(len(won), len(cohort), len(cohort))}


def speed_to_lead_hours(book: Book, day: date) -> Rows:
    leads = book.first_of_leads("lead_created").within(*window(day, 30))
    end = book.day_end(day)

    def median(elapsed: Callable[[datetime, datetime], timedelta]) -> Result:
        waits: list[Wait] = []
        for lead in leads:
            reached = book.first_outbound(lead)
            if reached is not None and reached < end:
                waits.append((elapsed(lead.created_at, reached), True))
            else:
                waits.append((elapsed(lead.created_at, end), False))
        return _median_wait(waits)

    return {
        "": median(lambda start, stop: stop - start),
        "basis=business_hours": median(lambda start, stop: business_time(start, stop, book.zone)),
    }


def _median_wait(waits: list[Wait]) -> Result:
    if not waits:
        return Result(None, "undefined")
    median = kaplan_meier_median(waits)
    if median is None:
        return Result(None, "infinite", None, None, len(waits))
    return amount(in_hours(median), len(waits))


def kaplan_meier_median(waits: list[Wait]) -> timedelta | None:
    """The shortest time after which at most half are still waiting; None when it never comes to that.

    At each time somebody was reached, the share still waiting is multiplied by 1 - reached / at risk;
    who still waits at that very time is at risk.
    """
    still_waiting = Fraction(1)
    ordered = sorted(wait for wait, _ in waits)
    reached = Counter(wait for wait, was_reached in waits if was_reached)
    for moment in sorted(reached):
        at_risk = len(ordered) - bisect_left(ordered, moment)
        still_waiting *= Fraction(at_risk - reached[moment], at_risk)
        if still_waiting <= Fraction(1, 2):
            return moment
    return None


def business_time(start: datetime, stop: datetime, zone: ZoneInfo) -> timedelta:
    """The part of the span that lies in Monday to Friday, 9 to 17 local time."""
    total = timedelta(0)
    for day in days_between(start.astimezone(zone).date(), stop.astimezone(zone).date()):
        if day.weekday() < 5:
            opens = datetime.combine(day, OPENS, zone).astimezone(start.tzinfo)
            closes = datetime.combine(day, CLOSES, zone).astimezone(start.tzinfo)
            total += max(min(stop, closes) - max(start, opens), timedelta(0))
    return total


def follow_up_rate(book: Book, day: date) -> Rows:
    due = book.once("follow-ups", lambda: list(_follow_ups(book, book.first_of_leads("lead_created"))))
    first, last = window(day, 30)
    kept = [in_time for due_on, in_time in due if first <= due_on <= last]
    return {"": ratio(sum(kept), len(kept), len(kept))}


def _follow_ups(book: Book, leads: ByDay[Lead]) -> Iterable[tuple[date, bool]]:
    """For each lead the day on which its time ran out, and whether it had been contacted by then."""
    for lead in leads.within(date.min, date.max):
        hours = book.tenant.in_force("follow_up_sla_hours", 24, lead.created_at, inclusive=True)
        deadline = lead.created_at + timedelta(microseconds=int(Decimal(str(hours)) * 3_600_000_000))
        reached = book.first_outbound(lead)
        yield book.local_day(deadline), reached is not None and reached <= deadline


def no_show_rate(book: Book, day: date) -> Rows:
    meetings = [
        activity
        for activity in book.activities.within(*window(day, 30))
        if activity.type == "meeting" and activity.outcome != "cancelled"
    ]
    missed = [meeting for meeting in meetings if meeting.outcome == "no_show"]
    return {"": ratio(len(missed), len(meetings), len(meetings))}


def proposal_acceptance_rate(book: Book, day: date) -> Rows:
    first, last = window(day, 90, ago=60)
    proposals = [
        (stages, proposed[0])
        for stages in book.stages_of.values()
        if (proposed := [stage for stage in stages if stage.stage == "proposal"])
        and first <= proposed[0].day <= last
    ]
    accepted = [1 for stages, proposed in proposals if _accepted(stages, proposed)]
    return {"": ratio(len(accepted), len(proposals), len(proposals))}


def _accepted(stages: list[Stage], proposed: Stage) -> bool:
    until = proposed.changed_at + timedelta(days=60)
    return any(
        stage.stage == "closed_won" and proposed.changed_at <= stage.changed_at <= until for stage in stages
    )
