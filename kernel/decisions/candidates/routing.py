"""Drafts about who gets a lead. Never tests: two rules for one queue would leave leads with nobody."""

from __future__ import annotations

from collections.abc import Iterator

from kernel.decisions.candidates.change import Idea, for_all
from kernel.decisions.levers import Draft, Situation, number


def share_out_evenly(situation: Situation) -> Iterator[Draft]:
    idea = Idea(
        family="round_robin",
        lens="cro",
        lever=None,
        target_metric="speed_to_lead_hours",
        direction="decrease",
        hypothesis="Leads handed out in turn wait less than leads that queue for one person.",
        notes="New leads go to whoever is next. Risk: a lead may not land with the expert for it.",
    )
    for setting, entity in situation.settings("routing", "round_robin_enabled", idea.family):
        if setting.value is False:
            yield for_all(situation, idea, setting, entity, True, situation.falls("win_rate", "0.8"))


def more_per_rep(situation: Situation) -> Iterator[Draft]:
    """A tenth more leads for each person."""
    idea = Idea(
        family="rep_capacity",
        lens="cro",
        lever=None,
        target_metric="follow_up_rate",
        direction="increase",
        hypothesis="A slightly higher cap lets leads reach a person that would otherwise wait in the overflow.",
        notes="Each person may be given a tenth more leads. Risk: follow-up gets thinner.",
    )
    for setting, entity in situation.settings("routing", "capacity_per_rep", idea.family):
        capacity = number(setting.value)
        if capacity is None or capacity != int(capacity) or not 1 <= capacity < 1000:
            continue
        more = min(1000, int(capacity) + max(1, int(capacity) // 10))
        yield for_all(situation, idea, setting, entity, more, situation.falls("win_rate", "0.8"))


GENERATORS = (share_out_evenly, more_per_rep)
