"""Proof that a message was taken, whenever it comes: nothing that is known is thrown away, and nobody is written to again."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from kernel.delivery import control, invariants, reconcile, send, setup
from kernel.delivery.providers.base import rejected
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company
from tests.integration.delivery.test_reconcile import case, lost, receive

ANN = "ann@x.co"
BUSY = rejected("busy", "later", retryable=True)


def now() -> datetime:
    return datetime.now(UTC)


def busy(world: World, times: int = 1) -> Company:
    """Ann, for whom the provider was busy so often."""
    acme = company(world.engine, world.ledger, [ANN])
    acme.outcomes[ANN] = BUSY
    acme.ready()
    acme.launch()
    for _ in range(times):
        acme.work()
        acme.time_passes()
    return acme


def attempts(acme: Company) -> list[str]:
    return [row.state for row in acme.pinned("select state from delivery.attempts order by n")]


def delivered(acme: Company, n: int) -> None:
    """The provider tells of an attempt."""
    rows = acme.pinned("select id::text from delivery.attempts where n = :n", n=n)
    assert receive(acme, {"event_id": f"event {n}", "kind": "delivered", "reference": rows[0][0]}) == 1


def broken(acme: Company) -> list[str]:
    with acme.engine.begin() as connection:
        return [each.invariant for each in invariants.check(connection, acme.tenant_id)]


def test_proof_stands_also_for_whom_was_skipped_meanwhile(world: World) -> None:
    acme = busy(world)
    acme.call(setup.suppress, [ANN], reason="opt_out", source="letter")
    acme.work()
    assert acme.items() == {ANN: "opt_out"}
    delivered(acme, 1)
    assert (acme.items(), attempts(acme)) == ({ANN: "sent"}, ["accepted"])
    assert broken(acme) == []


def test_a_retry_that_never_began_counts_whom_the_proof_is_of(world: World) -> None:
    acme = busy(world, 3)
    first = acme.runs()[0].id
    again = acme.call(control.retry, first, actor="ann", at=now()).run_id
    acme.call(control.cancel, again, actor="ann", at=now())
    delivered(acme, 3)
    counted = {run.id: (run.accepted, run.rejected, run.cancelled) for run in acme.runs()}
    assert counted == {first: (0, 1, 0), again: (1, 0, 0)}
    assert broken(acme) == []


@pytest.mark.parametrize("answer", ["accepted", "busy"])
def test_proof_that_comes_while_a_retry_is_with_the_provider_waits_for_it_and_is_kept(
    world: World, answer: str
) -> None:
    acme = busy(world, 3)
    acme.call(control.retry, acme.runs()[0].id, actor="ann", at=now())
    if answer == "accepted":
        acme.outcomes.clear()
    proof = threading.Thread(target=delivered, args=(acme, 3))

    def at(point: str) -> None:
        if point == "attempts written" and proof.ident is None:
            proof.start()
            time.sleep(0.5)
        if point == "attempts committed":
            proof.join(2)

    send.work(acme.worker(at=at))
    proof.join()
    assert acme.items() == {ANN: "sent"}
    if answer == "busy":
        acme.time_passes()
        assert not acme.work(), "nobody is written to again who is known to have been reached"
        assert attempts(acme) == ["rejected", "rejected", "accepted", "rejected"]
        assert broken(acme) == []
    else:
        # It did go out twice, as the provider says itself: that is told, and not hidden.
        assert attempts(acme)[2:] == ["accepted", "accepted"]
        assert broken(acme) == ["one_accepted_attempt_per_item"]


def test_a_second_message_that_the_provider_tells_of_is_told(world: World) -> None:
    acme = busy(world)
    acme.outcomes.clear()
    acme.work()
    delivered(acme, 1)
    assert attempts(acme) == ["accepted", "accepted"]
    assert broken(acme) == ["one_accepted_attempt_per_item"]


def test_what_was_refused_and_is_proven_counts_in_the_caps_again(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN])
    acme.outcomes[ANN] = BUSY
    acme.call(setup.policy, "email", hourly_cap=5, daily_cap=5)
    acme.ready()
    acme.launch()
    acme.work()
    used = "select span, used from delivery.quota_windows order by span"
    assert [tuple(row) for row in acme.pinned(used)] == [("day", 0), ("hour", 0)]
    delivered(acme, 1)
    assert [tuple(row) for row in acme.pinned(used)] == [("day", 1), ("hour", 1)]


def test_what_a_person_found_was_not_sent_counts_in_no_cap(world: World) -> None:
    acme = lost(world, "none")
    acme.call(
        reconcile.resolve, case(acme).id, "rejected", actor="ann", note="their log shows nothing", at=now()
    )
    assert {row.used for row in acme.pinned("select used from delivery.quota_windows")} == {0}
