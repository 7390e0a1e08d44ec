"""Approved actions are carried out once, in turn, under rules asked again at the last moment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import configuration, dispatch, intents
from kernel.actions.configuration import Transient
from tests.fakes import measured
from tests.fakes.approved import NOW, Clock, action, approve, budget_change, company, one, row_of
from tests.integration.actions.dispatching import Port, run


def events(engine: sa.Engine, action_id: Any) -> list[str]:
    with engine.begin() as connection:
        tenancy.service(connection)
        query = "select to_status from spine.action_events where optimization_action_id = :id order by at, from_status"
        return [row.to_status for row in connection.execute(sa.text(query), {"id": action_id})]


def test_an_approved_action_is_applied_read_back_and_observed(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, budget_change(of))
    report = run(engine)
    row = row_of(engine, id_)
    assert report == dispatch.DispatchReport(applied=1)
    assert (row.execution_status, row.applied_at) == ("observing", NOW)
    assert row.observation_ends_at == NOW + timedelta(days=14)
    assert row.lease_token is None
    assert one(engine, "select daily_budget from spine.spine_campaign_channels") == 120
    assert set(events(engine, id_)) == {"claimed", "applying", "applied", "observing"}


def test_the_intent_is_committed_before_the_target_is_touched(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    seen = []

    class Watching(Port):
        def write(self, address: configuration.Address, value: Any, key: str) -> None:
            seen.append(
                one(engine, "select state from spine.action_intents where idempotency_key = :key", key=key)
            )
            super().write(address, value, key)

    run(engine, port=Watching(engine))
    assert seen == ["recorded"]
    assert one(engine, "select state from spine.action_intents") == "confirmed"
    assert one(engine, "select idempotency_key from spine.action_intents") == intents.key(of.id, id_, "apply")


def test_what_is_not_approved_is_not_touched(engine: sa.Engine):
    of = company(engine)
    for status in ("proposed", "awaiting_ack", "rejected", "observing"):
        approve(engine, of.id, action(), execution_status=status)
    assert run(engine).taken == 0


def test_every_tenants_first_action_comes_before_any_tenants_second(engine: sa.Engine):
    first, second = company(engine), company(engine)
    of_first = approve(engine, first.id, *(action(rank=rank) for rank in (1, 2, 3)))
    of_second = approve(engine, second.id, action(rank=7), created_at=NOW)
    assert run(engine, limit=2).applied == 2
    assert row_of(engine, of_first[0]).execution_status == "observing"
    assert row_of(engine, of_second[0]).execution_status == "observing"
    assert row_of(engine, of_first[1]).execution_status == "approved"


def test_the_actions_of_a_tenant_that_is_switched_off_stay_as_they_are(engine: sa.Engine):
    of = company(engine, enabled=False)
    (id_,) = approve(engine, of.id, action())
    before = row_of(engine, id_)
    assert run(engine).taken == 0
    assert row_of(engine, id_) == before


def test_the_actions_of_a_suspended_tenant_wait(engine: sa.Engine):
    of = company(engine)
    approve(engine, of.id, action())
    one(engine, "update spine.tenants set status = 'suspended' returning true")
    assert run(engine).taken == 0


def test_switching_a_tenant_off_after_the_claim_keeps_its_action_approved(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())

    class SwitchingOff(Port):
        def read(self, address: configuration.Address) -> configuration.Value:
            one(engine, "update spine.tenants set revenue_os_enabled = false returning true")
            return super().read(address)

    port = SwitchingOff(engine)
    assert run(engine, port=port).withheld == 1
    row = row_of(engine, id_)
    assert (row.execution_status, row.attempts, row.lease_token) == ("approved", 0, None)
    assert not port.sent


def test_an_action_waits_for_what_it_depends_on(engine: sa.Engine):
    of = company(engine)
    saving = budget_change(of, new="80", requires_acknowledgment=True)
    spending = action(rank=1, dependencies=(saving.action_id,))
    saved, spent = approve(engine, of.id, saving, spending)
    port = Port(engine, write=(Transient("busy"),))
    clock = Clock()
    report = run(engine, port=port, clock=clock)
    assert (report.retried, report.taken) == (1, 1)
    assert row_of(engine, spent).execution_status == "approved"
    clock.move(minutes=1)
    assert run(engine, port=port, clock=clock).applied == 1
    assert row_of(engine, saved).execution_status == "observing"
    assert run(engine, port=port, clock=clock).applied == 1
    assert row_of(engine, spent).execution_status == "observing"


def test_an_action_whose_dependency_failed_is_aborted(engine: sa.Engine):
    of = company(engine)
    saving = budget_change(of, new="80", current="70")
    (_, spent) = approve(engine, of.id, saving, action(dependencies=(saving.action_id,)))
    assert run(engine).aborted == 1
    assert run(engine).aborted == 1
    assert row_of(engine, spent).reason == f"it depends on {saving.action_id}, and that is aborted"


def test_a_running_channel_that_the_spine_calls_active_is_paused(engine: sa.Engine):
    of = company(engine)
    approve(
        engine,
        of.id,
        action(
            "campaigns", "status", "paused", current="active", type="pause", entity=("channel", of.channel)
        ),
    )
    assert run(engine).applied == 1
    assert one(engine, "select status from spine.spine_campaign_channels") == "paused"


def test_the_state_before_is_captured_with_the_whole_entity(engine: sa.Engine):
    of = company(engine)
    approve(engine, of.id, budget_change(of))
    captured = []
    run(engine, capture=lambda *args, **_: captured.append(args[2:]))
    ((row, moment, at, entity),) = captured
    assert (moment, at) == ("before", NOW)
    assert entity == {"budget_daily": "100", "status": "running", "bidding_strategy": {}}
    assert row["target_metric"] == "win_rate_pct"


def test_by_default_gates_snapshot_and_baselines_come_from_the_days_metrics(engine: sa.Engine):
    measured.prepare(engine)
    of = company(engine)
    approve(engine, of.id, action())
    report = dispatch.run_due(engine, clock=Clock(), sleep=lambda seconds: None, worker="w1")
    assert report == dispatch.DispatchReport(applied=1)
    gate_states = one(engine, "select gate_states from spine.action_snapshots where moment = 'before'")
    assert {gate["state"] for gate in gate_states.values()} == {"unknown"}
    assert (
        one(engine, "select count(*) from spine.optimization_action_results where baseline_value is null")
        >= 5
    )
