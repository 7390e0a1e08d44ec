"""What becomes known late: a call is not repeated to whom nothing may go any more, and proof stands against a refusal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from kernel.delivery import control, reconcile, send, setup
from kernel.delivery.providers.base import Outcome, rejected, unknown
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company
from tests.integration.delivery.test_reconcile import LOST, Killed, case, lost, receive, reference, whole

ANN = "ann@x.co"


def now() -> datetime:
    return datetime.now(UTC)


def left_behind(world: World, people: list[str], **named: Any) -> Company:
    """Attempts whose worker died before it called anybody."""
    acme = company(world.engine, world.ledger, people, **named)
    acme.ready()
    acme.launch()

    def at(point: str) -> None:
        if point == "attempts committed":
            raise Killed

    with pytest.raises(Killed):
        send.work(acme.worker(at=at))
    assert (set(acme.items().values()), acme.effects()) == ({"dispatching"}, {})
    return acme


def opts_out(acme: Company) -> None:
    acme.call(setup.suppress, [ANN], reason="opt_out", source="letter")


def is_cancelled(acme: Company) -> None:
    acme.call(control.cancel, acme.runs()[0].id, actor="ann", at=now())


def is_not_approved_any_more(acme: Company) -> None:
    acme.pinned("update delivery.campaign_runs set approval_expires_at = now()")


def is_stopped(acme: Company) -> None:
    acme.pinned("update delivery.provider_accounts set stopped_at = now(), stop_reason = 'spam'")


def is_suspended(acme: Company) -> None:
    acme.pinned("update spine.tenants set status = 'suspended'")


def is_paused(acme: Company) -> None:
    acme.call(control.pause, acme.runs()[0].id, actor="ann", at=now())


@pytest.mark.parametrize("happens", [opts_out, is_cancelled, is_not_approved_any_more])
def test_a_call_is_not_repeated_to_whom_nothing_may_go_any_more(
    world: World, happens: Callable[[Company], None]
) -> None:
    acme = left_behind(world, [ANN])
    happens(acme)
    acme.time_passes()
    acme.settle()
    assert (acme.items(), acme.effects(), case(acme).reason) == ({ANN: "unknown"}, {}, "held")
    whole(acme)


@pytest.mark.parametrize("happens", [is_stopped, is_suspended, is_paused])
def test_a_call_that_is_held_for_a_while_is_repeated_afterwards(
    world: World, happens: Callable[[Company], None]
) -> None:
    acme = left_behind(world, [ANN])
    happens(acme)
    acme.time_passes()
    acme.settle()
    assert (acme.items(), acme.effects()) == ({ANN: "dispatching"}, {})
    acme.pinned("update delivery.provider_accounts set stopped_at = null")
    acme.pinned("update spine.tenants set status = 'active'")
    acme.pinned("update delivery.campaign_runs set paused_at = null")
    acme.time_passes()
    acme.settle()
    assert (acme.items(), acme.effects()) == ({ANN: "sent"}, {ANN: 1})


def test_proof_that_comes_after_a_person_said_no_keeps_the_item_from_being_sent_again(world: World) -> None:
    acme = lost(world, "none")
    acme.call(
        reconcile.resolve, case(acme).id, "rejected", actor="ann", note="their log shows nothing", at=now()
    )
    assert acme.runs()[0].status == "failed"
    receive(acme, {"event_id": "e1", "kind": "delivered", "reference": reference(acme)})
    run = acme.runs()[0]
    assert (acme.items(), run.status, run.accepted, run.rejected) == ({LOST: "sent"}, "completed", 1, 0)
    with pytest.raises(Exception, match="nothing to retry"):
        acme.call(control.retry, run.id, actor="ann", at=now())
    whole(acme)


def test_a_refusal_that_the_provider_takes_back_ends_the_waiting_for_another_attempt(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN])
    acme.outcomes[ANN] = rejected("busy", "later", retryable=True)
    acme.ready()
    acme.launch()
    acme.work()
    assert acme.items() == {ANN: "queued"}
    attempt = acme.pinned("select id::text from delivery.attempts")[0][0]
    receive(acme, {"event_id": "e1", "kind": "delivered", "reference": attempt})
    acme.outcomes.clear()
    acme.time_passes()
    acme.work()
    assert (acme.items(), acme.effects(), acme.runs()[0].status) == ({ANN: "sent"}, {}, "completed")
    whole(acme)


def test_an_id_that_two_messages_are_given_leaves_no_other_waiting(world: World) -> None:
    acme = left_behind(world, [ANN, "bob@x.co", "cy@x.co"])
    for address in (ANN, "bob@x.co"):
        acme.outcomes[address] = Outcome("accepted", message_id="the-same")
    acme.time_passes()
    acme.settle()
    assert set(acme.items().values()) == {"unknown"}
    acme.time_passes()
    acme.settle()
    assert (
        acme.pinned("select count(*) from delivery.reconciliation_cases where resolution is null")[0][0] == 3
    )


def test_an_adapter_that_raises_leaves_the_other_calls_of_the_account_settled(world: World) -> None:
    acme = left_behind(world, [ANN, "bob@x.co"])
    worker = acme.worker("settler")
    provider = worker.provider_of(None)  # type: ignore[arg-type]
    sent = provider.send

    def send_or_raise(messages: Any, key: str) -> Any:
        if messages[0].address == ANN:
            raise RuntimeError("no such answer")
        return sent(messages, key)

    provider.send = send_or_raise  # type: ignore[method-assign]
    acme.time_passes()
    settler = send.Worker(acme.engine, "settler", lambda _: provider)
    reconcile.settle_stalled(settler)
    assert acme.items() == {ANN: "unknown", "bob@x.co": "sent"}


def test_an_unsubscription_of_a_message_that_nobody_knows_is_heard(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN])
    acme.ready()
    acme.launch()
    receive(acme, {"event_id": "e1", "kind": "unsubscribed", "message_id": "of-long-ago", "address": ANN})
    acme.work()
    assert (acme.items(), acme.effects()) == ({ANN: "opt_out"}, {})


def test_an_event_finds_its_message_by_our_reference_though_another_one_has_its_id(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN, "bob@x.co"])
    acme.outcomes[ANN] = Outcome("accepted", message_id="the-same")
    acme.outcomes["bob@x.co"] = unknown("timeout", "no answer")
    acme.ready()
    acme.launch()
    acme.work()
    of_bob = """select attempts.id::text from delivery.attempts inner join delivery.channel_outbox as items
        on items.id = attempts.item_id where items.address = 'bob@x.co'"""
    event = {"kind": "delivered", "message_id": "the-same", "reference": acme.pinned(of_bob)[0][0]}
    assert receive(acme, {"event_id": "e1"} | event) == 1
    assert acme.items() == {ANN: "sent", "bob@x.co": "sent"}
    whole(acme)
