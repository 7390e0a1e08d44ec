"""When it is not known what a target holds: it is read before anything else, and nobody's value is written over."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import abort, acknowledge, dispatch, settlement
from kernel.actions.configuration import Address, PostgresConfiguration, Rejected
from tests.fakes.approved import NOW, Clock, Company, action, approve, budget_change, means, one, row_of
from tests.fakes.late import Late
from tests.integration.actions.proposals import OLGA, status

TICKETS = "select count(*) from spine.action_tickets"
SPEND = "select daily_budget from spine.spine_campaign_channels"


def set_spend(engine: sa.Engine, amount: int) -> None:
    with engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(
            sa.text("update spine.spine_campaign_channels set daily_budget = :amount"), {"amount": amount}
        )


# After the last attempt ------------------------------------------------------------------------------------------


def attempted_out(engine: sa.Engine, of: Company, port: Late, clock: Clock) -> UUID:
    """One attempt without an answer, then workers that die with the claim in their hands."""
    (id_,) = approve(engine, of.id, budget_change(of))
    assert dispatch.run_due(engine, **means(port=port, clock=clock)).retried == 1
    for _ in range(settlement.MAX_ATTEMPTS - 1):
        clock.move(minutes=10)
        dead = settlement.Worker(engine, clock, lambda seconds: None, "dead", dispatch.REGISTRY)
        assert len(dispatch._claim(dead, 10)) == 1
    clock.move(minutes=10)
    return id_


def test_what_arrived_late_is_confirmed_after_the_last_attempt(engine, of):
    port, clock = Late("100"), Clock()
    id_ = attempted_out(engine, of, port, clock)
    port.arrive()
    assert dispatch.run_due(engine, **means(port=port, clock=clock)).applied == 1
    assert (status(engine, id_), len(port.sent)) == ("observing", 1)


def test_what_has_not_arrived_after_the_last_attempt_is_given_up_with_a_ticket(engine, of):
    port, clock = Late("100"), Clock()
    id_ = attempted_out(engine, of, port, clock)
    assert dispatch.run_due(engine, **means(port=port, clock=clock)).failed == 1
    assert (status(engine, id_), len(port.sent), one(engine, TICKETS)) == ("apply_failed", 1, 1)


def test_what_cannot_be_read_stays_in_doubt_and_asks_a_person_once(engine, of):
    port, clock = Late("100"), Clock()
    id_ = attempted_out(engine, of, port, clock)
    port.readable = False
    assert dispatch.run_due(engine, **means(port=port, clock=clock)).in_doubt == 1
    for _ in range(3):
        clock.move(minutes=20)
        assert dispatch.reconcile(engine, **means(port=port, clock=clock)).in_doubt == 1
    assert (status(engine, id_), one(engine, TICKETS)) == ("applying", 1)
    port.readable = True
    port.arrive()
    clock.move(minutes=20)
    assert dispatch.reconcile(engine, **means(port=port, clock=clock)).applied == 1


def test_the_first_time_in_doubt_asks_nobody(engine, of):
    class Silent(Late):
        def write(self, *given: Any) -> None:
            self.readable = False
            super().write(*given)

    approve(engine, of.id, budget_change(of))
    assert dispatch.run_due(engine, **means(port=Silent("100"))).in_doubt == 1
    assert one(engine, TICKETS) == 0


def test_a_change_that_stands_though_it_was_refused_is_applied(engine, of):
    class Contradicting(Late):
        def write(self, *given: Any) -> None:
            super().write(*given)
            raise Rejected("422")

    approve(engine, of.id, budget_change(of))
    assert dispatch.run_due(engine, **means(port=Contradicting("100", answers=True))).applied == 1


def test_leases_that_cannot_be_renewed_end_no_run(engine, of):
    ids = approve(engine, of.id, *(action(entity=("segment", str(number))) for number in range(3)))
    clock = Clock()

    class Slow(PostgresConfiguration):
        def write(self, *given: Any) -> None:
            clock.move(minutes=4)
            super().write(*given)

    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create function public.fail() returns trigger language plpgsql as $$ begin raise 'busy'; end $$;"
            "create trigger fail before update of lease_until on spine.optimization_actions for each row"
            " when (new.lease_until > old.lease_until and new.execution_status = old.execution_status"
            " and new.lease_token = old.lease_token) execute function public.fail()"
        )
    assert dispatch.run_due(engine, **means(port=Slow(engine), clock=clock)).applied == len(ids)


# A person is quicker ---------------------------------------------------------------------------------------------


class PersonFirst(PostgresConfiguration):
    """A person changes the budget between the worker's read and its write."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.set = lambda: set_spend(engine, 10)

    def write(self, *given: Any) -> None:
        self.set()
        super().write(*given)


def test_what_a_person_sets_between_read_and_write_is_left(engine, of):
    (id_,) = approve(engine, of.id, budget_change(of))
    assert dispatch.run_due(engine, **means(port=PersonFirst(engine))).verify_failed == 1
    assert (one(engine, SPEND), status(engine, id_), one(engine, TICKETS)) == (10, "verify_failed", 1)


def test_what_a_person_sets_between_read_and_revert_is_left(engine, of):
    (id_,) = approve(engine, of.id, budget_change(of))
    dispatch.run_due(engine, **means())
    with engine.begin() as connection:
        acknowledge.abort(connection, of.id, OLGA, id_, "no more", NOW)
    assert abort.revert_due(engine, Clock(), PersonFirst(engine)).drifted == 1
    assert (one(engine, SPEND), status(engine, id_)) == (10, "verify_failed")


FIELDS = [
    ("campaigns", "channel", "budget_daily", "100", "120", "90"),
    ("campaigns", "channel", "status", "running", "paused", "ended"),
    ("campaigns", "channel", "bidding_strategy", {}, {"a": 1}, {"b": [None]}),
    ("campaigns", "campaign", "budget_total", "5000", "6000.5", "7"),
    ("campaigns", "campaign", "status", "running", "paused", "completed"),
    ("campaigns", "campaign", "target_segment", None, {"region": "EU"}, {"region": "US"}),
    ("campaigns", "campaign", "end_date", None, "2026-06-30", "2026-07-31"),
    ("crm", "tenant", "max_touches", None, 7, 8),
    ("crm", "tenant", "max_touches", 5, 7, 8),
]


@pytest.mark.parametrize(("subsystem", "kind", "field", "before", "new", "other"), FIELDS)
def test_every_field_is_written_from_what_was_read_and_from_nothing_else(
    engine, of, subsystem, kind, field, before, new, other
):
    entity = {"channel": str(of.channel), "campaign": str(of.campaign), "tenant": ""}[kind]
    address = Address(of.id, subsystem, kind, entity, field)
    port = PostgresConfiguration(engine)
    if before is not None and subsystem == "crm":
        port.write(address, before, "a person")
    assert port.read(address).value == before
    (id_,) = approve(engine, of.id, action(subsystem, field, new, entity=(kind, entity)))

    def intend(key: str, expected: Any) -> None:
        with engine.begin() as connection:
            tenancy.service(connection, of.id)
            made = dispatch.Intent(key, id_, "apply" if key == "right" else "revert", address, expected, new)
            dispatch.intents.record(connection, made, NOW)

    intend("stale", other)
    port.write(address, new, "stale")
    assert port.read(address).value == before
    intend("right", before)
    port.write(address, new, "right")
    assert port.read(address).value == new


def test_a_revert_after_a_drift_that_was_repaired_is_made(engine, of):
    (id_,) = approve(engine, of.id, budget_change(of))
    dispatch.run_due(engine, **means())

    class PersonAfter(PostgresConfiguration):
        def write(self, *given: Any) -> None:
            super().write(*given)
            set_spend(engine, 50)

    for port in (PersonAfter(engine), PostgresConfiguration(engine)):
        with engine.begin() as connection:
            acknowledge.abort(connection, of.id, OLGA, id_, "no more", NOW)
        abort.revert_due(engine, Clock(), port)
        if status(engine, id_) == "verify_failed":
            set_spend(engine, 120)
    assert (status(engine, id_), one(engine, SPEND)) == ("reverted", 100)


def test_a_target_that_takes_a_revert_no_more_is_a_persons_work(engine, of):
    (id_,) = approve(engine, of.id, budget_change(of))
    port = Late("100", answers=True)
    dispatch.run_due(engine, **means(port=port))
    with engine.begin() as connection:
        acknowledge.abort(connection, of.id, OLGA, id_, "no more", NOW)
    port.arrive = lambda: None
    outcomes = [abort.revert(engine, {"tenant_id": of.id, "id": id_}, Clock(), port) for _ in range(2)]
    assert outcomes == ["later", "drifted"]
    assert "set it by hand" in row_of(engine, id_).reason
