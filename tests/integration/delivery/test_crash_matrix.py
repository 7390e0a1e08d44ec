"""A worker is killed between any two steps of a send: nobody is contacted twice, and nothing is lost silently."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kernel.delivery.providers.base import Message
from quality.certification.delivery import killed
from quality.certification.delivery.provider import Recorder
from quality.certification.delivery.world import World


@pytest.mark.parametrize("case", killed.CASES, ids=lambda case: case.name)
def test_a_worker_that_is_killed_leaves_what_the_next_one_can_settle(world: World, case: killed.Case) -> None:
    assert killed.found(world, case) == case.expected


def test_a_call_that_is_repeated_gets_the_first_answer_also_for_whom_was_refused_then(world: World) -> None:
    """Or the certification would take a message for sent that its own provider never took."""
    recorder = Recorder(world.ledger, "first", "keys", worker="w", timeout=timedelta(seconds=1), batch=2)
    messages = [
        Message(reference, "email", "a@x.co", address, "", "")
        for reference, address in (("1", "ann@x.co"), ("2", "later-cy@x.co"))
    ]
    first = recorder.send(messages, "key")
    world.ledger.open_up("first")
    assert recorder.send(messages, "key") == first
    assert [outcome.state for outcome in first] == ["accepted", "rejected"]
    assert dict(world.ledger.effects("first")) == {"ann@x.co": 1}
    assert [outcome.state for outcome in recorder.send(messages[1:], "another")] == ["accepted"]
