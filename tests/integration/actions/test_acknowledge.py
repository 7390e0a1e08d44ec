"""Who may say what about an action, to which content, and until when."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import acknowledge, budget
from kernel.errors import RefusedError
from tests.fakes.approved import NOW, action, approve, company, one, row_of
from tests.integration.actions.proposals import (
    ANA,
    LATER,
    MAX,
    OLGA,
    STRANGER,
    call,
    shown,
    status,
    steps,
    store,
    waiting,
)

# Approving and rejecting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [ANA, OLGA])
def test_an_approver_or_owner_approves_what_was_shown(engine, of, who):
    id_ = waiting(engine, of.id)
    call(engine, "approve", of, who, id_, shown(engine, id_), LATER)
    row = row_of(engine, id_)
    assert (row.execution_status, row.acknowledged_by, row.acknowledged_at) == ("approved", who, LATER)
    assert row.acknowledged_hash == row.payload_hash
    assert steps(engine, id_) == [(None, "awaiting_ack"), ("awaiting_ack", "approved")]


@pytest.mark.parametrize("who", [MAX, STRANGER])
def test_whoever_is_no_approver_changes_nothing(engine, of, who):
    id_ = waiting(engine, of.id)
    before = row_of(engine, id_)
    acts = (
        ("approve", id_, before.payload_hash, LATER), ("reject", id_, "no", LATER),
        ("snooze", id_, LATER, NOW), ("edit", id_, 5, "less", LATER), ("abort", id_, "no", LATER),
    )  # fmt: skip
    for what, *args in acts:
        with pytest.raises(RefusedError, match="no approver of the tenant: ask an approver or owner"):
            call(engine, what, of, who, *args)
    assert row_of(engine, id_) == before


def test_an_approver_of_one_tenant_is_nobody_in_another(engine, of):
    other = company(engine)
    id_ = waiting(engine, other.id)
    with pytest.raises(RefusedError, match="no approver of the tenant"):
        call(engine, "approve", other, ANA, id_, shown(engine, id_), LATER)
    with pytest.raises(RefusedError, match="the tenant has no action"):
        call(engine, "approve", of, ANA, id_, shown(engine, id_), LATER)
    assert status(engine, id_) == "awaiting_ack"


def test_a_stale_hash_approves_nothing(engine, of):
    id_ = waiting(engine, of.id)
    with pytest.raises(RefusedError, match="the action is not what was shown"):
        call(engine, "approve", of, ANA, id_, "0" * 64, LATER)
    assert status(engine, id_) == "awaiting_ack"


def test_what_was_answered_is_not_answered_again(engine, of):
    id_ = waiting(engine, of.id)
    call(engine, "reject", of, ANA, id_, "too early", LATER)
    with pytest.raises(RefusedError, match="the action is rejected, not awaiting_ack: nothing was changed"):
        call(engine, "approve", of, ANA, id_, shown(engine, id_), LATER)
    row = row_of(engine, id_)
    assert (row.execution_status, row.reason, row.closed_at) == ("rejected", "too early", LATER)


def test_a_rejection_needs_its_reason(engine, of):
    id_ = waiting(engine, of.id)
    with pytest.raises(RefusedError, match="a rejection needs its reason"):
        call(engine, "reject", of, ANA, id_, "  ", LATER)


def test_an_action_is_answered_until_its_last_moment_and_not_at_it(engine, of):
    first, second = waiting(engine, of.id), waiting(engine, of.id)
    end = NOW + timedelta(hours=72)
    call(engine, "approve", of, ANA, first, shown(engine, first), end - timedelta(microseconds=1))
    with pytest.raises(RefusedError, match="the action expired at"):
        call(engine, "approve", of, ANA, second, shown(engine, second), end)


def test_a_refusal_leaves_the_transaction_usable(engine, of):
    id_ = waiting(engine, of.id)
    with engine.begin() as connection:
        with pytest.raises(RefusedError):
            acknowledge.approve(connection, of.id, ANA, id_, "wrong", LATER)
        acknowledge.reject(connection, of.id, ANA, id_, "wrong", LATER)
    assert status(engine, id_) == "rejected"


def test_what_nobody_answered_expires_for_every_tenant(engine, of):
    other = company(engine)
    ids = [waiting(engine, of.id), waiting(engine, other.id)]
    (free,) = store(engine, of.id, action())
    with engine.begin() as connection:
        tenancy.service(connection)
        assert acknowledge.expire_due(connection, NOW + timedelta(hours=71)) == 0
        assert acknowledge.expire_due(connection, NOW + timedelta(hours=72)) == 2
        assert acknowledge.expire_due(connection, NOW + timedelta(hours=73)) == 0
    assert {status(engine, id_) for id_ in ids} == {"expired"}
    assert status(engine, free) == "approved"


def test_the_service_itself_cannot_mark_an_unseen_payload_as_approved(engine, of):
    id_ = waiting(engine, of.id)
    with pytest.raises(sa.exc.IntegrityError, match="approved_payload"):
        one(
            engine, "update spine.optimization_actions set execution_status = 'approved' where id = :id returning 1",
            id=id_,
        )  # fmt: skip


# Stopping ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["awaiting_ack", "approved", "scheduled", "claimed"])
def test_what_was_never_applied_is_aborted_and_gives_its_budget_back(engine, of, first):
    (id_,) = approve(engine, of.id, action(), execution_status=first)
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        budget.reserve(connection, of.id, id_, 10, NOW)
    assert call(engine, "abort", of, ANA, id_, "changed our mind", LATER) == "aborted"
    row = row_of(engine, id_)
    assert (row.execution_status, row.reason) == ("aborted", "changed our mind")
    assert one(engine, "select sum(month_amount) from spine.budget_entries") == 0


@pytest.mark.parametrize("first", ["applied", "observing", "verify_failed"])
def test_what_may_stand_outside_is_taken_back_first(engine, of, first):
    (id_,) = approve(engine, of.id, action(), execution_status=first)
    assert call(engine, "abort", of, ANA, id_, "it hurts", LATER) == "abort_requested"
    assert status(engine, id_) == "abort_requested"


def test_what_is_being_sent_or_has_ended_is_not_aborted(engine, of):
    (sending,) = approve(engine, of.id, action(), execution_status="applying")
    (ended,) = approve(engine, of.id, action(), execution_status="closed")
    with pytest.raises(
        RefusedError, match="the action is applying and cannot be aborted: wait until it is settled"
    ):
        call(engine, "abort", of, ANA, sending, "stop", LATER)
    with pytest.raises(RefusedError, match="the action is closed and cannot be aborted: nothing was changed"):
        call(engine, "abort", of, ANA, ended, "stop", LATER)


def test_only_what_was_applied_can_be_taken_back(engine, of):
    (id_,) = store(engine, of.id, action())
    with pytest.raises(RefusedError, match="only what is applied can be taken back"):
        call(engine, "request_revert", of, ANA, id_, "no", LATER)


# Members -------------------------------------------------------------------------------------------------------------
