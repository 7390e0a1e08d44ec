"""Quality metrics: how fresh, complete, unique and attributed the data is, and pipeline coverage."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime
from decimal import Decimal

from tests.oracle.book import Book, days_between, window
from tests.oracle.conversion import in_hours
from tests.oracle.demand import QUALIFIED, worth
from tests.oracle.economics import bookings_of_day
from tests.oracle.records import Contact
from tests.oracle.results import ZERO, Result, Rows, amount, ratio

ATTRIBUTABLE_EVENTS = ("lead_created", "mql_reached", "landing_form_submit", "meeting_booked")
ATTRIBUTABLE_REVENUE = ("new_booking", "expansion")
REQUIRED_METRICS = ("pipeline_total", "bookings_new", "cac_blended", "payback_months", "gross_margin_pct")
KNOWN = ("ok", "infinite", "not_applicable")


def data_freshness_hours(book: Book, day: date) -> Rows:
    end = book.day_end(day)
    required = sorted({row.source_system for row in book.coverage if row.is_required})
    rows = {}
    for source in required:
        handed_over = [at for system, at in book.watermarks if system == source and at < end]
        rows[f"source={source}"] = (
            amount(in_hours(end - max(handed_over)), 1) if handed_over else Result(None, "undefined")
        )
    ages = [row.value for row in rows.values() if row.value is not None]
    if not ages or len(ages) < len(required):
        return {"": Result(None, "undefined", None, None, len(required)), **rows}
    return {"": amount(max(ages), len(required)), **rows}


def missing_attribution_pct(book: Book, day: date) -> Rows:
    missing, total = 0, 0
    for on in days_between(*window(day, 30)):
        of_day = book.once(("attributable", on), lambda on=on: _attributable(book, on))
        missing += sum(not has_campaign for has_campaign in of_day)
        total += len(of_day)
    return {"": ratio(missing, total, total, times=100)}


def _attributable(book: Book, on: date) -> list[bool]:
    """For each row that should name a campaign, whether it does."""
    events = [event.campaign for event in book.events.within(on, on) if event.type in ATTRIBUTABLE_EVENTS]
    revenue = [event.campaign for event in book.revenue.within(on, on) if event.type in ATTRIBUTABLE_REVENUE]
    return [campaign is not None for campaign in events + revenue]


def duplicate_contact_rate(book: Book, day: date) -> Rows:
    end = book.day_end(day)
    people: dict[object, list[Contact]] = book.once("identities", lambda: _identities(book))
    present = [sum(_exists(contact, end) for contact in same) for same in people.values()]
    contacts, identities = sum(present), sum(count > 0 for count in present)
    if contacts == 0:
        return {"": Result(None, "undefined")}
    return {"": amount(1 - Decimal(identities) / contacts, contacts)}


def _exists(contact: Contact, end: datetime) -> bool:
    return contact.created_at < end and (contact.merged_at is None or contact.merged_at >= end)


def _identities(book: Book) -> dict[object, list[Contact]]:
    found = defaultdict(list)
    for contact in book.records.contacts:
        email = (contact.email or "").strip().lower()
        phone = "".join(letter for letter in contact.phone or "" if letter in "0123456789")
        if email:
            found["email", email].append(contact)
        elif phone:
            found["phone", phone].append(contact)
        else:
            found["contact", contact.key].append(contact)
    return dict(found)


def pipeline_coverage_ratio(book: Book, day: date) -> Rows:
    closing_this_month = [
        deal
        for deal in book.open_deals(day)
        if deal.stage in QUALIFIED
        and deal.expected_close_date is not None
        and (deal.expected_close_date.year, deal.expected_close_date.month) == (day.year, day.month)
    ]
    first, last = window(day, day.day)
    booked = sum((bookings_of_day(book, on)[0] for on in days_between(first, last)), ZERO)
    target = book.tenant.in_force("target_bookings", 150_000, book.day_end(day), inclusive=False)
    missing = Decimal(str(target)) - booked
    pipeline, count = worth(closing_this_month), len(closing_this_month)
    if Decimal(str(target)) == 0 or missing <= 0:
        return {"": Result(None, "not_applicable", pipeline, missing, count)}
    return {"": ratio(pipeline, missing, count)}


def data_coverage_pct(book: Book, day: date) -> Rows:
    asked = [
        book.total(metric_id, on).status
        for on in days_between(*window(day, 30))
        for metric_id in REQUIRED_METRICS
    ]
    known = sum(status in KNOWN for status in asked)
    return {"": ratio(known, len(asked), len(asked), times=100)}
