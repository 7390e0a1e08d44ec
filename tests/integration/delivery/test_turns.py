"""Jobs that are worked on in turns: whoever was refused for now is asked again no sooner than the backoff says."""

from __future__ import annotations

from datetime import timedelta

from kernel.delivery import send
from kernel.delivery.providers.base import rejected
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import company

FIRST = "p00@x.co"
NO_TURN = timedelta(0)


def test_a_turn_that_ends_asks_nobody_again_before_the_backoff(world: World) -> None:
    acme = company(world.engine, world.ledger, [f"p{n:02}@x.co" for n in range(80)])
    acme.outcomes[FIRST] = rejected("busy", "not now", retryable=True)
    acme.ready()
    acme.launch()
    send.work(acme.worker(turn=NO_TURN))
    item = acme.pinned(f"select * from delivery.channel_outbox where address = '{FIRST}'")[0]
    assert (item.status, item.attempts, len(acme.effects())) == ("queued", 1, 79)
    job = acme.pinned("select * from delivery.job_queue")[0]
    wait = job.scheduled_for - item.settled_at
    assert (job.status, job.attempts) == ("queued", 0)
    assert timedelta(seconds=2) <= wait <= timedelta(seconds=3.5)


def test_a_job_comes_back_when_the_first_of_its_items_is_due(world: World) -> None:
    acme = company(world.engine, world.ledger, ["a@x.co", "b@x.co"])
    acme.outcomes |= dict.fromkeys(("a@x.co", "b@x.co"), rejected("busy", "not now", retryable=True))
    acme.ready()
    acme.launch()
    acme.work()
    # One was refused a second time a moment ago, the other for the first time.
    acme.pinned(
        "update delivery.channel_outbox set attempts = 2, settled_at = now() where address = 'a@x.co'"
    )
    acme.pinned("update delivery.channel_outbox set settled_at = now() where address = 'b@x.co'")
    acme.pinned("update delivery.job_queue set scheduled_for = now()")
    acme.work()
    job = acme.pinned("select scheduled_for - updated_at as wait from delivery.job_queue")[0]
    assert timedelta(seconds=1) < job.wait <= timedelta(seconds=3)
    acme.pinned("update delivery.channel_outbox set settled_at = now() - interval '14 seconds'")
    acme.pinned("update delivery.job_queue set scheduled_for = now()")
    acme.outcomes.clear()
    assert (acme.work(), set(acme.effects())) == ({"sent": 1}, {"b@x.co"})
