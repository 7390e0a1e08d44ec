"""Approved actions are carried out once, in turn, under rules asked again at the last moment."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import acknowledge, budget, configuration, dispatch, intents, lifecycle, matrix
from kernel.actions.configuration import Denied, InDoubt, PostgresConfiguration, Transient
from kernel.decisions import gates
from kernel.decisions.contract import GateReading
from kernel.errors import RefusedError
from models.statements import statements
from tests.fakes import measured
from tests.fakes.approved import (
    NOW,
    Clock,
    action,
    approve,
    budget_change,
    company,
    count_writes,
    means,
    one,
    row_of,
    settings_of,
    writes,
)
from tests.integration.actions.proposals import ANA, people


class Port:
    """Our own configuration behind errors on order: each is raised once; "after" ones once the write is done."""

    def __init__(self, engine: sa.Engine, *, write: tuple = (), after: tuple = (), read: tuple = ()) -> None:
        self.inner = PostgresConfiguration(engine)
        self.errors = {"write": list(write), "after": list(after), "read": list(read)}
        self.sent: Counter[str] = Counter()

    def _raise(self, kind: str) -> None:
        if self.errors[kind] and (error := self.errors[kind].pop(0)):
            raise error

    def read(self, address: configuration.Address) -> configuration.Value:
        self._raise("read")
        return self.inner.read(address)

    def write(self, address: configuration.Address, value: Any, key: str) -> None:
        self._raise("write")
        self.sent[key] += 1
        self.inner.write(address, value, key)
        self._raise("after")


def run(engine: sa.Engine, **more: Any) -> dispatch.DispatchReport:
    return dispatch.run_due(engine, **means(**more))


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
