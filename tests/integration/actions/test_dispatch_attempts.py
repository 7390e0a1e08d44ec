"""What comes of a change that fails, hangs or reads back differently."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from kernel.actions import configuration, dispatch
from kernel.actions.configuration import Denied, InDoubt, PostgresConfiguration, Transient
from tests.fakes.approved import NOW, Clock, action, approve, company, means, one, row_of, settings_of
from tests.integration.actions.dispatching import Port, run


def test_what_may_pass_is_tried_again_later_and_given_up_after_three_attempts(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    clock, port = Clock(), Port(engine, write=(Transient("busy"),) * 3)
    waits = []
    for outcome in ("retried", "retried", "failed"):
        assert getattr(run(engine, clock=clock, port=port), outcome) == 1
        row = row_of(engine, id_)
        if row.next_attempt_at:
            waits.append(row.next_attempt_at - clock())
            clock.at = row.next_attempt_at - timedelta(seconds=1)
            assert run(engine, clock=clock, port=port).taken == 0
            clock.move(seconds=1)
    assert waits == [timedelta(minutes=1), timedelta(minutes=4)]
    assert (row.execution_status, row.reason) == ("apply_failed", "busy")
    assert one(engine, "select state from spine.action_intents") == "refused"


def test_the_wait_is_lengthened_by_chance(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    run(engine, port=Port(engine, write=(Transient("busy"),)), jitter=lambda: 0.8)
    assert row_of(engine, id_).next_attempt_at == NOW + timedelta(seconds=72)


def test_a_change_that_was_refused_is_not_tried_again(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action("content", "no_such_field"))
    assert run(engine).failed == 1
    assert "no field 'no_such_field'" in row_of(engine, id_).reason


def test_a_denied_change_asks_a_person_to_look(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    assert run(engine, port=Port(engine, write=(Denied("no right"),))).failed == 1
    assert row_of(engine, id_).execution_status == "apply_failed"
    assert one(engine, "select body from spine.action_tickets") == "no right"


def test_a_timeout_after_applying_is_found_by_reading_back(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    port = Port(engine, after=(InDoubt("no answer"),))
    assert run(engine, port=port).applied == 1
    assert sum(port.sent.values()) == 1
    assert row_of(engine, id_).execution_status == "observing"


def test_a_target_in_doubt_that_cannot_be_read_waits_and_is_settled_by_reading(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    clock = Clock()
    port = Port(engine, after=(InDoubt("no answer"),), read=(None, *(Transient("busy"),) * 3))
    assert run(engine, port=port, clock=clock).in_doubt == 1
    assert one(engine, "select state from spine.action_intents") == "in_doubt"
    assert dispatch.reconcile(engine, **means(port=port, clock=clock)).taken == 0
    clock.move(minutes=16)
    assert dispatch.reconcile(engine, **means(port=port, clock=clock)).applied == 1
    assert sum(port.sent.values()) == 1
    assert row_of(engine, id_).execution_status == "observing"


def test_a_value_that_reads_back_differently_fails_and_asks_a_person(engine: sa.Engine):
    class Rounding(Port):
        def write(self, address: configuration.Address, value: Any, key: str) -> None:
            super().write(address, 5, key)

    of = company(engine)
    (id_,) = approve(engine, of.id, action(new=7))
    slept: list[float] = []
    assert run(engine, port=Rounding(engine), sleep=slept.append).verify_failed == 1
    row = row_of(engine, id_)
    assert (row.execution_status, row.applied_at) == ("verify_failed", None)
    assert "is 5 after it was set to 7" in one(engine, "select body from spine.action_tickets")


def test_a_target_that_answers_a_moment_late_is_read_again(engine: sa.Engine):
    class Lagging(Port):
        late = 2

        def read(self, address: configuration.Address) -> configuration.Value:
            found = super().read(address)
            if self.sent and self.late:
                self.late -= 1
                return configuration.Value(None)
            return found

    of = company(engine)
    approve(engine, of.id, action())
    slept: list[float] = []
    assert run(engine, port=Lagging(engine), sleep=slept.append).applied == 1
    assert slept == [1, 3]


def test_a_change_of_somebody_else_between_attempts_is_not_overwritten(engine: sa.Engine):
    of = company(engine)
    approve(engine, of.id, action(new=7))
    clock, port = Clock(), Port(engine, write=(Transient("busy"),))
    run(engine, port=port, clock=clock)
    address = configuration.Address(of.id, "crm", "tenant", "", "max_touches")
    PostgresConfiguration(engine).write(address, 12, "a person")
    clock.move(minutes=1)
    assert run(engine, port=port, clock=clock).verify_failed == 1
    assert settings_of(engine, of.id) == {("crm", "max_touches"): 12}
    assert not port.sent


def test_an_error_of_the_program_stops_no_other_action(engine: sa.Engine):
    class Broken(Port):
        def write(self, address: configuration.Address, value: Any, key: str) -> None:
            if address.field == "max_touches":
                raise ZeroDivisionError
            super().write(address, value, key)

    of = company(engine)
    approve(engine, of.id, action(rank=1), action(field="auto_assign", new=True, rank=2))
    report = run(engine, port=Broken(engine))
    assert (report.broken, report.applied) == (1, 1)
