"""Stopping what is on its way: nothing is lost of what an attempt may have done, and nothing goes on by itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import abort, acknowledge, dispatch, emergency, lifecycle, settlement
from kernel.actions.configuration import Transient
from kernel.decisions import bundle
from kernel.errors import RefusedError
from models.spine import spine_campaign_channels
from tests.fakes import measured
from tests.fakes.approved import (
    NOW,
    Clock,
    Company,
    action,
    approve,
    budget_change,
    company,
    means,
    one,
    row_of,
    settings_of,
)
from tests.fakes.late import Late
from tests.fakes.measured import write
from tests.integration.actions.proposals import ANA, OLGA, status, store, waiting

RAISE = {"window_days": 14, "increases_spend": True, "daily_spend_change": "20"}
COMMITTED = "select coalesce(sum(month_amount), 0) from spine.budget_entries"
TICKETS = "select count(*) from spine.action_tickets"
INTENT = "select state from spine.action_intents where kind = 'apply'"


def disable(engine: sa.Engine, of: Company) -> emergency.Stop:
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        return emergency.disable(connection, of.id, actor="olga", reason="spend runs away", at=NOW)


def enable(engine: sa.Engine, of: Company) -> None:
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        emergency.enable(connection, of.id, actor="olga", reason="repaired", at=NOW)


def by_a_person(engine: sa.Engine, of: Company, id_: UUID) -> None:
    with engine.begin() as connection:
        assert acknowledge.abort(connection, of.id, OLGA, id_, "no more", NOW) == "abort_requested"


def by_a_stop(engine: sa.Engine, of: Company, id_: UUID) -> None:
    stop = disable(engine, of)
    assert (stop.aborted, stop.in_flight) == ((), (id_,))


# The stop and the workers ----------------------------------------------------------------------------------------


def test_a_stop_amid_a_step_of_dispatch_waits_for_it(engine, of, monkeypatch):
    (id_,) = approve(engine, of.id, action())
    switched, stops = threading.Event(), []
    real_switch, real_held = emergency._switch, settlement.held

    def switch(*given: Any) -> None:
        real_switch(*given)
        switched.set()

    def held(*given: Any) -> Any:
        row = real_held(*given)
        stopper.start()
        switched.wait(0.3)
        return row

    stopper = threading.Thread(target=lambda: stops.append(disable(engine, of)))
    monkeypatch.setattr(emergency, "_switch", switch)
    monkeypatch.setattr(dispatch, "held", held)
    report = dispatch.run_due(engine, **means())
    stopper.join()
    assert (report.broken, report.applied, len(stops)) == (0, 1, 1)
    assert status(engine, id_) == "observing"


def test_a_stop_is_never_refused_by_a_deadlock(engine, of):
    for _ in range(3):
        approve(engine, of.id, *(action(entity=("segment", str(number))) for number in range(15)))
        with ThreadPoolExecutor(2) as pool:
            working = [pool.submit(dispatch.run_due, engine, **means(worker=name)) for name in "ab"]
            disable(engine, of)
        assert [each.result().broken for each in working] == [0, 0]
        enable(engine, of)


# What was attempted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [by_a_person, by_a_stop])
def test_a_stopped_change_that_arrived_after_all_is_taken_back(engine, of, stopped):
    (id_,) = approve(engine, of.id, budget_change(of, attributes=RAISE))
    port = Late("100")
    assert dispatch.run_due(engine, **means(port=port)).retried == 1
    port.arrive()
    stopped(engine, of, id_)
    port.answers = True
    assert abort.revert_due(engine, Clock(), port).reverted == 1
    assert (port.value, status(engine, id_), one(engine, INTENT)) == ("100", "reverted", "confirmed")
    assert one(engine, COMMITTED) == 20  # of the one day that it may have run


@pytest.mark.parametrize("stopped", [by_a_person, by_a_stop])
def test_a_stopped_change_that_never_arrived_is_aborted_and_gives_its_budget_back(engine, of, stopped):
    (id_,) = approve(engine, of.id, budget_change(of, attributes=RAISE))
    port = Late("100")
    dispatch.run_due(engine, **means(port=port))
    stopped(engine, of, id_)
    assert abort.revert_due(engine, Clock(), port).aborted == 1
    assert (status(engine, id_), one(engine, INTENT), one(engine, COMMITTED)) == ("aborted", "refused", 0)
    assert one(engine, TICKETS) == 1  # it had no answer and may be late


def test_a_stopped_change_whose_target_cannot_be_read_is_not_called_aborted(engine, of):
    (id_,) = approve(engine, of.id, budget_change(of, attributes=RAISE))
    port = Late("100")
    dispatch.run_due(engine, **means(port=port))
    port.readable = False
    by_a_person(engine, of, id_)
    assert abort.revert_due(engine, Clock(), port).later == 1
    assert (status(engine, id_), one(engine, COMMITTED)) == ("abort_requested", 560)


# Off and on again ------------------------------------------------------------------------------------------------


class StoppedAmidst(Late):
    """The tenant is stopped while the change is being sent, and the change fails in passing."""

    def __init__(self, engine: sa.Engine, of: Company) -> None:
        super().__init__(None)
        self.stop = lambda: disable(engine, of)

    def write(self, *given: Any) -> None:
        self.stop()
        raise Transient("busy")


def test_what_fails_in_passing_while_the_tenant_is_off_ends(engine, of):
    (id_,) = approve(engine, of.id, budget_change(of, current=None, attributes=RAISE))
    assert dispatch.run_due(engine, **means(port=StoppedAmidst(engine, of))).aborted == 1
    assert (status(engine, id_), one(engine, COMMITTED)) == ("aborted", 0)
    assert "the tenant was stopped" in row_of(engine, id_).reason


def test_what_a_stop_found_on_its_way_is_not_sent_after_switching_on(engine, of):
    (id_,) = approve(engine, of.id, action())

    class Killed(BaseException):
        pass

    class Dying(Late):
        def write(self, *given: Any) -> None:
            raise Killed

    with pytest.raises(Killed):
        dispatch.run_due(engine, **means(port=Dying(None)))
    assert disable(engine, of).in_flight == (id_,)
    enable(engine, of)
    clock = Clock()
    clock.move(hours=1)
    assert dispatch.reconcile(engine, **means(clock=clock)).aborted == 1
    assert dispatch.run_due(engine, **means(clock=clock)).taken == 0
    assert settings_of(engine, of.id) == {}


@pytest.mark.parametrize("first", ["approved", "scheduled", "claimed"])
def test_what_was_agreed_to_before_is_not_carried_out_after_switching_on(engine, first):
    of = company(engine, enabled=False)
    (id_,) = approve(engine, of.id, action(), execution_status=first)
    enable(engine, of)
    assert status(engine, id_) == "aborted"
    assert dispatch.run_due(engine, **means()).taken == 0


def test_switching_on_what_is_on_ends_nothing(engine, of):
    (id_,) = approve(engine, of.id, action())
    enable(engine, of)
    assert status(engine, id_) == "approved"


# Taking back what saved spend ------------------------------------------------------------------------------------


@pytest.fixture
def cut(engine: sa.Engine, of: Company) -> UUID:
    """A channel that was paused in favour of another; both together may not run any more."""
    measured.prepare(engine)
    channel = UUID(int=of.channel.int ^ 1)
    with engine.begin() as connection:
        tenancy.service(connection)
        config = {"max_daily_spend": "200", "reporting_currency": "USD"}
        tenancy.set_config(
            connection, of.id, config, author="x", reason="y", valid_from=NOW.replace(year=2025)
        )
        connection.execute(
            spine_campaign_channels.insert().values(
                tenant_id=of.id, id=channel, campaign_id=of.campaign, channel="paid_social", status="active",
                daily_budget=Decimal(100), is_paid=True,
            )
        )  # fmt: skip
        connection.execute(sa.text("update spine.tenants set cfo_expansion_enabled = false"))
    condition = {"metric_id": "pipeline_total", "operator": "lt", "threshold": "5", "consecutive_days": 1}
    pause = action(
        "campaigns", "status", "paused", current="running", type="pause", entity=("channel", channel),
        attributes={"window_days": 14, "reallocates_budget": True, "daily_spend_change": "-100"},
        guardrails={"abort_conditions": [condition]},
    )  # fmt: skip
    (id_,) = approve(engine, of.id, pause)
    assert dispatch.run_due(engine, **means()).applied == 1
    return id_


def raised(engine: sa.Engine, of: Company) -> None:
    grown = {**RAISE, "daily_spend_change": "100"}
    approve(engine, of.id, budget_change(of, "200", attributes=grown))
    assert dispatch.run_due(engine, **means()).applied == 1


def running(engine: sa.Engine) -> Decimal:
    return one(engine, "select sum(daily_budget) from spine.spine_campaign_channels where status = 'active'")


def test_the_monitor_leaves_a_saving_in_force_whose_room_is_taken_and_asks_a_person(engine, of, cut):
    raised(engine, of)
    write(engine, of.id, "pipeline_total", NOW.date().replace(day=NOW.day + 1), [1], final=False)
    clock = Clock()
    clock.move(days=2)
    for _ in range(2):
        assert abort.check(engine, clock).breaches == ()
    assert (status(engine, cut), running(engine), one(engine, TICKETS)) == ("observing", 200, 1)
    assert "max_daily_spend" in one(engine, "select body from spine.action_tickets")


def test_a_person_is_refused_too_with_the_sentence(engine, of, cut):
    raised(engine, of)
    told = "taking it back adds 100 a day, and max_daily_spend"
    with pytest.raises(RefusedError, match=told), engine.begin() as connection:
        acknowledge.request_revert(connection, of.id, OLGA, cut, "we miss it", NOW)
    assert status(engine, cut) == "observing"


def test_a_saving_whose_room_is_free_is_taken_back(engine, of, cut):
    with engine.begin() as connection:
        acknowledge.request_revert(connection, of.id, OLGA, cut, "we miss it", NOW)
    assert abort.revert_due(engine, Clock()).reverted == 1
    assert running(engine) == 200


def test_the_reverter_asks_again_before_it_spends(engine, of, cut):
    raised(engine, of)
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        lifecycle.advance(
            connection, of.id, cut, expected="observing", to="abort_requested", at=NOW, actor="test"
        )
    assert abort.revert_due(engine, Clock()).drifted == 1
    assert (status(engine, cut), running(engine)) == ("verify_failed", 200)


def test_a_closed_gate_keeps_a_saving_in_force(engine, of, cut):
    with engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(sa.text("update spine.tenants set cfo_expansion_enabled = true"))
    with engine.begin() as connection:
        assert any(gate.state == "unknown" for gate in bundle.gates_of(connection, of.id, NOW))
    with pytest.raises(RefusedError, match="is unknown: no spend may grow"), engine.begin() as connection:
        acknowledge.abort(connection, of.id, OLGA, cut, "we miss it", NOW)


def test_the_saving_that_another_action_counts_on_is_not_edited(engine, of):
    saving = budget_change(of, new="80", requires_acknowledgment=True)
    spending = action(requires_acknowledgment=True, dependencies=(saving.action_id,))
    saved, _ = store(engine, of.id, saving, spending)
    told = f"{spending.action_id} counts on this action as it is"
    with pytest.raises(RefusedError, match=told), engine.begin() as connection:
        acknowledge.edit(connection, of.id, ANA, saved, "99", "less", NOW, gates_of=lambda *_: ())


def test_what_nothing_counts_on_is_edited(engine, of):
    id_ = waiting(engine, of.id)
    with engine.begin() as connection:
        acknowledge.edit(connection, of.id, ANA, id_, 6, "less", NOW, gates_of=lambda *_: ())
    assert row_of(engine, id_).payload["proposed_change"]["new_value"] == 6
