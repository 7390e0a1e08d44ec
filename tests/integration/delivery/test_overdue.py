"""A job whose items somebody else owes the outcome of, past the deadline: it waits, and what is stalled is settled."""

from __future__ import annotations

from itertools import count

import pytest

from kernel.delivery import reconcile, send
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company


class Killed(BaseException):
    """Ends a worker as a signal would."""


def killed(world: World) -> Company:
    """Whose worker died when its attempts were written down; its lease and their deadlines are over."""
    acme = company(world.engine, world.ledger, ["ann@x.co"])
    acme.ready()
    acme.launch()

    def at(point: str) -> None:
        if point == "attempts committed":
            raise Killed

    with pytest.raises(Killed):
        send.work(acme.worker("doomed", at=at))
    acme.time_passes()
    return acme


def test_a_job_with_overdue_attempts_is_handed_back_once_and_not_without_end(world: World) -> None:
    acme = killed(world)
    looks = count()
    worker = acme.worker("next", is_stopping=lambda: next(looks) > 50)
    reconcile.sweep(worker)
    send.work(worker)
    ((status, waits, leases),) = acme.pinned(
        "select status, scheduled_for > clock_timestamp(), lease_token from delivery.job_queue"
    )
    assert (status, waits, leases) == ("queued", True, 2)
    reconcile.settle_stalled(worker)
    acme.time_passes()
    send.work(acme.worker())
    assert acme.items() == {"ann@x.co": "sent"}
    assert acme.effects() == {"ann@x.co": 1}
    assert acme.runs()[0].status == "completed"
