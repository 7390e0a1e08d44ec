"""Events and sales activities: everything that passes between a company and its leads and customers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from models.vocabulary import ACTIVITY_DIRECTIONS
from samples import draw
from samples.deals import Deals, History
from samples.draw import DAY, NONE, Calendar, Streams
from samples.people import Contacts, Leads
from samples.profiles import Profile

_TYPES = (
    "lead_created", "mql_reached", "landing_form_submit", "email_sent", "email_opened", "email_clicked",
    "email_bounced", "email_replied", "sms_sent", "sms_replied", "voice_call_initiated", "voice_call_completed",
    "linkedin_message_sent", "linkedin_message_replied", "meeting_booked", "voice_meeting_booked", "status_change",
)  # fmt: skip
_TYPE = {name: number for number, name in enumerate(_TYPES)}
_OUTCOMES = ("completed", "no_show", "cancelled")
_ACTIVITIES = ("call", "email", "meeting", "note")
_OUTBOUND = ACTIVITY_DIRECTIONS.index("outbound")
_PLAIN, _MESSAGE, _AUTO_REPLY, _LEAD = range(4)  # what the properties of an event say


@dataclass(frozen=True, slots=True)
class _Events:
    type: int
    at: np.ndarray
    lead: np.ndarray  # -1 where the event is of a contact only
    contact: np.ndarray
    number: np.ndarray  # of the message, the lead or the deal
    says: np.ndarray


@dataclass(frozen=True, slots=True)
class Meetings:
    """Meetings that were booked: with whom, and when that was done."""

    contact: np.ndarray
    booked_at: np.ndarray


def event_rows(
    profile: Profile,
    calendar: Calendar,
    streams: Streams,
    leads: Leads,
    contacts: Contacts,
    deals: Deals,
    history: History,
    opening: int,
) -> tuple[pd.DataFrame, Meetings]:
    """Every event, in order of time, and the meetings among them."""
    meetings = _meetings(streams.of("meetings"), leads)
    parts = [
        *_of_leads(streams.of("lead events"), calendar, leads, contacts),
        *_emails(profile, streams.of("emails"), calendar, leads, opening),
        *_outreach(streams.of("outreach"), leads),
        *meetings,
        _closings(streams.of("status changes"), deals, history),
    ]
    booked = Meetings(
        np.concatenate([part.contact for part in meetings]), np.concatenate([part.at for part in meetings])
    )
    return _rows(calendar, streams, leads, contacts, deals, parts), booked


def _events(
    word: str,
    at: np.ndarray,
    *,
    lead: np.ndarray | int = NONE,
    contact: np.ndarray | int = NONE,
    number: np.ndarray | int = NONE,
    says: np.ndarray | int = _PLAIN,
) -> _Events:
    wide = [np.broadcast_to(values, at.shape) for values in (lead, contact, number, says)]
    return _Events(_TYPE[word], at, *wide)


def _of_lead(
    leads: Leads, word: str, at: np.ndarray, which: np.ndarray, says: np.ndarray | int = _PLAIN
) -> _Events:
    return _events(word, at, lead=which, contact=leads.contact[which], number=which, says=says)


def _of_leads(
    rng: np.random.Generator, calendar: Calendar, leads: Leads, contacts: Contacts
) -> list[_Events]:
    every = np.arange(len(leads.at))
    unknown = leads.contact == NONE
    # A lead without a contact is known by its id; one in ten not even by that.
    named = np.where(unknown, rng.random(len(every)) < 0.9, rng.random(len(every)) < 0.3)
    again = every[unknown & named & (rng.random(len(every)) < 0.2)]
    forms = every[(leads.channel != NONE) & (rng.random(len(every)) < 0.45)]
    mqls = every[leads.mql_at != NONE]
    repeated = mqls[rng.random(len(mqls)) < 0.03]
    copies = contacts.duplicates
    copies = copies[rng.random(len(copies)) < 0.7]
    return [
        _of_lead(leads, "lead_created", leads.at, every, np.where(named, _LEAD, _PLAIN)),
        _of_lead(
            leads, "lead_created", leads.at[again] + rng.integers(60, 3 * DAY, len(again)), again, _LEAD
        ),
        _of_lead(leads, "landing_form_submit", np.maximum(leads.at[forms] - 20, calendar.start), forms),
        _of_lead(leads, "mql_reached", leads.mql_at[mqls], mqls),
        _of_lead(leads, "mql_reached", leads.mql_at[repeated] + DAY, repeated),
        _events("lead_created", contacts.created_at[copies] + 30, contact=copies),
    ]


def _emails(
    profile: Profile, rng: np.random.Generator, calendar: Calendar, leads: Leads, opening: int
) -> list[_Events]:
    """A sequence of e-mails to each known lead and a letter now and then to the opening customers."""
    known = np.flatnonzero(leads.contact != NONE)
    letters = rng.poisson(profile.emails_per_lead, len(known))
    lead = np.repeat(known, letters)
    step = np.arange(len(lead)) - np.repeat(np.cumsum(letters) - letters, letters)
    to_leads = leads.at[lead] + ((step * 3 + rng.uniform(0.05, 2.5, len(lead))) * DAY).astype(np.int64)
    customer = np.repeat(np.arange(opening), rng.poisson(calendar.days / 60, opening))
    day = rng.integers(0, calendar.days, len(customer))
    to_customers = calendar.instants(day, draw.within_day(rng, calendar, day))

    lead = np.concatenate([lead, np.full(len(customer), NONE)])
    contact = np.concatenate([leads.contact[lead[: len(to_leads)]], customer])
    sent = np.concatenate([to_leads, to_customers])
    message = np.arange(len(sent))
    luck = rng.random(len(sent))

    def follow(word: str, chosen: np.ndarray, seconds: np.ndarray, says: int = _MESSAGE) -> _Events:
        return _events(
            word, sent[chosen] + seconds, lead=lead[chosen], contact=contact[chosen], number=chosen, says=says
        )

    bounced, answered = message[luck < 0.03], message[(luck > 0.03) & (luck < 0.09)]
    automatic, opened = message[(luck > 0.09) & (luck < 0.105)], message[luck > 0.7]
    clicked = message[luck > 0.95]
    patience = (rng.lognormal(0, 1.3, len(answered)) * DAY).astype(np.int64) + 60  # some beyond a week
    return [
        follow("email_sent", message, np.zeros(len(message), dtype=np.int64)),
        follow("email_bounced", bounced, rng.integers(1, 3600, len(bounced))),
        follow("email_replied", answered, patience),
        follow("email_replied", automatic, rng.integers(5, 300, len(automatic)), _AUTO_REPLY),
        follow("email_opened", opened, rng.integers(60, 2 * DAY, len(opened))),
        follow("email_clicked", clicked, rng.integers(2 * DAY, 3 * DAY, len(clicked))),
    ]


def _outreach(rng: np.random.Generator, leads: Leads) -> list[_Events]:
    known = np.flatnonzero(leads.contact != NONE)
    found = []
    for sent, answered, share in (
        ("sms_sent", "sms_replied", 0.1),
        ("voice_call_initiated", "voice_call_completed", 0.15),
        ("linkedin_message_sent", "linkedin_message_replied", 0.12),
    ):
        lead = known[rng.random(len(known)) < share]
        at = leads.at[lead] + rng.integers(600, 10 * DAY, len(lead))
        replies = rng.random(len(lead)) < 0.2
        later = at[replies] + rng.integers(60, DAY, int(replies.sum()))
        found += [_of_lead(leads, sent, at, lead), _of_lead(leads, answered, later, lead[replies])]
    return found


def _meetings(rng: np.random.Generator, leads: Leads) -> list[_Events]:
    mqls = np.flatnonzero(leads.mql_at != NONE)
    found = []
    for word, share in (("meeting_booked", 0.35), ("voice_meeting_booked", 0.04)):
        lead = mqls[rng.random(len(mqls)) < share]
        at = leads.mql_at[lead] + (rng.exponential(2.5, len(lead)) * DAY).astype(np.int64)
        found.append(_of_lead(leads, word, at, lead))
    return found


def _closings(rng: np.random.Generator, deals: Deals, history: History) -> _Events:
    changed = np.flatnonzero(rng.random(len(history.deal)) < 0.3)
    deal = history.deal[changed]
    return _events("status_change", history.at[changed], contact=deals.contact[deal], number=deal)


def _rows(
    calendar: Calendar, streams: Streams, leads: Leads, contacts: Contacts, deals: Deals, parts: list[_Events]
) -> pd.DataFrame:
    rng = streams.of("event rows")
    kind = np.repeat([part.type for part in parts], [len(part.at) for part in parts])
    at, lead, contact, number, says = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("at", "lead", "contact", "number", "says")
    )
    kept = np.flatnonzero(at < calendar.end)
    kept = kept[np.argsort(at[kept], kind="stable")]
    kind, at, lead, contact, number, says = (
        values[kept] for values in (kind, at, lead, contact, number, says)
    )
    count = len(kept)

    attributed = (lead != NONE) & (rng.random(count) > 0.08)
    channel = np.where(attributed, _or_nothing(leads.channel, lead), NONE)
    campaign = np.where(attributed, _or_nothing(leads.campaign, lead), NONE)
    deal = np.where(kind == _TYPE["status_change"], number, NONE)
    account = np.where(deal == NONE, _or_nothing(contacts.account, contact), _or_nothing(deals.account, deal))
    return draw.frame(
        {
            "source_key": draw.keys("ev", np.arange(count)),
            "occurred_at": draw.instants(at),
            "event_type": draw.words(_TYPES, kind),
            "account_key": draw.keys("ac", account),
            "contact_key": draw.keys("ct", contact),
            "opportunity_key": draw.keys("op", deal),
            "campaign_key": draw.keys("ca", campaign),
            "channel_key": draw.keys("ch", channel),
            "properties": _properties(number, says),
            "ingested_at": draw.instants(at + rng.integers(10, 3600, count)),
        }
    )


def _properties(number: np.ndarray, says: np.ndarray) -> pa.Array:
    text = pa.array(number).cast(pa.string())
    message = draw.joined('{"message_id": "m-', text)
    return pc.choose(
        pa.array(says),
        pa.nulls(len(number), pa.string()),
        draw.joined(message, '"}'),
        draw.joined(message, '", "auto_reply": true}'),
        draw.joined('{"lead_id": "L-', text, '"}'),
    )


def _or_nothing(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The values at an index, nothing where the index is nothing."""
    return np.append(values, NONE)[index]


@dataclass(frozen=True, slots=True)
class _Activities:
    kind: np.ndarray
    at: np.ndarray
    contact: np.ndarray
    deal: np.ndarray
    direction: np.ndarray
    outcome: np.ndarray


def activity_rows(
    profile: Profile,
    calendar: Calendar,
    streams: Streams,
    leads: Leads,
    contacts: Contacts,
    deals: Deals,
    meetings: Meetings,
) -> pd.DataFrame:
    rng = streams.of("activities")
    parts = [
        *_outbound(profile, rng, calendar, leads, contacts),
        _deal_work(rng, deals),
        _held(profile, rng, meetings),
    ]
    kind, at, contact, deal, direction, outcome = (
        np.concatenate([getattr(part, name) for part in parts]) for name in _Activities.__slots__
    )
    kept = np.flatnonzero((at < calendar.end) & (at >= calendar.start))
    kept = kept[np.argsort(at[kept], kind="stable")]
    count = len(kept)
    account = np.where(deal == NONE, _or_nothing(contacts.account, contact), _or_nothing(deals.account, deal))
    return draw.frame(
        {
            "source_key": draw.keys("ay", np.arange(count)),
            "account_key": draw.keys("ac", account[kept]),
            "contact_key": draw.keys("ct", contact[kept]),
            "opportunity_key": draw.keys("op", deal[kept]),
            "activity_type": draw.words(_ACTIVITIES, kind[kept]),
            "direction": draw.words(ACTIVITY_DIRECTIONS, direction[kept]),
            "outcome": draw.words(_OUTCOMES, outcome[kept]),
            "performed_by_agent_id": draw.keys("rep", rng.integers(1, 9, count)),
            "occurred_at": draw.instants(at[kept]),
            "metadata": draw.nothing(count),
            "ingested_at": draw.instants(at[kept] + rng.integers(10, 3600, count)),
        }
    )


def _activities(at: np.ndarray, kind: np.ndarray | int, *rest: np.ndarray | int) -> _Activities:
    wide = [np.broadcast_to(values, at.shape) for values in (kind, *rest)]
    return _Activities(wide[0], at, *wide[1:])


def _outbound(
    profile: Profile, rng: np.random.Generator, calendar: Calendar, leads: Leads, contacts: Contacts
) -> list[_Activities]:
    """Who is contacted, how soon, and how often after that; some leads never are."""
    known = np.flatnonzero(leads.contact != NONE)
    reached = known[rng.random(len(known)) < profile.contacted_share]
    hours = rng.lognormal(np.log(profile.response_hours), 1.2, len(reached))
    first = leads.at[reached] + (hours * 3600).astype(np.int64)
    contact = leads.contact[reached]
    # What was noted at a duplicate counts for the contact it was merged into.
    copy_of = np.full(len(contacts.account), NONE)
    copy_of[contacts.original[contacts.duplicates]] = contacts.duplicates
    noted_at = np.where(copy_of[contact] == NONE, contact, copy_of[contact])

    more = np.repeat(np.arange(len(reached)), rng.poisson(1.5, len(reached)))
    later = first[more] + rng.integers(3600, 30 * DAY, len(more))
    # Cold calls that came before the lead do not count as an answer to it.
    early = known[rng.random(len(known)) < 0.02]
    before = leads.at[early] - rng.integers(DAY, 5 * DAY, len(early))
    return [
        _activities(first, rng.integers(0, 2, len(first)), noted_at, NONE, _OUTBOUND, NONE),
        _activities(
            later,
            rng.integers(0, 2, len(later)),
            contact[more],
            NONE,
            draw.pick(rng, (0.3, 0.6), len(later)),
            NONE,
        ),
        _activities(before, 0, leads.contact[early], NONE, _OUTBOUND, NONE),
    ]


def _deal_work(rng: np.random.Generator, deals: Deals) -> _Activities:
    deal = np.repeat(np.arange(len(deals.created_at)), rng.poisson(2, len(deals.created_at)))
    at = deals.created_at[deal] + rng.integers(600, 40 * DAY, len(deal))
    kind = draw.pick(rng, (0.4, 0.4, 0.0, 0.2), len(deal))
    direction = np.where(kind == _ACTIVITIES.index("note"), NONE, rng.integers(0, 2, len(deal)))
    return _activities(at, kind, deals.contact[deal], deal, direction, NONE)


def _held(profile: Profile, rng: np.random.Generator, meetings: Meetings) -> _Activities:
    count = len(meetings.contact)
    starts = meetings.booked_at + rng.integers(4 * 3600, 7 * DAY, count) // 900 * 900
    outcome = draw.pick(rng, (0.88 - profile.no_show_share, profile.no_show_share, 0.12), count)
    return _activities(starts, _ACTIVITIES.index("meeting"), meetings.contact, NONE, _OUTBOUND, outcome)
