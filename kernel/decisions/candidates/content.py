"""Drafts about what people read: which variant they see and what they are asked to do."""

from __future__ import annotations

from collections.abc import Iterator

from kernel.decisions.candidates.change import Idea, for_some
from kernel.decisions.levers import Draft, Situation, number

# A variant below this share will not collect a sample within a window.
STARVED_PCT, FED_PCT = 10, 20
CALL_TO_ACTION = "Pick a time for a 20-minute call"  # at most 50 characters


def feed_challenger(situation: Situation) -> Iterator[Draft]:
    """Weights that give the least shown variant a fifth, taken from the most shown one, for those in the test."""
    idea = Idea(
        family="challenger_variant",
        lens="cmo",
        lever="sequences",
        target_metric="email_reply_rate",
        direction="increase",
        hypothesis="A variant that is hardly shown may do better, and is not known to as long as it is starved.",
        notes="Part of the recipients sees the neglected variant more often. Risk: it is worse.",
    )
    for setting, entity in situation.settings("content", "variant_weights", idea.family):
        if not isinstance(setting.value, dict) or len(setting.value) < 2:
            continue
        shares = {name: number(value) for name, value in setting.value.items()}
        known = {
            name: int(share) for name, share in shares.items() if share is not None and share == int(share)
        }
        if len(known) < len(shares) or sum(known.values()) != 100:
            continue
        least = min(known, key=lambda name: (known[name], name))
        most = max(known, key=lambda name: (known[name], name))
        if known[least] < STARVED_PCT and known[most] >= 50:
            moved = FED_PCT - known[least]
            weights = known | {least: FED_PCT, most: known[most] - moved}
            yield from for_some(
                situation, idea, setting, entity, weights, situation.falls("email_reply_rate", "0.7")
            )


def clear_call_to_action(situation: Situation) -> Iterator[Draft]:
    idea = Idea(
        family="clear_call_to_action",
        lens="cmo",
        lever="sequences",
        target_metric="meeting_book_rate",
        direction="increase",
        hypothesis="A call to action that names the next step and its length books more meetings.",
        notes="Part of the readers is offered a short call. Risk: fewer look at the material first.",
    )
    for setting, entity in situation.settings("content", "cta_text", idea.family):
        if isinstance(setting.value, str) and setting.value != CALL_TO_ACTION:
            abort = situation.falls("meeting_book_rate", "0.7")
            yield from for_some(situation, idea, setting, entity, CALL_TO_ACTION, abort)


GENERATORS = (feed_challenger, clear_call_to_action)
