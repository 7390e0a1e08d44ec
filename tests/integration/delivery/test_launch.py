"""What stands in the way of a launch is named before anything is queued; what is launched is launched once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest

from kernel.delivery import contents, control, launch, preview, setup
from kernel.errors import RefusedError
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company


@pytest.fixture
def acme(world: World) -> Company:
    return company(world.engine, world.ledger)


def queued(acme: Company) -> int:
    return sum(acme.pinned(f"select count(*) from delivery.{name}")[0][0] for name in ("campaign_runs", "job_queue", "channel_outbox", "run_recipients"))  # fmt: skip


# What stands in the way ----------------------------------------------------------------------------------------------


def _nothing_written(acme: Company) -> dict[str, Any]:
    return {}


def _not_approved(acme: Company) -> dict[str, Any]:
    acme.write()
    return {}


def _approval_ran_out(acme: Company) -> dict[str, Any]:
    acme.approve(acme.write(), at=datetime.now(UTC) - timedelta(hours=73))
    return {}


def _edited_since(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.write(body="Another {{unsubscribe_url}}")
    return {}


def _without_unsubscribe(acme: Company) -> dict[str, Any]:
    acme.approve(acme.write(body="Spring"))
    return {}


def _unknown_channel(acme: Company) -> dict[str, Any]:
    acme.ready()
    return {"channel": "pigeon"}


def _not_connected(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.pinned("update delivery.provider_accounts set is_connected = false")
    return {}


def _no_sender(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.pinned("update delivery.provider_accounts set sender = ' '")
    return {}


def _stopped(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.call(control.stop_account, "mail", actor="ann", reason="bounces", at=datetime.now(UTC))
    return {}


def _no_credentials(acme: Company) -> dict[str, Any]:
    acme.ready()
    return {"problems": lambda row: [f"the secret of account {row.name} is not there"]}


def _empty_audience(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.pinned("delete from spine.spine_contacts")
    return {}


def _no_valid_address(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.pinned("update spine.spine_contacts set email = split_part(email, '@', 1)")
    return {}


def _suspended(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.pinned("update spine.tenants set status = 'suspended'")
    return {}


def _closed(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.pinned("update spine.spine_campaigns set status = 'completed'")
    return {}


def _unknown_segment(acme: Company) -> dict[str, Any]:
    acme.ready()
    acme.pinned("""update spine.spine_campaigns set target_segment = '{"shoe_size": 44}'""")
    return {}


def _seen_another(acme: Company) -> dict[str, Any]:
    acme.ready()
    return {"content_hash": "0" * 64}


IN_THE_WAY = {
    _nothing_written: "nothing to send",
    _not_approved: "is not approved",
    _approval_ran_out: "the approval ran out",
    _edited_since: "version 2 of the content is not approved",
    _without_unsubscribe: "lacks {{unsubscribe_url}}",
    _unknown_channel: "channel pigeon cannot be launched",
    _not_connected: "is not connected",
    _no_sender: "has no sender",
    _stopped: "was stopped: bounces",
    _no_credentials: "the secret of account mail is not there",
    _empty_audience: "the audience is empty",
    _no_valid_address: "the audience is empty",
    _suspended: "the tenant is suspended",
    _closed: "the campaign is completed",
    _unknown_segment: "target_segment has shoe_size",
    _seen_another: "not what was shown",
}


@pytest.mark.parametrize("spoil", IN_THE_WAY, ids=lambda spoil: spoil.__name__.strip("_"))
def test_a_launch_is_refused_with_its_reason_and_leaves_nothing_behind(acme: Company, spoil: Any) -> None:
    given = spoil(acme)
    with pytest.raises(RefusedError) as refused:
        acme.launch(**given)
    assert IN_THE_WAY[spoil] in str(refused.value)
    assert queued(acme) == 0


def test_a_launch_is_possible_when_nothing_stands_in_the_way(acme: Company) -> None:
    acme.ready()
    assert (acme.launch().intended, acme.work()) == (2, {"sent": 2})


def test_every_reason_is_told_at_once(acme: Company) -> None:
    acme.write(body="Spring")
    acme.pinned("update delivery.provider_accounts set is_connected = false")
    with pytest.raises(RefusedError) as refused:
        acme.launch()
    for why in ("not approved", "not connected", "lacks {{unsubscribe_url}}"):
        assert why in str(refused.value)


def test_a_slow_clock_launches_and_the_database_keeps_it_from_sending(acme: Company) -> None:
    acme.approve(acme.write(), at=datetime.now(UTC) - timedelta(hours=73))
    acme.launch(at=datetime.now(UTC) - timedelta(hours=2))
    acme.work()
    assert (set(acme.items().values()), acme.effects()) == ({"expired"}, {})
    assert acme.runs()[0].status == "failed"


def test_a_fast_clock_sends_nothing_before_its_time(acme: Company) -> None:
    acme.ready()
    acme.launch(at=datetime.now(UTC) + timedelta(hours=1))
    assert (acme.work(), acme.effects()) == ({}, {})


# Once ----------------------------------------------------------------------------------------------------------------


def test_the_same_request_again_gives_the_first_run(acme: Company) -> None:
    acme.ready()
    first, again = (acme.launch(request_id="r1") for _ in range(2))
    assert (again.run_id, again.replayed, queued(acme)) == (first.run_id, True, 1 + 1 + 2 + 2)


def test_another_request_for_what_went_out_is_refused(acme: Company) -> None:
    acme.ready()
    acme.launch()
    with pytest.raises(RefusedError, match="this step went out before"):
        acme.launch()


def test_a_new_step_goes_to_the_same_people_again(acme: Company) -> None:
    acme.ready()
    acme.launch()
    acme.approve(acme.write(step=2))
    acme.launch()
    acme.work()
    assert acme.effects() == {"ann@x.co": 2, "bob@x.co": 2}


def test_many_launches_at_once_make_one_run(acme: Company) -> None:
    acme.ready()
    told: list[Any] = []

    def ask() -> None:
        try:
            told.append(acme.launch(request_id="r1").run_id)
        except Exception as error:
            told.append(error)

    threads = [Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(set(told)), len(acme.runs())) == (1, 1)


# Who -----------------------------------------------------------------------------------------------------------------

PEOPLE = (
    {"email": " Ann@X.co "}, {"email": "ann@x.co"}, {"email": "not an address"}, {"email": None, "phone": "1"},
    {"email": "out@x.co"}, {"email": "bob@x.co"},
)  # fmt: skip


def test_everybody_of_the_audience_stands_in_the_run_with_why_not(world: World) -> None:
    acme = company(world.engine, world.ledger, PEOPLE)
    acme.call(setup.suppress, ["OUT@x.co "], reason="opt_out", source="test")
    acme.ready()
    shown = acme.call(preview.preview, acme.campaign_id, at=datetime.now(UTC), problems=lambda _: [])
    done = acme.launch()
    rows = acme.pinned(
        "select coalesce(excluded_because, 'in') as why, count(*) from delivery.run_recipients group by 1"
    )
    assert dict(rows) == {
        "in": 2,
        "duplicate_address": 1,
        "invalid_address": 1,
        "no_address": 1,
        "opt_out": 1,
    }
    assert dict(shown.excluded) | {"in": shown.included} == dict(rows)
    assert (done.intended, done.suppressed, acme.work()) == (3, 1, {"sent": 2})
    assert acme.items() == {"ann@x.co": "sent", "bob@x.co": "sent", "out@x.co": "opt_out"}
    run = acme.runs()[0]
    assert (run.status, run.intended, run.accepted, run.suppressed) == ("completed", 3, 2, 1)


def test_a_run_of_suppressed_people_ends_without_sending(acme: Company) -> None:
    acme.call(setup.suppress, ["ann@x.co", "bob@x.co"], reason="opt_out", source="test")
    acme.ready()
    acme.launch()
    acme.work()
    run = acme.runs()[0]
    assert (run.status, run.error_code, acme.effects()) == ("completed", "no_eligible_recipients", {})


def test_sms_asks_for_consent(world: World) -> None:
    people = ({"phone": "+1 555 010 2030"}, {"phone": "0044 20 7946 0000"})
    acme = company(world.engine, world.ledger, people, channel="sms")
    acme.call(
        setup.consent, ["+15550102030"], channel="sms", basis="consent", source="form", at=datetime.now(UTC)
    )
    acme.approve(acme.write(subject="", body="Spring"))
    acme.launch()
    acme.work()
    assert acme.items() == {"+15550102030": "sent", "+442079460000": "no_consent"}


# Approval ------------------------------------------------------------------------------------------------------------


def test_nobody_approves_what_they_wrote_or_did_not_see(acme: Company) -> None:
    content_id = acme.write(author="bob")
    with pytest.raises(RefusedError, match="may not approve it"):
        acme.approve(content_id)
    with pytest.raises(RefusedError, match="not what was shown"):
        acme.call(contents.approve, content_id, "0" * 64, approver="cy", at=datetime.now(UTC))


def test_a_retry_and_a_launch_know_nothing_of_another_tenant(acme: Company, world: World) -> None:
    other = company(world.engine, world.ledger)
    acme.ready()
    run_id = acme.launch().run_id
    with pytest.raises(RefusedError, match="has no run"):
        other.call(control.cancel, run_id, actor="eve", at=datetime.now(UTC))
    with pytest.raises(RefusedError, match="no such campaign"):
        other.call(launch.launch, acme.campaign_id, actor="eve", at=datetime.now(UTC), problems=lambda _: [])


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ({"scheduled_for": timedelta(hours=-2)}, "which is over"),
        ({"expires_at": timedelta(hours=-2)}, "everybody would expire"),
        (
            {"scheduled_for": timedelta(hours=2), "expires_at": timedelta(hours=1)},
            "before the first message: everybody would expire",
        ),
        ({"scheduled_for": timedelta(days=30)}, "approve closer to it"),
    ],
)
def test_a_run_that_could_reach_nobody_at_its_time_is_refused(
    acme: Company, when: dict[str, timedelta], why: str
) -> None:
    acme.ready()
    instants = {name: datetime.now(UTC) + each for name, each in when.items()}
    with pytest.raises(RefusedError, match=why):
        acme.launch(**instants)
    assert acme.runs() == []


def test_a_run_is_told_of_again_when_its_time_is_over(acme: Company) -> None:
    acme.ready()
    at = datetime.now(UTC)
    first = acme.launch(request_id="r1", scheduled_for=at + timedelta(hours=1))
    again = acme.launch(request_id="r1", scheduled_for=at + timedelta(hours=1), at=at + timedelta(hours=5))
    assert (again.run_id, again.replayed) == (first.run_id, True)
