"""What people do with a run: pause, resume, cancel, retry, and what is left of it in the counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest

from kernel.delivery import audit, control, send, setup, views
from kernel.errors import RefusedError
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import Company, company


def now() -> dict:
    return {"actor": "ann", "at": datetime.now(UTC)}


@pytest.fixture
def acme(world: World) -> Company:
    made = company(
        world.engine, world.ledger, ["ann@x.co", "bob@x.co", "later-cy@x.co", "no-di@x.co", "eve@x.co"]
    )
    made.call(setup.suppress, ["eve@x.co"], reason="opt_out", source="test")
    made.ready()
    made.launch(chunk_size=2)
    return made


def run_out(acme: Company) -> None:
    """Until every attempt that is allowed was made."""
    for _ in range(4):
        acme.work()
        acme.time_passes()


def test_a_paused_run_sends_nothing_until_it_is_resumed(acme: Company) -> None:
    run_id = acme.runs()[0].id
    acme.call(control.pause, run_id, **now())
    acme.time_passes()
    assert (acme.work(), acme.effects(), acme.runs()[0].status) == ({}, {}, "paused")
    acme.call(control.resume, run_id, **now())
    acme.work()
    assert set(acme.effects()) == {"ann@x.co", "bob@x.co"}


def test_resuming_brings_nothing_before_its_schedule(world: World) -> None:
    acme = company(world.engine, world.ledger)
    acme.ready()
    run_id = acme.launch(scheduled_for=datetime.now(UTC) + timedelta(hours=2)).run_id
    acme.call(control.pause, run_id, **now())
    acme.call(control.resume, run_id, **now())
    assert (acme.work(), acme.effects()) == ({}, {})


def test_what_is_cancelled_is_counted_apart_from_what_had_gone(acme: Company) -> None:
    send.work(acme.worker(), max_jobs=1)
    gone = len(acme.effects())
    run_id = acme.runs()[0].id
    held_back = acme.call(control.cancel, run_id, **now())
    run_out(acme)
    run = acme.runs()[0]
    assert len(acme.effects()) == gone == run.accepted
    assert (run.status, run.cancelled, run.suppressed) == ("cancelled", held_back, 1)
    parts = (
        run.accepted
        + run.rejected
        + run.suppressed
        + run.unknown
        + run.cancelled
        + run.expired
        + run.abandoned
    )
    assert (parts, run.intended) == (5, 5)


def test_a_cancellation_that_came_too_late_is_told(acme: Company) -> None:
    run_out(acme)
    with pytest.raises(RefusedError, match="partial: nothing was changed"):
        acme.call(control.cancel, acme.runs()[0].id, **now())


def test_a_cancellation_stops_a_worker_between_two_waves(world: World) -> None:
    acme = company(world.engine, world.ledger, [f"p{n:02}@x.co" for n in range(80)])
    acme.ready()
    run_id = acme.launch().run_id
    waves = []

    def at(point: str) -> None:
        if point == "outcomes committed":
            waves.append(point)
            if len(waves) == 1:
                acme.call(control.cancel, run_id, **now())

    send.work(acme.worker(at=at))
    run = acme.runs()[0]
    assert (len(waves), run.status) == (1, "cancelled")
    assert (run.accepted, run.cancelled) == (len(acme.effects()), 80 - len(acme.effects()))


def test_a_retry_takes_up_what_may_end_otherwise_and_touches_nobody_else(acme: Company) -> None:
    run_out(acme)
    first = acme.runs()[0]
    query = "select address, xmin::text, ctid::text from delivery.channel_outbox where not is_retryable order by 1"
    before, items = acme.pinned(query), acme.items()
    assert (first.status, items["later-cy@x.co"], items["no-di@x.co"]) == ("partial", "failed", "failed")
    acme.ledger.open_up(str(acme.account_id))
    again = acme.call(control.retry, first.id, **now())
    run_out(acme)
    root, child = acme.runs()
    assert before
    assert set(before) <= set(acme.pinned(query))
    assert (again.items, child.retry_of_run_id, child.root_run_id) == (1, root.id, root.id)
    assert (child.status, child.intended, child.accepted) == ("completed", 1, 1)
    assert (root.status, root.accepted, root.rejected) == ("partial", 2, 2)
    assert acme.effects() == {"ann@x.co": 1, "bob@x.co": 1, "later-cy@x.co": 1}
    assert len(acme.pinned("select distinct idempotency_key from delivery.channel_outbox")) == 5


def test_the_same_request_for_a_retry_again_gives_the_first(acme: Company) -> None:
    run_out(acme)
    root = acme.runs()[0].id
    first, again = (acme.call(control.retry, root, request_id="again", **now()) for _ in range(2))
    assert (again.run_id, again.replayed, len(acme.runs())) == (first.run_id, True, 2)


def test_two_retries_at_once_take_an_item_up_once(acme: Company) -> None:
    run_out(acme)
    root = acme.runs()[0].id
    told: list[object] = []

    def ask() -> None:
        try:
            told.append(acme.call(control.retry, root, **now()))
        except RefusedError as error:
            told.append(str(error))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(each, control.Retried) for each in told) == 1
    assert len(acme.runs()) == 2


def test_a_run_that_goes_on_is_not_retried(acme: Company) -> None:
    with pytest.raises(RefusedError, match="wait until it has ended"):
        acme.call(control.retry, acme.runs()[0].id, **now())


def test_nothing_that_was_refused_for_good_is_retried(world: World) -> None:
    acme = company(world.engine, world.ledger, ["no-a@x.co", "b@x.co"])
    acme.ready()
    acme.launch()
    acme.work()
    with pytest.raises(RefusedError, match="nothing to retry"):
        acme.call(control.retry, acme.runs()[0].id, **now())


def test_a_retry_asks_for_an_approval_that_is_good(acme: Company) -> None:
    run_out(acme)
    later = {"actor": "ann", "at": datetime.now(UTC) + timedelta(hours=80)}
    with pytest.raises(RefusedError, match="approval of its content has run out"):
        acme.call(control.retry, acme.runs()[0].id, **later)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("sender = 'other@x.co'", "another one than was approved"),
        ("is_connected = false", "not connected: test it first"),
    ],
)
def test_a_retry_asks_for_the_account_that_was_approved(acme: Company, change: str, told: str) -> None:
    run_out(acme)
    acme.pinned(f"update delivery.provider_accounts set {change}")
    with pytest.raises(RefusedError, match=told):
        acme.call(control.retry, acme.runs()[0].id, **now())


def test_a_stop_without_a_reason_is_refused(acme: Company) -> None:
    with pytest.raises(RefusedError, match="needs its reason"):
        acme.call(control.stop_account, "mail", reason=" ", **now())


def test_stops_and_starts_of_an_account_stay_in_its_audit(acme: Company) -> None:
    acme.call(control.stop_account, "mail", reason="bounces", **now())
    acme.call(control.start_account, "mail", actor="bob", at=datetime.now(UTC), reason="the list is clean")
    acme.call(control.stop_account, "mail", reason="bounces again", **now())
    told = [(each.is_stop, each.by, each.reason) for each in acme.call(views.switches)]
    assert told == [
        (True, "ann", "bounces again"),
        (False, "bob", "the list is clean"),
        (True, "ann", "bounces"),
    ]
    assert acme.call(audit.broken) == {}
