"""What is shown of deliveries equals what stands in the database, and adds up."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import control, oversight, send, views
from kernel.delivery.providers.base import unknown
from kernel.errors import RefusedError
from tests.fakes.campaigns import ATTEMPTS, Scripted, add_company, later, launched, worker

NO_ADDRESS = None
AUDIENCE = ("taken@example.com", "busy@example.com", "doubtful@example.com", "left@example.com", NO_ADDRESS)


@pytest.fixture
def company(engine: sa.Engine) -> UUID:
    return add_company(engine, "acme", AUDIENCE)


def seen(engine: sa.Engine, tenant_id: UUID, view, *given, **named):
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        return view(connection, tenant_id, *given, **named)


def stored(engine: sa.Engine, query: str, **given: object) -> list:
    with engine.begin() as connection:
        tenancy.service(connection)
        return [tuple(row) for row in connection.execute(sa.text(query), given)]


def sent_to_the_end(engine: sa.Engine) -> None:
    """Until the one who is busy has been asked as often as may be."""
    hand = worker(engine)
    for _ in range(ATTEMPTS):
        send.work(hand)
        later(engine)


def test_the_counts_of_a_run_add_up_before_and_after_it_was_sent(engine: sa.Engine, company: UUID) -> None:
    run_id = launched(engine, company)
    before = seen(engine, company, views.drawer, run_id).run
    assert asdict(before.counts) | {"suppressed": 1, "open": 3} == asdict(before.counts)
    sent_to_the_end(engine)
    after = seen(engine, company, views.drawer, run_id).run
    assert (after.counts.accepted, after.counts.rejected, after.counts.unknown, after.counts.suppressed) == (
        1,
        1,
        1,
        1,
    )
    for run in (before, after):
        assert sum(asdict(run.counts).values()) == run.intended == 4


def test_a_run_that_has_ended_shows_the_counts_it_ended_with(engine: sa.Engine) -> None:
    tenant_id = add_company(engine, "calm", ("taken@example.com", "left@example.com"))
    run_id = launched(engine, tenant_id)
    send.work(worker(engine))
    (run,) = seen(engine, tenant_id, views.runs)
    query = "select status, intended, accepted, suppressed from delivery.campaign_runs where id = :id"
    assert stored(engine, query, id=run_id) == [("completed", 2, 1, 1)]
    assert (run.status, run.intended, run.counts.accepted, run.counts.suppressed) == ("completed", 2, 1, 1)


def test_everybody_of_the_audience_is_listed_with_the_reason(engine: sa.Engine, company: UUID) -> None:
    run_id = launched(engine, company)
    sent_to_the_end(engine)
    found = {each.address: each for each in seen(engine, company, views.people, run_id).people}
    assert {address: each.status for address, each in found.items()} == {
        "taken@example.com": "sent",
        "busy@example.com": "failed",
        "doubtful@example.com": "unknown",
        "left@example.com": "skipped",
        NO_ADDRESS: "excluded",
    }
    assert (found["left@example.com"].reason, found[NO_ADDRESS].reason) == ("opt_out", "no_address")
    assert found["busy@example.com"].error == "try again"
    excluded = {
        each.reason: (each.is_intended, each.people)
        for each in seen(engine, company, views.drawer, run_id).exclusions
    }
    assert excluded == {"opt_out": (True, 1), "no_address": (False, 1)}


def test_somebody_who_opted_out_after_the_launch_is_told_apart(engine: sa.Engine, company: UUID) -> None:
    from kernel.delivery import setup

    run_id = launched(engine, company)
    with engine.begin() as connection:
        setup.suppress(connection, company, ["taken@example.com"], reason="complaint", source="test")
    send.work(worker(engine))
    found = {
        each.reason: each.found_when_sending
        for each in seen(engine, company, views.drawer, run_id).exclusions
    }
    assert found == {"opt_out": False, "no_address": False, "complaint": True}


@pytest.mark.parametrize(("status", "person", "expected"), [
    ("failed", None, ["busy@example.com"]),
    (None, "DOUBT", ["doubtful@example.com"]),
    ("sent", "busy", []),
])  # fmt: skip
def test_people_are_found_by_status_and_by_a_part_of_their_address(
    engine: sa.Engine, company: UUID, status: str | None, person: str | None, expected: list[str]
) -> None:
    run_id = launched(engine, company)
    sent_to_the_end(engine)
    page = seen(engine, company, views.people, run_id, status=status, person=person)
    assert [each.address for each in page.people] == expected


def test_a_status_that_none_can_have_is_refused(engine: sa.Engine, company: UUID) -> None:
    with pytest.raises(RefusedError, match="status 'gone' is unknown"):
        seen(engine, company, views.people, launched(engine, company), status="gone")


def test_pages_hold_everybody_once(engine: sa.Engine, company: UUID) -> None:
    run_id, after, found = launched(engine, company), 0, []
    while after is not None:
        page = seen(engine, company, views.people, run_id, after=after, most=2)
        assert len(page.people) <= 2
        found += [each.address for each in page.people]
        after = page.after
    assert sorted(found, key=str) == sorted(AUDIENCE, key=str)


def test_the_attempts_of_an_item_are_those_that_were_made(engine: sa.Engine, company: UUID) -> None:
    run_id = launched(engine, company)
    sent_to_the_end(engine)
    (busy,) = seen(engine, company, views.people, run_id, person="busy").people
    tries = seen(engine, company, views.attempts, busy.item_id)
    assert [(each.n, each.state, each.error) for each in tries] == [
        (n, "rejected", "try again") for n in (1, 2, 3)
    ]
    assert busy.attempts == len(tries)


def test_a_retry_shows_its_parent_and_whom_it_took_over(engine: sa.Engine, company: UUID) -> None:
    root = launched(engine, company)
    sent_to_the_end(engine)
    with engine.begin() as connection:
        made = control.retry(connection, company, root, actor="ann", at=datetime.now(UTC))
    send.work(worker(engine, Scripted(said={})))
    retry = seen(engine, company, views.drawer, made.run_id)
    assert (retry.run.retry_of_run_id, retry.run.intended, retry.run.counts.accepted) == (root, 1, 1)
    assert [run.id for run in retry.lineage] == [root, made.run_id]
    parent = seen(engine, company, views.drawer, root)
    assert [run.id for run in parent.lineage] == [root, made.run_id]
    assert sum(asdict(parent.run.counts).values()) == parent.run.intended
    (busy,) = seen(engine, company, views.people, root, person="busy").people
    assert (busy.status, busy.run_id) == ("sent", made.run_id)


def test_an_uncertain_message_is_a_case_of_its_run(engine: sa.Engine, company: UUID) -> None:
    run_id = launched(engine, company)
    send.work(worker(engine, Scripted(said={"taken": unknown("timeout", "no answer")})))
    (case,) = seen(engine, company, views.cases)
    assert (case.address, case.reason, case.run_id, case.resolution) == (
        "taken@example.com",
        "timeout",
        run_id,
        None,
    )
    assert seen(engine, company, views.drawer, run_id).cases == [case]


def test_a_job_of_a_paused_run_waits_for_no_time(engine: sa.Engine, company: UUID) -> None:
    run_id = launched(engine, company)
    with engine.begin() as connection:
        control.pause(connection, company, run_id, actor="ann", at=datetime.now(UTC))
        tenancy.service(connection)
        due = oversight.due(connection)
    assert [job.scheduled_for for job in seen(engine, company, views.drawer, run_id).jobs] == [None]
    assert (due.due_jobs, due.waiting_jobs, due.next_at) == (0, 1, None)


def test_what_is_due_is_counted_over_all_tenants(engine: sa.Engine, company: UUID) -> None:
    launched(engine, company)
    launched(engine, add_company(engine, "other"))
    with engine.begin() as connection:
        tenancy.service(connection)
        assert (oversight.due(connection).due_jobs, oversight.due_items(connection)) == (2, 3 + 4)
        assert (oversight.in_flight(connection, company), oversight.in_flight(connection, None)) == (3, 7)


def test_another_tenant_sees_nothing_of_a_run(engine: sa.Engine, company: UUID) -> None:
    run_id, other = launched(engine, company), add_company(engine, "other")
    sent_to_the_end(engine)
    item_id = seen(engine, company, views.people, run_id, person="taken").people[0].item_id
    assert seen(engine, company, views.attempts, item_id)
    for view, given in ((views.runs, ()), (views.cases, ()), (views.attempts, (item_id,))):
        assert seen(engine, other, view, *given) == []
    assert seen(engine, other, views.people, run_id).people == []
    with pytest.raises(RefusedError, match="the tenant has no run"):
        seen(engine, other, views.drawer, run_id)
    with pytest.raises(RefusedError, match="the tenant has no run"):
        seen(engine, other, views.find, "run", str(run_id))


def test_a_run_is_found_by_the_beginning_of_its_id(engine: sa.Engine, company: UUID) -> None:
    run_id = launched(engine, company)
    assert seen(engine, company, views.find, "run", str(run_id)[:8].upper()) == run_id
    for asked in (str(run_id)[:7], "%", "________"):
        with pytest.raises(RefusedError, match="is no id of a run"):
            seen(engine, company, views.find, "run", asked)


def test_a_campaign_is_found_by_its_name_when_only_one_has_it(engine: sa.Engine, company: UUID) -> None:
    found = seen(engine, company, views.find, "campaign", "Spring")
    assert [row.id for row in seen(engine, company, views.campaigns)] == [found]
    stored(
        engine,
        "insert into spine.spine_campaigns (tenant_id, name) values (:id, 'spring') returning 1",
        id=company,
    )
    with pytest.raises(RefusedError, match="several campaigns answer to 'spring'"):
        seen(engine, company, views.find, "campaign", "spring")


def test_accounts_are_told_with_who_stopped_them(engine: sa.Engine, company: UUID) -> None:
    with engine.begin() as connection:
        control.stop_account(
            connection, company, "mail", actor="ann", reason="wrong prices", at=datetime.now(UTC)
        )
    (account,) = seen(engine, company, views.accounts)
    assert (account.name, account.stopped_by, account.stop_reason) == ("mail", "ann", "wrong prices")
