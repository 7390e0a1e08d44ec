"""Drafts about the CRM: how soon, how often and at what pace people are contacted."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from kernel.decisions.candidates.change import Idea, for_all, for_some
from kernel.decisions.levers import Draft, Situation, number

# Beyond eight touches more contact is mostly unsubscribes; the limit of the field is 20.
MOST_TOUCHES = 8
# A follow-up within two hours already reaches people while they remember why they asked.
SHORTEST_SLA_HOURS = 2


def faster_follow_up(situation: Situation) -> Iterator[Draft]:
    idea = Idea(
        family="follow_up_sla",
        lens="cro",
        lever="sequences",
        target_metric="speed_to_lead_hours",
        direction="decrease",
        hypothesis="A shorter follow-up time gets more leads into a conversation before they cool down.",
        notes="Part of the new leads is due for contact sooner. Risk: more load on the people who call.",
    )
    for setting, entity in situation.settings("crm", "follow_up_sla_hours", idea.family):
        hours = number(setting.value)
        if hours is not None and hours > SHORTEST_SLA_HOURS:
            shorter = max(SHORTEST_SLA_HOURS, int(hours / 2))
            yield from for_some(situation, idea, setting, entity, shorter, situation.falls("win_rate", "0.8"))


def tighter_sequence(situation: Situation) -> Iterator[Draft]:
    idea = Idea(
        family="sequence_timing",
        lens="cro",
        lever="sequences",
        target_metric="email_reply_rate",
        direction="increase",
        hypothesis="Steps that follow each other sooner get more replies, because the thread is still known.",
        notes="Part of the contacts gets the next step a day earlier. Risk: more people unsubscribe.",
    )
    for setting, entity in situation.settings("crm", "sequence_delay_days", idea.family):
        days = number(setting.value)
        if days is not None and 2 <= days <= 30:
            yield from for_some(
                situation, idea, setting, entity, int(days) - 1, situation.falls("email_reply_rate", "0.7")
            )


def one_more_touch(situation: Situation) -> Iterator[Draft]:
    idea = Idea(
        family="max_touches",
        lens="cro",
        lever="sequences",
        target_metric="meeting_book_rate",
        direction="increase",
        hypothesis="One more attempt books meetings with people who were not reached before.",
        notes="Every contact may be approached once more. Risk: more people unsubscribe.",
    )
    for setting, entity in situation.settings("crm", "max_touches", idea.family):
        touches = number(setting.value)
        if touches is not None and 1 <= touches < MOST_TOUCHES and touches == int(touches):
            abort = situation.falls("email_reply_rate", "0.7")
            yield for_all(situation, idea, setting, entity, int(touches + Decimal(1)), abort)


GENERATORS = (faster_follow_up, tighter_sequence, one_more_touch)
