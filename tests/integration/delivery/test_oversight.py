"""Deliveries as they are looked at from above: what waits, and what is measured."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import oversight, send
from tests.fakes import campaigns


@pytest.fixture
def company(engine: sa.Engine) -> UUID:
    """One run with items of every outcome."""
    tenant_id = campaigns.add_company(engine, "acme")
    campaigns.launched(engine, tenant_id)
    for _ in range(3):
        send.work(campaigns.worker(engine))
        campaigns.later(engine)
    return tenant_id


def do(engine: sa.Engine, command: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(command)


@pytest.fixture
def seen(engine: sa.Engine, company: UUID) -> Iterator[sa.Connection]:
    with engine.begin() as connection:
        tenancy.service(connection)
        yield connection


def test_the_funnel_tells_what_became_of_each_item(seen: sa.Connection) -> None:
    (run,) = oversight.funnel(seen, datetime.now(UTC) - timedelta(days=1))
    told = {name: run[name] for name in ("items", "open", "accepted", "rejected", "suppressed", "unknown", "ended")}  # fmt: skip
    assert told == {"items": 5, "open": 0, "accepted": 2, "rejected": 1, "suppressed": 1, "unknown": 1, "ended": 0}  # fmt: skip
    assert (run["tenant"], run["campaign"], run["is_retry"]) == ("acme", "spring", False)


def test_jobs_that_nobody_began_wait_until_now(engine: sa.Engine, company: UUID) -> None:
    due = "update delivery.job_queue set started_at = null, status = 'queued', completed_at = null, scheduled_for = now() - interval '1 hour'"
    do(engine, due)
    with engine.begin() as connection:
        tenancy.service(connection)
        total = oversight.waits(connection, datetime.now(UTC) - timedelta(days=1))[-1]
    assert (total["day"], total["jobs"], total["waiting"]) == (None, 1, 1)
    assert 3600 <= total["start_seconds"][2] < 3700


@pytest.mark.parametrize(
    ("status", "due", "started", "completed", "expected"),
    [
        ("completed", "10:00", "10:00:30", "10:02:30", ("10:00", 30, 120)),
        # Put off until the evening after it had begun: then its run tells when it was due.
        ("queued", "18:00", "10:01", None, ("10:00", 60, None)),
        ("queued", "11:00", None, None, ("11:00", 3600, None)),
        ("queued", "infinity", None, None, None),
        ("queued", "13:00", None, None, None),
        ("cancelled", "10:00", None, None, None),
    ],
    ids=["begun", "put off", "late", "paused", "not due", "cancelled"],
)
def test_a_job_waits_from_when_it_was_due_until_it_is_begun_or_until_now(
    engine: sa.Engine, status: str, due: str, started: str | None, completed: str | None, expected: Any
) -> None:
    campaigns.launched(engine, campaigns.add_company(engine, "acme"))

    def at(time: str | None) -> str | None:
        return f"2026-01-01 {time}+00" if time and time[0].isdigit() else time

    given = {"status": status, "due": at(due), "started": at(started), "completed": at(completed)}
    with engine.begin() as connection:
        connection.exec_driver_sql("update delivery.campaign_runs set scheduled_for = '2026-01-01 10:00+00'")
        job = (
            "update delivery.job_queue set status = :status, scheduled_for = :due, started_at = :started,"
            " completed_at = :completed, created_at = '2026-01-01 09:00+00'"
        )
        connection.execute(sa.text(job), given)
        asked = "select due_at, wait_seconds, work_seconds from delivery.job_waits('2026-01-01 12:00+00')"
        found = connection.exec_driver_sql(asked).one_or_none()
    told = found and (found.due_at.astimezone(UTC).strftime("%H:%M"), found.wait_seconds, found.work_seconds)
    assert told == expected


def test_an_account_tells_its_errors_and_its_last_success(seen: sa.Connection) -> None:
    (account,) = oversight.health(seen, datetime.now(UTC) - timedelta(days=1))
    assert (account["accepted"], account["rejected"], account["unknown"]) == (2, 3, 1)
    assert account["error_classes"] == "busy: 3, timeout: 1"
    assert account["last_success_at"] is not None


def test_what_waits_has_another_key_after_every_turn(engine: sa.Engine) -> None:
    at = datetime.now(UTC)

    def due() -> oversight.Waiting:
        with engine.begin() as connection:
            tenancy.service(connection)
            return oversight.due_jobs(connection, at)

    tenant_id = campaigns.add_company(engine, "acme")
    campaigns.launched(engine, tenant_id)
    first = due()
    campaigns.worker(engine).claim(1)
    assert (first.count, due().count) == (1, 0)
    do(engine, "update delivery.job_queue set status = 'queued', lease_expires_at = null")
    assert due().count == 1
    assert due().key != first.key


def test_attempts_of_runs_that_ended_long_ago_are_not_read(engine: sa.Engine, company: UUID) -> None:
    since = datetime.now(UTC) - timedelta(days=1)
    with engine.begin() as connection:
        tenancy.service(connection)
        assert sum(row["count"] for row in oversight.attempts_by_day(connection, since)) == 6
    old = "update delivery.campaign_runs set status = 'completed', completed_at = now(), updated_at = now() - interval '40 days'"
    do(engine, old)
    with engine.begin() as connection:
        tenancy.service(connection)
        assert oversight.attempts_by_day(connection, since) == []
        (account,) = oversight.health(connection, since)
        assert (account["attempts"], account["last_success_at"]) == (0, None)
