"""Who waits for whom: never for each other, and what is read after a wait is not older than it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import claim, control, reconcile, send, setup
from kernel.delivery.providers.base import unknown
from kernel.errors import RefusedError
from models.statements import statements
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import _Answering, company
from tests.integration.delivery.test_reconcile import Killed, case, lost, receive, reference

ANN, BOB = "ann@x.co", "bob@x.co"


def now() -> datetime:
    return datetime.now(UTC)


class During:
    """Does something in the middle of a statement's transaction, once."""

    def __init__(self, engine: sa.Engine, when: str, words: tuple[str, ...], what: Callable[[], Any]) -> None:
        self._engine, self._when, self._words, self._what = engine, when, words, what
        self._here, self._done = threading.current_thread(), False

    def __enter__(self) -> None:
        sa.event.listen(self._engine, self._when, self._seen)

    def __exit__(self, *_: object) -> None:
        sa.event.remove(self._engine, self._when, self._seen)

    def _seen(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        mine = threading.current_thread() is self._here
        if mine and not self._done and all(word in statement for word in self._words):
            self._done = True
            self._what()


def test_a_person_and_a_callback_settle_the_same_case_one_after_the_other(world: World) -> None:
    acme = lost(world, "none")
    event = {"event_id": "e1", "kind": "delivered", "reference": reference(acme)}
    callback = threading.Thread(target=receive, args=(acme, event))

    def comes() -> None:
        callback.start()
        time.sleep(0.5)

    resolved = None
    with During(acme.engine, "before_cursor_execute", ("campaign_runs", "no key update"), comes):
        try:
            acme.call(
                reconcile.resolve, case(acme).id, "rejected", actor="ann", note="their log is empty", at=now()
            )
        except RefusedError as error:
            resolved = str(error)
    callback.join()
    assert resolved is None or "was resolved as accepted" in resolved
    assert set(acme.items().values()) == {"sent"}, "the provider's word stands, whoever came first"


def test_two_callbacks_of_the_same_runs_wait_for_one_another(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN, BOB])
    acme.outcomes[ANN] = acme.outcomes[BOB] = unknown("timeout", "no answer")
    acme.ready()
    for occurrence in "ab":
        acme.launch(occurrence=occurrence)
    acme.work()
    rows = acme.pinned("select id::text from delivery.attempts order by run_id, id")
    of_a, also_a, of_b, also_b = (row[0] for row in rows)
    told: list[int] = []

    def tell(name: str, *references: str) -> None:
        events = (
            {"event_id": f"{name}{each}", "kind": "delivered", "reference": each} for each in references
        )
        told.append(receive(acme, *events))

    callbacks = [
        threading.Thread(target=tell, args=("x", of_a, of_b)), threading.Thread(target=tell, args=("y", also_b, also_a)),
    ]  # fmt: skip
    for each in callbacks:
        each.start()
    for each in callbacks:
        each.join()
    assert told == [2, 2]
    assert set(acme.items().values()) == {"sent"}


def test_the_time_of_a_wave_is_read_after_the_wait_for_its_job(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN])
    acme.ready()
    acme.launch()
    (job,) = claim.Queue().claim(acme.engine, "worker", 1, timedelta(minutes=5))
    seen: list[float] = []

    def hold() -> None:
        with acme.engine.begin() as connection:
            tenancy.service(connection, acme.tenant_id)
            row = send._held(connection, job)
            clock = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
            seen.append((clock - row.now).total_seconds())

    waiting = threading.Thread(target=hold)
    with acme.engine.begin() as connection:
        tenancy.service(connection, acme.tenant_id)
        connection.execute(
            statements("delivery")["lock_job"], {"tenant_id": acme.tenant_id, "job_id": job.job_id}
        )
        waiting.start()
        time.sleep(1)
    waiting.join()
    assert seen[0] < 0.5


def test_a_stop_that_came_while_a_wave_waited_for_the_caps_holds_it(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN, BOB])
    acme.call(setup.policy, "email", hourly_cap=5, daily_cap=5)
    acme.ready()
    acme.launch()

    def stop() -> None:
        acme.call(control.stop_account, "mail", actor="ann", reason="complaints", at=now())

    with acme.engine.begin() as holder:
        tenancy.service(holder, acme.tenant_id)
        window = {
            "tenant_id": acme.tenant_id, "channel": "email", "now": now(),
            "workspace_id": acme.pinned("select id from delivery.workspaces")[0][0],
        }  # fmt: skip
        holder.execute(statements("delivery")["room"], window)
        working = threading.Thread(target=acme.work)
        working.start()
        time.sleep(1)
        stop()
    working.join()
    assert acme.effects() == {}
    assert set(acme.items().values()) == {"queued"}


def test_an_answer_survives_deadlocks_and_an_id_that_was_given_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = company(world.engine, world.ledger, [ANN])
    acme.ready()
    acme.launch()
    settled, troubles = send._settle, [_deadlock(), _deadlock()]

    def troubled(worker: Any, job: Any, wave: Any, outcomes: Any, last_pause: Any) -> Any:
        if troubles:
            raise troubles.pop()
        if next(iter(outcomes.values())).state == "accepted":
            raise _broken("attempts_message_key")
        return settled(worker, job, wave, outcomes, last_pause)

    monkeypatch.setattr(send, "_settle", troubled)
    acme.work()
    assert acme.items() == {ANN: "unknown"}
    assert [row.error_code for row in acme.pinned("select error_code from delivery.attempts")] == [
        "repeated_id"
    ]


def _deadlock() -> sa.exc.OperationalError:
    return sa.exc.OperationalError("", {}, psycopg.errors.DeadlockDetected("deadlock detected"))


def _broken(constraint: str) -> sa.exc.IntegrityError:
    told = Exception("duplicate key")
    told.diag = SimpleNamespace(constraint_name=constraint)
    return sa.exc.IntegrityError("", {}, told)


def test_each_repeated_call_asks_anew_who_may_be_written_to(world: World) -> None:
    acme = company(world.engine, world.ledger, [ANN, BOB])
    acme.ready()
    acme.launch()

    def dies(point: str) -> None:
        if point == "attempts committed":
            raise Killed

    with pytest.raises(Killed):
        send.work(acme.worker(at=dies))
    acme.time_passes()
    provider, called = _Answering(acme), []
    sent = provider.send

    def first_one_opts_out(messages: Any, key: str) -> Any:
        if not called:
            acme.call(setup.suppress, [ANN, BOB], reason="opt_out", source="letter")
        called.append(messages[0].address)
        return sent(messages, key)

    provider.send = first_one_opts_out
    reconcile.settle_stalled(send.Worker(acme.engine, "settler", lambda _: provider))
    assert len(called) == 1
    assert sorted(acme.items().values()) == ["sent", "unknown"]
