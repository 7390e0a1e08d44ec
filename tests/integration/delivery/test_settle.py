"""Outcomes that several write down at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import send, settle
from kernel.delivery.providers.base import rejected
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company

FIRST, SECOND = "2026-03-01 10:59:59+00", "2026-03-01 11:00:01+00"
_LONGEST = 10  # seconds until somebody waits


class Killed(BaseException):
    """Ends a worker as a signal would."""


def _killed(point: str) -> None:
    if point == "attempts committed":
        raise Killed


def begun(acme: Company) -> list[UUID]:
    """Two jobs of two attempts without an outcome, begun in two hours: by the one in order, by the other against it."""
    acme.ready()
    acme.launch(chunk_size=2)
    for _ in range(2):
        with pytest.raises(Killed):
            send.work(acme.worker(at=_killed))
    jobs = [row.id for row in acme.pinned("select id from delivery.job_queue order by chunk")]
    for job_id, hours in zip(jobs, ((FIRST, SECOND), (SECOND, FIRST)), strict=True):
        attempts = acme.pinned("select id from delivery.attempts where job_id = :id order by id", id=job_id)
        for attempt, hour in zip(attempts, hours, strict=True):
            acme.pinned(
                "update delivery.attempts set started_at = :hour where id = :id", hour=hour, id=attempt.id
            )
    acme.pinned(
        "update delivery.quota_windows set used = 10, starts_at = date_trunc(span, cast(:at as timestamptz), 'UTC')",
        at=FIRST,
    )
    acme.pinned(
        "insert into delivery.quota_windows select tenant_id, workspace_id, channel, span, date_trunc('hour', cast(:at as timestamptz), 'UTC'), 10"
        " from delivery.quota_windows where span = 'hour'",
        at=SECOND,
    )
    return jobs


def refused(acme: Company, job_id: UUID) -> int:
    """Writes down that the provider took nothing of the job, in a transaction of its own; how many items failed."""
    with acme.engine.begin() as connection:
        settle.by_key(connection, acme.tenant_id)
        query = sa.text("select id from delivery.attempts where job_id = :id order by id")
        attempts = connection.execute(query, {"id": job_id}).scalars().all()
        outcomes = dict.fromkeys(attempts, rejected("no", "no such box"))
        return settle.record(connection, acme.tenant_id, job_id, outcomes, actor="w")["failed"]


def wait_for(acme: Company, waiting: int) -> None:
    until = time.monotonic() + _LONGEST
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    # As who owns the database: nobody else is told what others wait for.
    with acme.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.exec_driver_sql(query).scalar_one() < waiting:
            assert time.monotonic() < until, f"fewer than {waiting} wait"
            time.sleep(0.02)


def test_two_who_give_back_units_of_the_same_hours_do_not_wait_for_each_other(world: World) -> None:
    acme = company(world.engine, world.ledger, [f"p{n}@x.co" for n in range(4)])
    one, other = begun(acme)
    with ThreadPoolExecutor(2) as pool:
        with acme.engine.begin() as connection:
            tenancy.service(connection, acme.tenant_id)
            held = "select from delivery.quota_windows where span = 'hour' and starts_at < :at for update"
            connection.execute(sa.text(held), {"at": FIRST})
            first = pool.submit(refused, acme, one)
            wait_for(acme, 1)
            second = pool.submit(refused, acme, other)
            wait_for(acme, 2)
        assert (first.result(), second.result()) == (2, 2)
    used = acme.pinned("select span, used from delivery.quota_windows order by span, starts_at")
    assert [tuple(row) for row in used] == [("day", 6), ("hour", 8), ("hour", 8)]


def test_what_is_given_back_leaves_no_less_than_nothing(world: World) -> None:
    acme = company(world.engine, world.ledger, [f"p{n}@x.co" for n in range(4)])
    one, _ = begun(acme)
    acme.pinned("update delivery.quota_windows set used = 1 where span = 'day'")
    assert refused(acme, one) == 2
    assert acme.pinned("select used from delivery.quota_windows where span = 'day'")[0][0] == 0
