"""Several workers, and workers that are slow: every change is sent once."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import configuration, dispatch, intents
from kernel.actions.configuration import PostgresConfiguration
from models.statements import statements
from tests.fakes.approved import Clock, action, approve, company, count_writes, means, row_of, writes
from tests.integration.actions.dispatching import Port, run


def test_a_worker_that_lost_its_lease_settles_nothing(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    clock, outcomes = Clock(), []

    class Slow(Port):
        def write(self, address: configuration.Address, value: Any, key: str) -> None:
            clock.move(minutes=6)
            outcomes.append(dispatch.reconcile(engine, **means(clock=clock, worker="w2")))
            clock.move(minutes=6)
            outcomes.append(dispatch.run_due(engine, **means(clock=clock, worker="w2")))
            super().write(address, value, key)

    count_writes(engine)
    assert run(engine, port=Slow(engine), clock=clock).lost == 1
    assert [outcomes[0].retried, outcomes[1].applied] == [1, 1]
    assert row_of(engine, id_).execution_status == "observing"
    assert writes(engine, of.id) == 1


def test_a_worker_whose_lease_another_one_holds_leaves_settling_to_it(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    clock = Clock()

    class Slow(Port):
        def write(self, address: configuration.Address, value: Any, key: str) -> None:
            clock.move(minutes=6)
            with engine.begin() as connection:
                tenancy.service(connection)
                until = clock() + dispatch.LEASE
                given = {"now": clock(), "lease_until": until, "limit": 1}
                assert connection.execute(statements("dispatch")["claim_doubtful"], given).rowcount == 1
            super().write(address, value, key)

    assert run(engine, port=Slow(engine), clock=clock).lost == 1
    assert row_of(engine, id_).execution_status == "applying"
    clock.move(minutes=6)
    assert dispatch.reconcile(engine, **means(clock=clock, worker="w3")).applied == 1


def test_a_change_that_was_settled_is_not_repeated_by_a_worker_that_slept(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action(new=7))
    run(engine)
    port, address = (
        PostgresConfiguration(engine),
        configuration.Address(of.id, "crm", "tenant", "", "max_touches"),
    )
    port.write(address, 3, "undone")
    port.write(address, 7, intents.key(of.id, id_, "apply"))
    assert port.read(address).value == 3


def test_a_slow_batch_keeps_the_leases_of_those_that_wait(engine: sa.Engine):
    of = company(engine)
    approve(
        engine,
        of.id,
        *(action(field=field) for field in ("max_touches", "sequence_delay_days", "follow_up_sla_hours")),
    )
    clock = Clock()

    class Slow(Port):
        def write(self, address: configuration.Address, value: Any, key: str) -> None:
            clock.move(minutes=4)
            assert dispatch.run_due(engine, **means(clock=clock, worker="w2")).taken == 0
            super().write(address, value, key)

    assert run(engine, port=Slow(engine), clock=clock).applied == 3


def _compete(engine: sa.Engine) -> Counter[str]:
    """Two workers at once, the second claiming while the first holds; the sends of each key."""
    port, together = Port(engine), threading.Barrier(2)
    port.inner.write = lambda *_: None  # a target without any guard of its own
    read, seen = port.read, threading.local()

    def wait_once(address: configuration.Address) -> configuration.Value:
        if not hasattr(seen, "waited"):
            seen.waited = True
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.5)  # both have claimed before either goes on
        return read(address)

    port.read = wait_once  # type: ignore[method-assign]
    given = means(port=port)
    workers = [
        threading.Thread(target=dispatch.run_due, args=(engine,), kwargs=given | {"worker": name})
        for name in "ab"
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return port.sent


def test_two_workers_at_once_send_every_change_once(engine: sa.Engine):
    of = company(engine)
    ids = approve(engine, of.id, *(action() for _ in range(12)))
    sent = _compete(engine)
    assert sent == Counter({intents.key(of.id, id_, "apply"): 1 for id_ in ids})


def test_the_check_for_double_sends_sees_a_claim_without_compare_and_set(engine, monkeypatch):
    named = statements("dispatch")
    blind = str(named["claim"].text).replace("for update of actions skip locked", "").replace(
        "actions.execution_status in ('approved', 'scheduled')", "actions.execution_status in ('approved', 'claimed')"
    )  # fmt: skip
    monkeypatch.setitem(named, "claim", sa.text(blind))
    careless = str(named["held"].text).replace(
        "actions.lease_token = :token", "cast(:token as uuid) is not null"
    )
    careless = careless.replace("actions.execution_status = :status", "cast(:status as text) is not null")
    monkeypatch.setitem(named, "held", sa.text(careless))
    of = company(engine)
    approve(engine, of.id, *(action() for _ in range(4)))
    assert max(_compete(engine).values()) > 1
