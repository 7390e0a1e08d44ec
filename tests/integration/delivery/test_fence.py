"""A database that went back in time sends nothing of which it cannot know whether it went out."""

from __future__ import annotations

import pytest

from kernel.delivery import fence, reconcile
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company


@pytest.fixture
def acme(world: World) -> Company:
    """Launched, with an epoch of this cluster; nothing was sent yet."""
    made = company(world.engine, world.ledger, ["ann@x.co", "bob@x.co"])
    made.ready()
    made.launch(chunk_size=1)
    made.call(fence.is_due)
    return made


def restored_elsewhere(acme: Company) -> None:
    """As a dump read into another cluster: the epoch is that of the one it came from."""
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("update delivery.epochs set system_identifier = 'another'")


def test_on_another_cluster_everything_in_flight_becomes_a_case_and_nothing_is_sent(acme: Company) -> None:
    restored_elsewhere(acme)
    acme.work()
    assert (acme.items(), acme.effects()) == ({"ann@x.co": "unknown", "bob@x.co": "unknown"}, {})
    assert [row.reason for row in acme.pinned("select reason from delivery.reconciliation_cases")] == [
        "restored"
    ] * 2
    assert acme.runs()[0].status == "needs_reconciliation"


def test_an_older_timeline_is_another_cluster(acme: Company) -> None:
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("update delivery.epochs set timeline = timeline + 1")
    acme.work()
    assert acme.effects() == {}


def test_the_fence_closes_once(acme: Company) -> None:
    restored_elsewhere(acme)
    acme.work()
    assert acme.call(fence.is_due) is False
    epochs = acme.pinned("select number, fenced_items from delivery.epochs order by number")
    assert [tuple(row) for row in epochs] == [(1, 0), (2, 2)]


def test_settling_what_is_stalled_repeats_no_call_behind_the_fence(acme: Company) -> None:
    restored_elsewhere(acme)
    acme.work()
    acme.time_passes()
    acme.settle()
    assert acme.effects() == {}


def test_stalled_attempts_are_not_repeated_before_the_fence_was_closed(acme: Company) -> None:
    class Killed(BaseException):
        pass

    def at(point: str) -> None:
        if point == "attempts committed":
            raise Killed

    with pytest.raises(Killed):
        from kernel.delivery import send

        send.work(acme.worker(at=at))
    restored_elsewhere(acme)
    acme.time_passes()
    reconcile.settle_stalled(acme.worker())
    assert acme.effects() == {}


def test_a_tenant_on_its_own_cluster_is_not_fenced(acme: Company) -> None:
    assert acme.work() == {"sent": 2}
    assert acme.pinned("select fenced_items from delivery.epochs")[0][0] == 0


def test_a_person_closes_the_fence_after_files_were_put_back(acme: Company) -> None:
    assert acme.call(lambda connection, tenant: fence.close(connection, tenant, actor="ann")) == 2
    assert (acme.work(), acme.effects()) == ({}, {})
