"""What has no outcome is asked for, told or found out, and closed with where that is known from; never guessed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import callbacks, control, invariants, reconcile, send
from kernel.delivery.providers.base import BadCallback, Outcome, rejected, unknown
from kernel.errors import RefusedError
from quality.certification.delivery.provider import Ledger, Mode
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, _Answering, company

LOST = "lost-ann@x.co"


class Killed(BaseException):
    """Ends a worker as a signal would."""


def lost(world: World, mode: Mode) -> Company:
    """One message that went out without an answer."""
    acme = company(world.engine, world.ledger, [LOST], mode=mode)
    acme.ready()
    acme.launch()
    acme.work()
    assert (acme.items(), acme.effects()) == ({LOST: "unknown"}, {LOST: 1})
    return acme


def case(acme: Company) -> sa.Row[Any]:
    return acme.pinned("select * from delivery.reconciliation_cases")[0]


def receive(acme: Company, *events: dict[str, Any], signature: str = "recorder") -> int:
    with acme.engine.begin() as connection:
        tenancy.service(connection, acme.tenant_id)
        account = connection.execute(sa.text("select * from delivery.provider_accounts")).one()
        body = json.dumps(events).encode()
        given = {"signature": signature}
        return callbacks.receive(connection, account, _Answering(acme), given, body, at=datetime.now(UTC))


def reference(acme: Company) -> str:
    return acme.ledger.references(str(acme.account_id))[0]


def whole(acme: Company) -> None:
    with acme.engine.begin() as connection:
        assert invariants.check(connection, acme.tenant_id) == []


# A timeout is no failure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["keys", "lookup", "none"])
def test_a_timeout_opens_a_case_and_ends_nothing(world: World, mode: Mode) -> None:
    acme = lost(world, mode)
    run = acme.runs()[0]
    assert (run.status, run.unknown, run.completed_at) == ("needs_reconciliation", 1, None)
    assert (case(acme).resolution, case(acme).reason) == (None, "timeout")
    whole(acme)


def test_a_lookup_settles_the_case_that_a_timeout_opened(world: World) -> None:
    acme = lost(world, "lookup")
    acme.time_passes()
    acme.settle()
    assert (acme.items(), case(acme).resolution, case(acme).note) == ({LOST: "sent"}, "accepted", "lookup")
    assert (acme.runs()[0].status, acme.effects()) == ("completed", {LOST: 1})
    whole(acme)


def test_a_message_that_is_not_found_stays_unknown_and_is_asked_for_later(world: World) -> None:
    acme = company(world.engine, world.ledger, ["ann@x.co"], mode="lookup")
    acme.outcomes["ann@x.co"] = unknown("timeout", "no answer")
    acme.ready()
    acme.launch()
    acme.work()
    for _ in range(3):
        acme.time_passes()
        acme.settle()
    assert (acme.items(), case(acme).resolution, acme.effects()) == ({"ann@x.co": "unknown"}, None, {})
    assert case(acme).evidence["lookups"] == 3
    whole(acme)


def test_a_case_that_was_looked_up_for_years_keeps_no_other_from_being_looked_up(world: World) -> None:
    acme = lost(world, "lookup")
    acme.ledger = Ledger(world.ledger_path.with_name("elsewhere"))  # where nothing of it is known
    years = """update delivery.reconciliation_cases
        set evidence = evidence || '{"lookups": 2000}', next_lookup_at = now(), resolution = null, resolved_at = null"""
    acme.pinned(years)
    reconcile.look_up_cases(acme.worker())
    asked = "select next_lookup_at - clock_timestamp() as wait, evidence from delivery.reconciliation_cases"
    (row,) = acme.pinned(asked)
    assert row.evidence["lookups"] == 2001
    assert timedelta(hours=5) < row.wait <= timedelta(hours=6)


# Callbacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["keys", "none"])
def test_a_callback_settles_the_case_that_a_timeout_opened(world: World, mode: Mode) -> None:
    acme = lost(world, mode)
    assert receive(acme, {"event_id": "e1", "kind": "delivered", "reference": reference(acme)}) == 1
    assert (acme.items(), case(acme).resolution, acme.runs()[0].status) == (
        {LOST: "sent"},
        "accepted",
        "completed",
    )
    assert acme.pinned("select delivery_status from delivery.channel_outbox")[0][0] == "delivered"
    whole(acme)


def test_a_callback_that_comes_before_the_answer_is_the_outcome(world: World) -> None:
    acme = company(world.engine, world.ledger, ["ann@x.co"], mode="none")
    acme.ready()
    acme.launch()

    def at(point: str) -> None:
        if point == "called":
            receive(
                acme,
                {"event_id": "e1", "kind": "delivered", "reference": reference(acme), "message_id": "m1"},
            )

    send.work(acme.worker(at=at))
    item = acme.pinned("select status, provider_message_id, delivery_status from delivery.channel_outbox")[0]
    assert tuple(item) == ("sent", "m1", "delivered")
    assert acme.runs()[0].status == "completed"
    whole(acme)


def test_a_callback_of_an_unknown_message_waits_for_it(world: World) -> None:
    acme = company(world.engine, world.ledger, ["ann@x.co"])
    assert receive(acme, {"event_id": "e0", "kind": "opened", "message_id": "m-later"}) == 1
    acme.outcomes["ann@x.co"] = Outcome("accepted", message_id="m-later")
    acme.ready()
    acme.launch()
    acme.work()
    acme.call(callbacks.match_parked, actor="test", at=datetime.now(UTC))
    assert acme.pinned("select delivery_status from delivery.channel_outbox")[0][0] == "opened"


def test_a_callback_that_comes_twice_counts_once_and_never_moves_backward(world: World) -> None:
    acme = company(world.engine, world.ledger, ["ann@x.co"])
    acme.ready()
    acme.launch()
    acme.work()
    opened = {"event_id": "e2", "kind": "opened", "reference": reference(acme)}
    assert receive(acme, opened) == 1
    assert receive(acme, opened, {"event_id": "e1", "kind": "delivered", "reference": reference(acme)}) == 1
    assert acme.pinned("select delivery_status from delivery.channel_outbox")[0][0] == "opened"


def test_a_callback_that_is_not_signed_changes_nothing(world: World) -> None:
    acme = lost(world, "none")
    with pytest.raises(BadCallback):
        receive(acme, {"event_id": "e1", "kind": "delivered", "reference": reference(acme)}, signature="no")
    assert acme.items() == {LOST: "unknown"}


@pytest.mark.parametrize("kind", ["bounced", "complained", "unsubscribed"])
def test_whoever_bounces_complains_or_unsubscribes_is_not_contacted_again(world: World, kind: str) -> None:
    acme = company(world.engine, world.ledger, ["ann@x.co"])
    acme.ready()
    acme.launch()
    acme.work()
    receive(acme, {"event_id": "e1", "kind": kind, "reference": reference(acme)})
    acme.approve(acme.write(step=2))
    acme.launch()
    acme.work()
    assert acme.effects() == {"ann@x.co": 1}


# Repeated calls ------------------------------------------------------------------------------------------------------


def killed_before_the_answer(world: World, mode: Mode) -> Company:
    acme = company(world.engine, world.ledger, ["ann@x.co"], mode=mode)
    acme.ready()
    acme.launch()

    def at(point: str) -> None:
        if point == "called":
            raise Killed

    with pytest.raises(Killed):
        send.work(acme.worker(at=at))
    return acme


def test_a_call_is_not_repeated_once_the_key_may_be_forgotten(world: World) -> None:
    acme = killed_before_the_answer(world, "keys")
    acme.pinned("update delivery.attempts set started_at = now() - interval '25 hours', deadline_at = now()")
    acme.settle()
    assert (acme.items(), acme.effects()) == ({"ann@x.co": "unknown"}, {"ann@x.co": 1})


def test_a_call_is_not_repeated_when_the_message_would_be_another(world: World) -> None:
    acme = killed_before_the_answer(world, "keys")
    acme.pinned("update delivery.provider_accounts set sender = 'other@x.co'")
    acme.time_passes()
    acme.settle()
    assert (acme.items(), case(acme).reason) == ({"ann@x.co": "unknown"}, "changed_since")


def test_two_settle_what_is_stalled_and_the_call_has_one_effect(world: World) -> None:
    acme = killed_before_the_answer(world, "keys")
    acme.time_passes()
    done = [reconcile.settle_stalled(acme.worker(f"s{n}")) for n in range(2)]
    assert (done[0], done[1]) == ({"sent": 1}, {})
    assert acme.effects() == {"ann@x.co": 1}


# People --------------------------------------------------------------------------------------------------------------


def resolve(acme: Company, resolution: str, note: str = "read in the provider's log") -> None:
    acme.call(reconcile.resolve, case(acme).id, resolution, actor="bob", note=note, at=datetime.now(UTC))


@pytest.mark.parametrize(
    ("resolution", "item", "run"),
    [
        ("accepted", "sent", "completed"),
        ("rejected", "failed", "failed"),
        ("abandoned", "abandoned", "failed"),
    ],
)
def test_a_person_closes_a_case_with_what_was_found(
    world: World, resolution: str, item: str, run: str
) -> None:
    acme = lost(world, "none")
    resolve(acme, resolution)
    assert (acme.items(), acme.runs()[0].status) == ({LOST: item}, run)
    assert (case(acme).resolved_by, case(acme).note) == ("bob", "read in the provider's log")
    whole(acme)


def test_a_case_is_not_closed_twice_nor_without_evidence(world: World) -> None:
    acme = lost(world, "none")
    with pytest.raises(RefusedError, match="needs its evidence"):
        resolve(acme, "accepted", "sure")
    resolve(acme, "accepted")
    with pytest.raises(RefusedError, match="was resolved as accepted by bob"):
        resolve(acme, "rejected")


def test_only_what_a_person_found_rejected_is_retried(world: World) -> None:
    acme = lost(world, "none")
    with pytest.raises(RefusedError, match="nothing to retry"):
        acme.call(control.retry, acme.runs()[0].id, actor="ann", at=datetime.now(UTC))
    resolve(acme, "abandoned")
    with pytest.raises(RefusedError, match="nothing to retry"):
        acme.call(control.retry, acme.runs()[0].id, actor="ann", at=datetime.now(UTC))


# Providers that misbehave --------------------------------------------------------------------------------------------


def test_a_refusal_that_may_end_otherwise_is_tried_three_times_and_then_failed(world: World) -> None:
    acme = company(world.engine, world.ledger, ["ann@x.co"])
    acme.outcomes["ann@x.co"] = rejected("busy", "not now", retryable=True)
    acme.ready()
    acme.launch()
    for _ in range(5):
        acme.work()
        acme.time_passes()
    assert acme.items() == {"ann@x.co": "failed"}
    assert acme.pinned("select count(*) from delivery.attempts")[0][0] == 3
    whole(acme)


def test_two_messages_under_one_id_of_the_provider_are_not_both_taken_for_accepted(world: World) -> None:
    acme = company(world.engine, world.ledger, ["ann@x.co", "bob@x.co", "cy@x.co"])
    same = Outcome("accepted", message_id="same")
    acme.outcomes |= {"ann@x.co": same, "bob@x.co": same}
    acme.ready()
    acme.launch()
    acme.work()
    acme.time_passes()
    acme.settle()
    assert list(acme.items().values()).count("sent") <= 2
    assert acme.runs()[0].status == "needs_reconciliation"
    whole(acme)
