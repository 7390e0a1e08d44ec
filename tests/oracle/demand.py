"""Demand metrics: leads, pipeline, campaigns, e-mail and meetings."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from models.vocabulary import OPEN_STAGES
from tests.oracle.book import Book, days_between, window
from tests.oracle.records import Event, Key, Revenue, Stage
from tests.oracle.results import ZERO, Result, Rows, amount, dictionary, ratio, unknown

QUALIFIED = OPEN_STAGES[OPEN_STAGES.index("qualified") :]
EARNING_SIGNS = {"new_booking": 1, "expansion": 1, "other_revenue": 1, "refund": -1, "discount": -1}
ATTEMPTS = ("email_sent", "sms_sent", "voice_call_initiated", "linkedin_message_sent")
BOOKED_MEETINGS = ("meeting_booked", "voice_meeting_booked")


def leads_created(book: Book, day: date) -> Rows:
    return _leads(book, "leads_created", "lead_created", day)


def mqls_created(book: Book, day: date) -> Rows:
    return _leads(book, "mqls_created", "mql_reached", day)


def _leads(book: Book, metric_id: str, event_type: str, day: date) -> Rows:
    def of_day(on: date) -> tuple[Decimal, int]:
        count = len(book.first_of_leads(event_type).within(on, on))
        return Decimal(count), count

    return book.flow(metric_id, day, of_day)


def qualified_opps_created(book: Book, day: date) -> Rows:
    def of_day(on: date) -> tuple[Decimal, int]:
        count = sum(entered == on for entered in _first_qualified_days(book))
        return Decimal(count), count

    return book.flow("qualified_opps_created", day, of_day)


def _first_qualified_days(book: Book) -> list[date]:
    def first_days() -> list[date]:
        found = []
        for stages in book.stages_of.values():
            entered = [stage.day for stage in stages if stage.stage in (*QUALIFIED, "closed_won")]
            found += entered[:1]
        return found

    return book.once("first qualified days", first_days)


def opps_created(book: Book, day: date) -> Rows:
    def of_day(on: date) -> tuple[Decimal, int]:
        count = sum(deal.day == on for deal in book.records.opportunities)
        return Decimal(count), count

    return book.flow("opps_created", day, of_day)


def pipeline_total(book: Book, day: date) -> Rows:
    deals = book.open_deals(day)
    qualified = [deal for deal in deals if deal.stage in QUALIFIED]
    unvalued = [deal for deal in deals if deal.amount is None]
    weighted = sum(((deal.amount or ZERO) * deal.win_probability for deal in deals), ZERO)
    return {
        "": amount(worth(deals), len(deals)),
        "basis=qualified": amount(worth(qualified), len(qualified)),
        "basis=weighted": amount(weighted, len(deals)),
        "basis=unvalued_count": amount(len(unvalued), len(unvalued)),
    }


def worth(deals: list[Stage]) -> Decimal:
    return sum((deal.amount for deal in deals if deal.amount is not None), ZERO)


def pipeline_velocity(book: Book, day: date) -> Rows:
    before = day - timedelta(days=30)
    components = ("added", "won", "lost", "resized")
    if not book.covers("opportunity_stage_history", before):
        return {"": unknown(), **{f"component={name}": unknown() for name in components}}
    moved: dict[str, Decimal] = dict.fromkeys(components, ZERO)
    for on in days_between(before + timedelta(days=1), day):
        for name, value in book.once(("pipeline moves", on), lambda on=on: _pipeline_moves(book, on)).items():
            moved[name] += value
    net = worth(book.open_deals(day)) - worth(book.open_deals(before))
    return {
        "": ratio(net, 30, 30),
        **{f"component={name}": ratio(value, 30, 30) for name, value in moved.items()},
    }


def _pipeline_moves(book: Book, day: date) -> dict[str, Decimal]:
    """How the open pipeline changed from the evening before to the evening of the day."""
    moved = dict.fromkeys(("added", "won", "lost", "resized"), ZERO)
    evening_before = book.states(day - timedelta(days=1))
    for opportunity, now in book.states(day).items():
        was = evening_before.get(opportunity)
        was_open = was is not None and was.stage in OPEN_STAGES
        is_open = now.stage in OPEN_STAGES
        if is_open and not was_open:
            moved["added"] += now.amount or ZERO
        elif is_open and was is not None:
            moved["resized"] += (now.amount or ZERO) - (was.amount or ZERO)
        elif was_open and was is not None:
            moved["won" if now.stage == "closed_won" else "lost"] += was.amount or ZERO
    return moved


def channel_contribution(book: Book, day: date) -> Rows:
    deals = book.open_deals(day)
    value: dict[str, Decimal] = defaultdict(Decimal)
    counted: dict[str, set[Key]] = defaultdict(set)
    for deal in deals:
        earned = [(row.channel.kind, row.weight) for row in book.weights.get(deal.opportunity, [])]
        rest = 1 - sum((weight for _, weight in earned), ZERO)
        for kind, weight in [*earned, ("unattributed", rest)]:
            if weight > 0:
                value[kind] += weight * (deal.amount or ZERO)
                counted[kind].add(deal.opportunity)
    kinds = sorted({*value, "unattributed"})
    return {
        "": amount(worth(deals), len(deals)),
        **{f"channel={kind}": amount(value[kind], len(counted[kind])) for kind in kinds},
    }


def campaign_roas(book: Book, day: date) -> Rows:
    first, last = window(day, 90)
    of_campaign: dict[Key, list[Revenue]] = defaultdict(list)
    for event in book.revenue.within(first, last):
        if event.campaign is not None and (event.type in EARNING_SIGNS or event.type == "marketing_spend"):
            of_campaign[event.campaign].append(event)
    rows = {"": _return(event for events in of_campaign.values() for event in events)}
    for campaign, events in of_campaign.items():
        campaign_id = _campaign_id(book.tenant.id, campaign)
        result = _return(events)
        rows[f"campaign={campaign_id}"] = result
        rows[f"basis=margin|campaign={campaign_id}"] = _margin_return(book, result, day)
    return rows


def _return(events: Iterable[Revenue]) -> Result:
    listed = list(events)
    earned = sum((signed(event) for event in listed), ZERO)
    spent = [event.amount for event in listed if event.type == "marketing_spend"]
    return ratio(earned, sum(spent, ZERO), len(spent))


def _margin_return(book: Book, result: Result, day: date) -> Result:
    margin = book.total("gross_margin", day).value
    if margin is None:
        return Result(None, "undefined", None, result.denominator, result.sample_size)
    return ratio(result.numerator * margin, result.denominator, result.sample_size)


def signed(event: Revenue) -> Decimal:
    """What an event adds to revenue: refunds and discounts take away, costs count nothing."""
    return EARNING_SIGNS.get(event.type, 0) * event.amount


def _campaign_id(tenant_id: str, campaign: Key) -> str:
    named = f"{tenant_id}|campaigns|{campaign[0]}|{campaign[1]}"
    return str(UUID(hashlib.md5(named.encode(), usedforsecurity=False).hexdigest()))


def email_reply_rate(book: Book, day: date) -> Rows:
    replied, delivered = 0, 0
    for sent_on in days_between(*window(day, 30, ago=7)):
        of_day = book.once(("replies", sent_on), lambda on=sent_on: _replies(book, on))
        replied += of_day[0]
        delivered += of_day[1]
    minimum = dictionary()["email_reply_rate"].minimum_sample
    return {"": ratio(replied, delivered, delivered, minimum=minimum)}


def _replies(book: Book, sent_on: date) -> tuple[int, int]:
    """Recipients who answered an e-mail delivered on the day, and recipients of one."""
    bounced = book.once("bounced messages", lambda: _bounced_messages(book))
    replies = book.once("replies by contact", lambda: _moments_by_contact(book, _is_real_reply))
    recipients, answered = set(), set()
    for event in book.events.within(sent_on, sent_on):
        contact = book.survivor(event.contact)
        if event.type != "email_sent" or contact is None or event.properties.get("message_id") in bounced:
            continue
        recipients.add(contact)
        if _follows(event.at, timedelta(days=7), replies.get(contact, [])):
            answered.add(contact)
    return len(answered), len(recipients)


def _bounced_messages(book: Book) -> set[str]:
    messages = {
        event.properties.get("message_id") for event in book.records.events if event.type == "email_bounced"
    }
    return messages - {None}


def _is_real_reply(event: Event) -> bool:
    return event.type == "email_replied" and str(event.properties.get("auto_reply")).lower() != "true"


def meeting_book_rate(book: Book, day: date) -> Rows:
    booked = book.once(
        "meetings by contact",
        lambda: _moments_by_contact(book, lambda event: event.type in BOOKED_MEETINGS),
    )
    attempted, won_over = set(), set()
    for event in book.events.within(*window(day, 30, ago=14)):
        contact = book.survivor(event.contact)
        if event.type not in ATTEMPTS or contact is None:
            continue
        attempted.add(contact)
        if _follows(event.at, timedelta(days=14), booked.get(contact, [])):
            won_over.add(contact)
    return {"": ratio(len(won_over), len(attempted), len(attempted))}


def _moments_by_contact(book: Book, wanted: Callable[[Event], bool]) -> dict[Key, list[datetime]]:
    found = defaultdict(list)
    for event in book.records.events:
        contact = book.survivor(event.contact)
        if contact is not None and wanted(event):
            found[contact].append(event.at)
    return {contact: sorted(moments) for contact, moments in found.items()}


def _follows(start: datetime, within: timedelta, moments: list[datetime]) -> bool:
    position = bisect_left(moments, start)
    return position < len(moments) and moments[position] <= start + within
