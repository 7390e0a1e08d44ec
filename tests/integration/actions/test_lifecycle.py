"""An action moves only along its table, one step at a time, each step on record."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from kernel import tenancy
from kernel.actions import lifecycle
from kernel.actions.lifecycle import BY_WORD, TERMINAL, TRANSITIONS
from kernel.decisions.contract import GateReading, payload_hash
from kernel.errors import RefusedError
from models.vocabulary import DEAD_EXECUTION_STATUSES, EXECUTION_STATUSES
from tests.fakes.approved import NOW, action, approve, company, one, row_of
from tests.integration.actions.proposals import status, steps, store


def advance(engine: sa.Engine, tenant_id, action_id, expected, to, **more) -> bool:
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        told = {"at": NOW, "actor": "test"} | more
        return lifecycle.advance(connection, tenant_id, action_id, expected=expected, to=to, **told)


def allowed(status: str) -> set[str]:
    """What advance may do; the words of approvers go another way."""
    return {to for to in TRANSITIONS[status] if (status, to) not in BY_WORD}


def test_every_status_has_its_row_and_the_ends_are_the_dead_ones():
    assert set(TRANSITIONS) == set(EXECUTION_STATUSES)
    assert set().union(*TRANSITIONS.values()) <= set(EXECUTION_STATUSES)
    assert set(DEAD_EXECUTION_STATUSES) == TERMINAL


def test_every_status_can_be_reached_and_every_live_one_can_end():
    reached, ends = {"proposed", "awaiting_ack", "approved"}, set(TERMINAL)
    for _ in EXECUTION_STATUSES:
        reached |= {to for status in reached for to in TRANSITIONS[status]}
        ends |= {status for status, following in TRANSITIONS.items() if following & ends}
    assert reached == ends == set(EXECUTION_STATUSES)


def test_no_sequence_of_calls_leaves_the_machine(engine: sa.Engine):
    of = company(engine)
    statuses = st.sampled_from(EXECUTION_STATUSES)

    class Machine(RuleBasedStateMachine):
        @initialize(first=st.sampled_from(["proposed", "awaiting_ack", "approved"]))
        def start(self, first: str) -> None:
            (self.id,) = approve(engine, of.id, action(), execution_status=first)
            self.status, self.trail = first, []

        @rule(expected=st.lists(statuses, min_size=1, max_size=3, unique=True).map(tuple), to=statuses)
        def try_anything(self, expected: tuple[str, ...], to: str) -> None:
            try:
                moved = advance(engine, of.id, self.id, expected, to)
            except RefusedError:
                assert any(to not in allowed(status) for status in expected)
                return
            assert all(to in allowed(status) for status in expected)
            assert moved == (self.status in expected)
            if moved:
                self.trail.append((self.status, to))
                self.status = to

        @rule(pick=st.integers(0, 99))
        def go_on(self, pick: int) -> None:
            if following := sorted(allowed(self.status)):
                self.try_anything((self.status,), following[pick % len(following)])

        @invariant()
        def the_database_agrees(self) -> None:
            assert status(engine, self.id) == self.status
            assert steps(engine, self.id) == self.trail

    some = settings(
        max_examples=15,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(Machine, settings=some)


def test_of_two_who_move_an_action_at_once_one_wins(engine: sa.Engine):
    of = company(engine)
    for _ in range(5):
        (id_,) = approve(engine, of.id, action())
        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(lambda _: advance(engine, of.id, id_, "approved", "claimed"), range(4)))  # noqa: B023
        assert sorted(won) == [False, False, False, True]
        assert steps(engine, id_) == [("approved", "claimed")]


def test_no_program_approves_or_rejects_in_place_of_a_person(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action(requires_acknowledgment=True), execution_status="awaiting_ack")
    for to in ("approved", "rejected"):
        with pytest.raises(RefusedError, match=f"becomes {to} by an approver's word alone"):
            advance(engine, of.id, id_, "awaiting_ack", to)


def test_an_action_of_another_tenant_is_not_moved(engine: sa.Engine):
    mine, theirs = company(engine), company(engine)
    (id_,) = approve(engine, theirs.id, action())
    assert not advance(engine, mine.id, id_, "approved", "claimed")
    assert status(engine, id_) == "approved"


def test_a_step_that_cannot_be_recorded_is_not_made(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    with pytest.raises(sa.exc.IntegrityError):
        advance(engine, of.id, id_, "approved", "claimed", actor=None)
    assert status(engine, id_) == "approved"


def test_a_step_sets_the_columns_it_is_given_and_says_who_and_why(engine: sa.Engine):
    of = company(engine)
    (id_,) = approve(engine, of.id, action())
    assert advance(
        engine, of.id, id_, "approved", "aborted", note="no more", detail={"a": 1}, reason="no more", closed_at=NOW
    )  # fmt: skip
    row = row_of(engine, id_)
    assert (row.reason, row.closed_at, row.status, row.updated_at) == ("no more", NOW, "aborted", NOW)
    found = "select actor || ' ' || note || ' ' || detail::text from spine.action_events"
    assert one(engine, found) == 'test no more {"a": 1}'


@pytest.mark.parametrize(
    ("mode", "needed", "first"),
    [("enforce", True, "awaiting_ack"), ("enforce", False, "approved"), ("shadow", True, "proposed")],
)
def test_a_proposal_waits_only_when_the_kernel_says_so_and_never_in_shadow(engine, mode, needed, first):
    of = company(engine)
    made = action(requires_acknowledgment=needed, acknowledgment_why="because" if needed else "")
    gate = GateReading(
        gate="cash_constrained", state="unknown", value=None, threshold=6, margin=None,
        metric_id="cash_runway_months", metric_date=None, snapshot_id=None, why="it is missing",
    )  # fmt: skip
    (id_,) = store(engine, of.id, made, mode=mode, gates=[gate])
    row = row_of(engine, id_)
    assert row.execution_status == first
    assert row.expires_at == (None if mode == "shadow" else NOW + timedelta(hours=72))
    assert row.payload_hash == payload_hash(type(made).model_validate(row.payload))
    assert row.gate_states["cash_constrained"]["state"] == "unknown"
    assert steps(engine, id_) == [(None, first)]


def test_what_is_live_already_is_left_out_and_named(engine: sa.Engine, caplog: pytest.LogCaptureFixture):
    of = company(engine)
    store(engine, of.id, action(family="touches"))
    again, other = action(family="touches"), action(family="other")
    with caplog.at_level(logging.WARNING):
        (kept,) = store(engine, of.id, again, other)
    assert row_of(engine, kept).action_id == other.action_id
    assert f"{again.action_id} is left out" in caplog.text
    assert other.action_id not in caplog.text


def test_what_is_dead_does_not_keep_its_family_away(engine: sa.Engine):
    of = company(engine)
    (first,) = store(engine, of.id, action(family="touches"))
    assert advance(engine, of.id, first, "approved", "aborted")
    assert len(store(engine, of.id, action(family="touches"))) == 1


def test_shadow_proposals_stand_beside_live_ones(engine: sa.Engine):
    of = company(engine)
    store(engine, of.id, action(family="touches"))
    assert len(store(engine, of.id, action(family="touches"), mode="shadow")) == 1


def test_an_action_whose_partner_is_left_out_is_left_out_too(engine: sa.Engine):
    of = company(engine)
    store(engine, of.id, action(family="take"))
    take = action(family="take")
    give = action(family="give", dependencies=(take.action_id,))
    assert store(engine, of.id, take, give) == []
    assert one(engine, "select count(*) from spine.optimization_actions") == 1


def test_a_cycle_without_actions_stores_none(engine: sa.Engine):
    assert store(engine, company(engine).id) == []
