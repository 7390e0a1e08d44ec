"""After a restore: what may have been sent since the backup is found out by a person, and not sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kernel.delivery import claim, control, fence, reconcile
from kernel.delivery.providers.base import rejected
from kernel.errors import RefusedError
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company

ANN, BOB = "ann@x.co", "bob@x.co"


def put_back(acme: Company) -> None:
    """The server is another one than its deliveries were made on."""
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("update delivery.epochs set system_identifier = 'another'")


def retry(acme: Company) -> control.Retried:
    return acme.call(control.retry, acme.runs()[0].id, actor="ann", at=datetime.now(UTC))


def test_a_job_in_its_last_lease_becomes_cases_and_is_not_given_up(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN, BOB])
    acme.ready()
    acme.launch(chunk_size=1)
    acme.call(fence.is_due)
    acme.pinned("update delivery.job_queue set attempts = 2")
    claim.Queue().claim(acme.engine, "worker", 1, timedelta(0))
    put_back(acme)
    reconcile.sweep(acme.worker())
    acme.work()
    assert acme.items() == {ANN: "unknown", BOB: "unknown"}
    with pytest.raises(RefusedError, match="nothing to retry"):
        retry(acme)
    assert acme.effects() == {}


def test_who_failed_before_it_may_have_been_retried_since_and_is_not_retried_now(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN])
    acme.ready()
    acme.launch()
    acme.call(fence.is_due)
    acme.outcomes[ANN] = rejected("busy", "later", retryable=True)
    for _ in range(3):
        acme.work()
        acme.time_passes()
    assert acme.items() == {ANN: "failed"}
    acme.call(fence.close, actor="operator")
    acme.outcomes.clear()
    with pytest.raises(RefusedError, match="1 people failed before the database was put back"):
        retry(acme)
    acme.work()
    assert acme.effects() == {}


def test_who_failed_after_it_is_retried(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN])
    acme.call(fence.is_due)
    acme.call(fence.close, actor="operator")
    acme.ready()
    acme.launch()
    acme.outcomes[ANN] = rejected("busy", "later", retryable=True)
    for _ in range(3):
        acme.work()
        acme.time_passes()
    acme.outcomes.clear()
    assert retry(acme).items == 1
    acme.work()
    assert acme.effects() == {ANN: 1}
