"""The rules that are asked again at the last moment: gates, the approval, the payload, the budget."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from kernel.actions import acknowledge, budget, dispatch, lifecycle, matrix
from kernel.actions.configuration import Denied, Transient
from kernel.decisions import gates
from kernel.decisions.contract import GateReading
from kernel.errors import RefusedError
from tests.fakes import measured
from tests.fakes.approved import NOW, Clock, action, approve, budget_change, company, one, row_of
from tests.integration.actions.dispatching import Port, run
from tests.integration.actions.proposals import ANA, people


def test_a_gate_that_closed_since_the_approval_aborts_with_its_sentence(engine, monkeypatch):
    of = company(engine)
    (id_,) = approve(engine, of.id, budget_change(of))
    monkeypatch.setattr(gates, "blocks", lambda *_: "cash_constrained is triggered: it adds spend")
    assert run(engine).aborted == 1
    row = row_of(engine, id_)
    assert (row.execution_status, row.reason) == ("aborted", "cash_constrained is triggered: it adds spend")
    assert one(engine, "select daily_budget from spine.spine_campaign_channels") == 100
    assert one(engine, "select count(*) from spine.action_intents") == 0


def cash(state: str) -> GateReading:
    return GateReading(
        gate="cash_constrained", state=state, value=Decimal(7), threshold=Decimal(6), margin=Decimal(1),
        metric_id="cash_runway_months", metric_date=NOW.date(), snapshot_id=None, why=f"runway is {state}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "now", "status"),
    [
        ("clear", "clear", "observing"),
        ("clear", "triggered", "awaiting_ack"),
        ("clear", "unknown", "awaiting_ack"),
        ("unknown", "triggered", "awaiting_ack"),
        ("triggered", "triggered", "observing"),
        ("triggered", "clear", "observing"),
    ],
)
def test_an_approval_holds_while_no_gate_closed_since(engine, before, now, status):
    of = company(engine)
    protective = action(requires_acknowledgment=True, attributes={"window_days": 7})
    (id_,) = approve(engine, of.id, protective, gate_states=lifecycle.seen([cash(before)]))
    run(engine, gates_of=lambda *_: (cash(now),))
    row = row_of(engine, id_)
    assert (row.execution_status, row.acknowledged_hash is None) == (status, status == "awaiting_ack")
    assert row.gate_states["cash_constrained"]["state"] == (now if status == "awaiting_ack" else before)
    assert one(engine, "select count(*) from spine.action_intents") == (status == "observing")


def test_what_was_approved_again_under_the_gates_of_now_is_applied(engine):
    of = company(engine)
    people(engine, of.id)
    protective = action(requires_acknowledgment=True, attributes={"window_days": 7})
    (id_,) = approve(engine, of.id, protective, gate_states=lifecycle.seen([cash("clear")]))
    assert run(engine, gates_of=lambda *_: (cash("triggered"),)).withheld == 1
    with engine.begin() as connection:
        acknowledge.approve(connection, of.id, ANA, id_, row_of(engine, id_).payload_hash, NOW)
    assert run(engine, gates_of=lambda *_: (cash("triggered"),)).applied == 1


def test_a_free_action_needs_no_new_word_when_a_gate_closes_that_does_not_concern_it(engine):
    of = company(engine)
    approve(engine, of.id, action(attributes={"window_days": 7}))
    assert run(engine, gates_of=lambda *_: (cash("triggered"),)).applied == 1


@pytest.mark.parametrize("rule", [(matrix, "validate"), (budget, "reserve")])
def test_a_change_that_breaks_a_rule_by_now_is_aborted_with_its_sentence(engine, monkeypatch, rule):
    def refuse(*_: Any, **__: Any) -> None:
        raise RefusedError("it is too much")

    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    monkeypatch.setattr(*rule, refuse)
    assert run(engine).aborted == 1
    assert row_of(engine, id_).reason == "it is too much"


def test_a_payload_that_is_not_the_approved_one_is_never_applied(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action(new=7), payload=action(new=9).model_dump(mode="json"))
    port = Port(engine)
    assert run(engine, port=port).aborted == 1
    assert row_of(engine, id_).reason == "the payload is not the one that was approved"
    assert not port.sent


def test_an_approval_that_ran_out_expires(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action(), expires_at=NOW)
    assert run(engine).expired == 1
    assert row_of(engine, id_).execution_status == "expired"


def test_a_value_that_moved_since_the_proposal_is_left_alone(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, budget_change(of, current="80"))
    assert run(engine).aborted == 1
    assert "is '100' by now and was '80'" in row_of(engine, id_).reason


def test_while_gates_are_unknown_spend_does_not_grow(engine: sa.Engine):
    measured.prepare(engine)
    of = company(engine)
    attributes = {"window_days": 7, "increases_spend": True, "daily_spend_change": "20"}
    (id_,) = approve(engine, of.id, budget_change(of, attributes=attributes))
    assert dispatch.run_due(engine, clock=Clock(), sleep=lambda seconds: None, worker="w1").aborted == 1
    assert "unknown" in row_of(engine, id_).reason
    assert one(engine, "select count(*) from spine.budget_entries") == 0


def test_spend_is_reserved_with_the_intent_and_given_back_when_the_change_fails(engine: sa.Engine):
    of = company(engine)
    attributes = {"window_days": 7, "increases_spend": True, "daily_spend_change": "20"}
    approve(engine, of.id, budget_change(of, attributes=attributes))
    clock, port = Clock(), Port(engine, write=(Transient("busy"), Denied("no right")))
    committed = "select sum(daily_amount) from spine.budget_entries"
    assert run(engine, clock=clock, port=port).retried == 1
    assert one(engine, committed) == 20
    clock.move(minutes=1)
    assert run(engine, clock=clock, port=port).failed == 1
    assert one(engine, committed) == 0


def test_an_increase_beyond_the_months_cap_is_aborted(engine: sa.Engine):
    of = company(engine)
    attributes = {"window_days": 7, "increases_spend": True, "daily_spend_change": "99000"}
    (id_,) = approve(engine, of.id, budget_change(of, attributes=attributes))
    assert run(engine).aborted == 1
    assert "monthly_budget_cap" in row_of(engine, id_).reason
    assert one(engine, "select count(*) from spine.action_intents") == 0


def test_giving_up_releases_what_was_reserved_once(engine, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(budget, "reserve", lambda *_: calls.append("reserve"))
    monkeypatch.setattr(budget, "release", lambda *_, **__: calls.append("release"))
    of = company(engine)
    approve(engine, of.id, budget_change(of))
    clock, port = Clock(), Port(engine, write=(Transient("busy"),) * 3)
    for _ in range(3):
        run(engine, clock=clock, port=port)
        clock.move(minutes=20)
    assert calls == ["reserve", "release"]
