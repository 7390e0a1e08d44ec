"""What holds a job back at the moment of sending, whatever was allowed at launch."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from threading import Barrier, BrokenBarrierError, Thread
from typing import Any

import pytest

from kernel.delivery import control, fence, preview, send, setup
from kernel.delivery.holding import quiet_until
from quality.certification.delivery.provider import Mode
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company, no_problems


@dataclass(frozen=True)
class Rules:
    quiet_from: time | None
    quiet_until: time | None
    time_zone: str


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NIGHT = (time(21), time(8))
QUIET = {
    "the evening": (NIGHT, "UTC", "2026-03-01T22:00", "2026-03-02T08:00"),
    "after midnight": (NIGHT, "UTC", "2026-03-02T03:00", "2026-03-02T08:00"),
    "the first minute": (NIGHT, "UTC", "2026-03-01T21:00", "2026-03-02T08:00"),
    "the last minute is over": (NIGHT, "UTC", "2026-03-02T08:00", None),
    "the day": (NIGHT, "UTC", "2026-03-01T12:00", None),
    "within one day": ((time(12), time(14)), "UTC", "2026-03-01T13:00", "2026-03-01T14:00"),
    # In Berlin the clock goes from 2 to 3 on 29 March and from 3 back to 2 on 25 October.
    "the night that is an hour short": (NIGHT, "Europe/Berlin", "2026-03-28T21:00", "2026-03-29T06:00"),
    "the night before it": (NIGHT, "Europe/Berlin", "2026-03-27T21:00", "2026-03-28T07:00"),
    "the night that is an hour long": (NIGHT, "Europe/Berlin", "2026-10-24T20:00", "2026-10-25T07:00"),
    # 02:30 does not exist that night: quiet ends with the first minute that does.
    "an end that does not exist": ((time(22), time(2, 30)), "Europe/Berlin", "2026-03-29T00:30", "2026-03-29T01:30"),
    "west of Greenwich": (NIGHT, "America/Los_Angeles", "2026-07-01T05:00", "2026-07-01T15:00"),
}  # fmt: skip


@pytest.mark.parametrize("case", QUIET)
def test_quiet_hours_end_by_the_clock_on_the_wall(case: str) -> None:
    (start, end), zone, now, until = QUIET[case]
    assert quiet_until(Rules(start, end, zone), utc(now)) == (until and utc(until))


@pytest.fixture
def acme(world: World) -> Company:
    made = company(world.engine, world.ledger, [f"p{n}@x.co" for n in range(5)])
    made.ready()
    return made


def quiet_now(acme: Company) -> None:
    now = datetime.now(UTC)
    rules = {
        "quiet_from": (now - timedelta(hours=1)).time(),
        "quiet_until": (now + timedelta(hours=1)).time(),
    }
    acme.call(setup.policy, "email", **rules)


def test_nothing_is_sent_in_quiet_hours_and_all_of_it_afterwards(acme: Company) -> None:
    acme.launch()
    quiet_now(acme)
    assert (acme.work(), acme.effects()) == ({}, {})
    due = acme.pinned("select scheduled_for - now() as due from delivery.job_queue")[0].due
    assert timedelta(minutes=50) < due <= timedelta(minutes=60)
    acme.call(setup.policy, "email", quiet_from=None, quiet_until=None)
    acme.time_passes()
    assert acme.work() == {"sent": 5}


@pytest.mark.parametrize("cap", ["hourly_cap", "daily_cap"])
def test_a_cap_lets_through_what_it_leaves_and_the_rest_later(acme: Company, cap: str) -> None:
    acme.call(setup.policy, "email", **{cap: 3})
    acme.launch()
    assert (acme.work(), len(acme.effects())) == ({"sent": 3}, 3)
    job = acme.pinned("select status, scheduled_for > now() as later, attempts from delivery.job_queue")[0]
    assert (job.status, job.later, job.attempts) == ("queued", True, 0)
    acme.call(setup.policy, "email", **{cap: 5})
    acme.time_passes()
    assert (acme.work(), acme.runs()[0].status) == ({"sent": 2}, "completed")


def test_a_cap_of_nothing_sends_nothing(acme: Company) -> None:
    acme.call(setup.policy, "email", daily_cap=0)
    acme.launch()
    assert (acme.work(), acme.effects()) == ({}, {})


def test_a_rejected_message_gives_its_place_under_the_cap_back(world: World) -> None:
    acme = company(world.engine, world.ledger, ["no-a@x.co", "b@x.co"])
    acme.ready()
    acme.call(setup.policy, "email", hourly_cap=2)
    acme.launch()
    acme.work()
    assert acme.pinned("select used from delivery.quota_windows where span = 'hour'")[0].used == 1


def test_somebody_who_was_contacted_often_enough_is_skipped(acme: Company) -> None:
    acme.launch()
    acme.work()
    acme.call(setup.policy, "email", person_cap=1, person_cap_days=7)
    acme.approve(acme.write(step=2))
    acme.launch()
    acme.work()
    assert set(acme.effects().values()) == {1}
    assert acme.runs()[1].suppressed == 5


def test_a_person_cap_also_holds_between_launch_and_sending(acme: Company) -> None:
    acme.launch()
    acme.approve(acme.write(step=2))
    acme.launch()
    acme.call(setup.policy, "email", person_cap=1, person_cap_days=7)
    acme.work()
    acme.time_passes()
    acme.work()
    assert set(acme.effects().values()) == {1}


def two_launched(world: World, *people: str, mode: Mode = "keys") -> Company:
    """The same people by two steps, with a cap of one a week."""
    acme = company(world.engine, world.ledger, people, mode=mode)
    acme.ready()
    acme.launch()
    acme.approve(acme.write(step=2))
    acme.launch()
    acme.call(setup.policy, "email", person_cap=1, person_cap_days=7)
    return acme


def test_a_message_in_doubt_counts_for_the_cap_of_a_person_whenever_it_began(world: World) -> None:
    acme = two_launched(world, "lost-ann@x.co", mode="none")
    acme.work()
    assert acme.effects() == {"lost-ann@x.co": 1}
    acme.pinned(
        "update delivery.channel_outbox set settled_at = now() - interval '1 year' where status = 'unknown'"
    )
    acme.approve(acme.write(step=3))
    assert acme.launch().suppressed == 1
    acme.pinned(
        "update delivery.channel_outbox set status = 'queued', attempts = 0, skip_reason = null, skipped = false where status = 'skipped'"
    )
    acme.pinned("update delivery.job_queue set status = 'queued', scheduled_for = now()")
    acme.work()
    assert acme.effects() == {"lost-ann@x.co": 1}


def test_a_preview_counts_messages_in_doubt_for_the_cap_of_a_person(world: World) -> None:
    acme = two_launched(world, "lost-ann@x.co", mode="none")
    acme.call(setup.policy, "email", person_cap=2, person_cap_days=7)
    send.work(acme.worker(), max_jobs=1)
    acme.approve(acme.write(step=3))
    seen = acme.call(preview.preview, acme.campaign_id, at=datetime.now(UTC), problems=no_problems)
    assert (seen.included, seen.person_cap) == (1, preview.PersonCap(2, 7, excluded=0, at_risk=1))


def test_a_message_in_a_call_counts_for_the_cap_of_a_person(world: World) -> None:
    acme = two_launched(world, "ann@x.co")
    others = []

    def at(point: str) -> None:
        if point == "attempts committed" and not others:
            others.append(send.work(acme.worker("other")))

    send.work(acme.worker(at=at))
    assert (len(others), acme.effects()) == (1, {"ann@x.co": 1})


def test_two_workers_at_once_do_not_both_pass_the_cap_of_a_person(world: World) -> None:
    acme = two_launched(world, "ann@x.co")
    acme.call(fence.is_due)  # whoever is first writes down the epoch, and the other waits for that
    both = Barrier(2)

    def at(point: str) -> None:
        if point == "attempts written":
            # Nobody else comes this far before it is committed.
            with suppress(BrokenBarrierError):
                both.wait(timeout=1)

    workers = [Thread(target=send.work, args=(acme.worker(f"w{n}", at=at), 1)) for n in range(2)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert (acme.effects(), both.broken) == ({"ann@x.co": 1}, True)


def test_a_cap_that_is_set_knows_what_went_out_in_its_hour(acme: Company) -> None:
    acme.launch()
    acme.work()
    acme.call(setup.policy, "email", hourly_cap=7)
    acme.approve(acme.write(step=2))
    acme.launch()
    assert acme.work() == {"sent": 2}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("sender = 'other@x.co'", "another one than was approved"),
        ('config = \'{"unsubscribe_base": "https://y.co"}\'', "another one than was approved"),
        ("is_connected = false", "not connected: test it first"),
    ],
)
def test_what_was_approved_goes_out_through_the_approved_account_alone(
    acme: Company, change: str, told: str
) -> None:
    acme.launch()
    before = acme.pinned("select sender, config, is_connected from delivery.provider_accounts")[0]
    acme.pinned(f"update delivery.provider_accounts set {change}")
    assert (acme.work(), acme.effects()) == ({}, {})
    job = acme.pinned("select * from delivery.job_queue")[0]
    assert told in job.last_error
    assert (job.status, job.attempts, job.scheduled_for > job.updated_at) == ("queued", 0, True)
    acme.pinned(
        "update delivery.provider_accounts set sender = :sender, config = cast(:config as jsonb), is_connected = :is_connected",
        **{**before._mapping, "config": json.dumps(before.config)},
    )
    acme.time_passes()
    assert acme.work() == {"sent": 5}


def test_what_was_launched_under_an_older_rule_of_approvals_waits_and_says_what_to_do(acme: Company) -> None:
    acme.launch()
    older = "0" * 64
    with acme.engine.begin() as connection:
        connection.exec_driver_sql("alter table delivery.contents disable trigger user")
        connection.exec_driver_sql(f"update delivery.contents set content_hash = '{older}'")
        connection.exec_driver_sql(f"update delivery.campaign_runs set content_hash = '{older}'")
        connection.exec_driver_sql("alter table delivery.contents enable trigger user")
    assert (acme.work(), acme.effects()) == ({}, {})
    told = acme.pinned("select last_error from delivery.job_queue")[0][0]
    assert "the approval is older than a change of what approvals cover" in told
    assert told.endswith("have the content written and approved again")


def test_who_opts_out_after_the_launch_is_not_contacted(acme: Company) -> None:
    acme.launch()
    acme.call(setup.suppress, ["p1@x.co"], reason="opt_out", source="test")
    acme.work()
    assert (acme.items()["p1@x.co"], "p1@x.co" in acme.effects()) == ("opt_out", False)


def test_the_kill_switch_stops_what_is_launched_until_it_is_released(acme: Company) -> None:
    acme.launch()
    acme.call(control.stop_account, "mail", actor="ann", reason="bounces", at=datetime.now(UTC))
    assert (acme.work(), acme.effects()) == ({}, {})
    assert "bounces" in acme.pinned("select last_error from delivery.job_queue")[0].last_error
    acme.call(control.start_account, "mail", actor="ann", at=datetime.now(UTC))
    acme.time_passes()
    assert acme.work() == {"sent": 5}


def test_a_suspended_tenant_sends_nothing(acme: Company) -> None:
    acme.launch()
    acme.pinned("update spine.tenants set status = 'suspended'")
    assert (acme.work(), acme.effects()) == ({}, {})


@pytest.mark.parametrize("column", ["expires_at", "approval_expires_at"])
def test_what_ran_out_after_the_launch_expires_and_says_so(acme: Company, column: str) -> None:
    acme.launch()
    acme.pinned(f"update delivery.campaign_runs set {column} = now() - interval '1 second'")
    acme.work()
    run = acme.runs()[0]
    assert (acme.effects(), run.expired, run.status) == ({}, 5, "failed")
    assert "was good until" in acme.pinned("select error from delivery.channel_outbox limit 1")[0].error


def test_a_rule_that_cannot_stand_is_refused(acme: Company) -> None:
    bad: list[dict[str, Any]] = [
        {"hourly_cap": -1}, {"time_zone": "Mars/Base"}, {"quiet_from": time(1)}, {"colour": "red"},
    ]  # fmt: skip
    for rules in bad:
        with pytest.raises(setup.RefusedError):
            acme.call(setup.policy, "email", **rules)
