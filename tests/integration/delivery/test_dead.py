"""Jobs that fail over and over: given up with everything they had to send, whoever finds them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import claim, control, invariants, oversight, reconcile, send
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, _Answering, company

JOB = "select * from delivery.job_queue"


@pytest.fixture
def acme(world: World) -> Company:
    made = company(world.engine, world.ledger)
    made.ready()
    made.launch()
    return made


def fail(acme: Company) -> sa.Row:
    """The job, after a worker that has no provider for it."""

    def without_secret(_account: sa.Row) -> _Answering:
        raise OSError("the secret is not there")

    send.work(send.Worker(acme.engine, "w", without_secret, parallel=1))
    return acme.pinned(JOB)[0]


def whole(acme: Company) -> None:
    with acme.engine.begin() as connection:
        assert invariants.check(connection, acme.tenant_id) == []


def test_a_job_that_always_fails_ends_its_items_and_they_may_be_retried(acme: Company) -> None:
    for _ in range(3):
        job = fail(acme)
        acme.time_passes()
    assert (job.status, job.last_error) == ("dead", "OSError: the secret is not there")
    assert (set(acme.items().values()), acme.runs()[0].status) == ({"failed"}, "failed")
    whole(acme)
    acme.call(control.retry, acme.runs()[0].id, actor="ann", at=datetime.now(UTC))
    assert (acme.work(), len(acme.effects())) == ({"sent": 2}, 2)
    whole(acme)


def test_a_job_that_failed_waits_longer_each_time(acme: Company) -> None:
    waits = []
    for _ in range(2):
        job = fail(acme)
        waits.append(round((job.scheduled_for - job.updated_at).total_seconds()))
        acme.time_passes()
    assert waits == [10, 60]


def silent_for_the_last_time(acme: Company) -> None:
    acme.pinned("update delivery.job_queue set attempts = 2")
    claim.Queue().claim(acme.engine, "w", 1, timedelta(0))


def test_a_job_is_given_up_together_with_its_items_or_not_at_all(acme: Company) -> None:
    silent_for_the_last_time(acme)

    class Killed(BaseException):
        """Ends a sweep as a signal would."""

    def die(_connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if "set status = " in statement and "channel_outbox" in statement:
            raise Killed

    sa.event.listen(acme.engine, "before_cursor_execute", die)
    try:
        with pytest.raises(Killed):
            reconcile.sweep(acme.worker("s"))
    finally:
        sa.event.remove(acme.engine, "before_cursor_execute", die)
    assert acme.pinned(JOB)[0].status == "locked"
    assert reconcile.sweep(acme.worker("s")) == 1
    assert (acme.pinned(JOB)[0].status, set(acme.items().values())) == ("dead", {"failed"})
    whole(acme)


def test_a_dead_job_that_still_has_something_to_send_is_seen_and_ended(acme: Company) -> None:
    acme.pinned("update delivery.job_queue set status = 'dead', attempts = 3, last_error = 'of old'")
    with acme.engine.begin() as connection:
        tenancy.service(connection)
        waiting = oversight.silent(connection, datetime.now(UTC)).count
    with acme.engine.begin() as connection:
        broken = {each.invariant for each in invariants.check(connection, acme.tenant_id)}
    assert (waiting, broken) == (1, {"no_dead_job_has_queued_items"})
    assert [reconcile.sweep(acme.worker("s")) for _ in range(2)] == [1, 0]
    job = acme.pinned(JOB)[0]
    assert (job.attempts, job.last_error, acme.runs()[0].status) == (3, "of old", "failed")
    whole(acme)
