"""Who may say what about an action, to which content, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import acknowledge, budget
from kernel.decisions.contract import Action, GateReading, payload_hash
from kernel.errors import RefusedError
from tests.fakes.approved import NOW, Company, action, approve, budget_change, company, one, row_of
from tests.integration.actions.proposals import (
    ANA,
    MAX,
    OLGA,
    STRANGER,
    people,
    status,
    steps,
    store,
    waiting,
)

LATER = NOW + timedelta(hours=1)
TRIGGERED = GateReading(
    gate="cash_constrained", state="triggered", value=3, threshold=6, margin=-3, metric_id="cash_runway_months",
    metric_date=NOW.date(), snapshot_id="s", why="3 is below 6 months",
)  # fmt: skip


@pytest.fixture
def of(engine: sa.Engine) -> Company:
    made = company(engine)
    people(engine, made.id)
    return made


def call(engine: sa.Engine, what: str, of: Company, *args, **named):
    with engine.begin() as connection:
        return getattr(acknowledge, what)(connection, of.id, *args, **named)


def shown(engine: sa.Engine, id_: UUID) -> str:
    return row_of(engine, id_).payload_hash


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


# What a user of the tenant can do with SQL alone ---------------------------------------------------------------------


@pytest.fixture
def member(engine: sa.Engine, of: Company):
    """Runs SQL as the role of a tenant's users, as one of them."""

    def run(statement: str, who: UUID = ANA, tenant: UUID = of.id, **given):
        with engine.begin() as connection:
            tenancy.member(connection, tenant)
            connection.execute(sa.text("select set_config('app.user_id', :who, true)"), {"who": str(who)})
            found = connection.execute(sa.text(statement), given)
            return found.all() if found.returns_rows else found.rowcount

    return run


APPROVE = "select spine.acknowledge_action(:id, :hash)"
REJECT = "select spine.reject_action(:id, :why)"


def fresh(engine: sa.Engine, of: Company, **more) -> UUID:
    """Proposed at this moment of the server, whose clock decides for members."""
    made = action(requires_acknowledgment=True, **more)
    return store(engine, of.id, made, at=datetime.now(UTC))[0]


def test_a_member_reads_and_approves_but_writes_no_table(engine, of, member):
    id_ = fresh(engine, of)
    for statement in (
        "update spine.optimization_actions set execution_status = 'approved'",
        "delete from spine.optimization_actions",
        "update spine.user_tenants set role = 'owner'",
        "insert into spine.user_tenants (tenant_id, user_id, name, role)"
        f" values ('{of.id}', gen_random_uuid(), 'me', 'owner')",
        "insert into spine.action_events (tenant_id, optimization_action_id, at, to_status, actor)"
        f" values ('{of.id}', '{id_}', now(), 'approved', 'ana')",
        "update spine.tenants set revenue_os_enabled = true",
        "insert into spine.budget_entries (tenant_id, optimization_action_id, month, daily_amount, month_amount,"
        f" at, reason) values ('{of.id}', '{id_}', '2026-05-01', -1, -1, now(), 'x')",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            member(statement)
    assert [row.id for row in member("select id from spine.optimization_actions")] == [id_]
    member(APPROVE, id=id_, hash=shown(engine, id_))
    assert status(engine, id_) == "approved"


def test_a_member_cannot_choose_the_instant(engine, of, member):
    id_ = waiting(engine, of.id)  # proposed long before the server's today
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied for function"):
        member("select spine.acknowledge_action(:id, :hash, :at)", id=id_, hash=shown(engine, id_), at=LATER)
    with pytest.raises(sa.exc.DBAPIError, match="the action expired at"):
        member(APPROVE, id=id_, hash=shown(engine, id_))
    with pytest.raises(sa.exc.DBAPIError, match="the action expired at"):
        member(REJECT, id=id_, why="late")


def test_a_member_neither_sees_nor_answers_another_tenants_action(engine, of, member):
    other = company(engine)
    id_ = fresh(engine, other)
    assert member("select id from spine.optimization_actions") == []
    with pytest.raises(sa.exc.DBAPIError, match="the tenant has no action"):
        member(APPROVE, id=id_, hash=shown(engine, id_))
    with pytest.raises(sa.exc.DBAPIError, match="no approver of the tenant"):
        member(APPROVE, tenant=other.id, id=id_, hash=shown(engine, id_))


def test_a_member_who_is_no_approver_or_unnamed_answers_nothing(engine, of, member):
    id_ = fresh(engine, of)
    for statement, word in ((APPROVE, {"hash": shown(engine, id_)}), (REJECT, {"why": "no"})):
        with pytest.raises(sa.exc.DBAPIError, match="no approver of the tenant"):
            member(statement, who=MAX, id=id_, **word)
    with pytest.raises(sa.exc.DBAPIError, match="no approver of the tenant"):
        member("select set_config('app.user_id', '', true), spine.acknowledge_action(:id, 'x')", id=id_)


def test_a_member_answers_neither_a_stale_hash_nor_their_own_proposal(engine, of, member):
    id_ = fresh(engine, of)
    with pytest.raises(sa.exc.DBAPIError, match="show it again and approve what you see then"):
        member(APPROVE, id=id_, hash="0" * 64)
    made = call(engine, "edit", of, ANA, id_, 5, "less", datetime.now(UTC), gates_of=lambda *_: ())
    with pytest.raises(sa.exc.DBAPIError, match="whoever proposed a change may not acknowledge it"):
        member(APPROVE, id=id_, hash=made)
    member(APPROVE, who=OLGA, id=id_, hash=made)
    assert row_of(engine, id_).acknowledged_by == OLGA


def test_the_service_itself_cannot_mark_an_unseen_payload_as_approved(engine, of):
    id_ = waiting(engine, of.id)
    with pytest.raises(sa.exc.IntegrityError, match="approved_payload"):
        one(
            engine, "update spine.optimization_actions set execution_status = 'approved' where id = :id returning 1",
            id=id_,
        )  # fmt: skip


# Putting off and changing --------------------------------------------------------------------------------------------


def test_snoozing_hides_until_then_and_extends_nothing(engine, of):
    id_ = waiting(engine, of.id)
    before = row_of(engine, id_)
    call(engine, "snooze", of, ANA, id_, NOW + timedelta(hours=24), LATER)
    row = row_of(engine, id_)
    assert (row.snoozed_until, row.expires_at) == (NOW + timedelta(hours=24), before.expires_at)
    assert row.execution_status == "awaiting_ack"
    for until in (before.expires_at, LATER):
        with pytest.raises(
            RefusedError, match="snooze until an instant between now and 2026-05-07 09:00 UTC"
        ):
            call(engine, "snooze", of, ANA, id_, until, LATER)


def edit(engine, of, id_, value, *, who=ANA, gates=(), why="less is enough", at=LATER) -> str:
    return call(engine, "edit", of, who, id_, value, why, at, gates_of=lambda *_: gates)


def test_an_edited_action_waits_for_somebody_else(engine, of):
    id_ = waiting(engine, of.id)
    before = row_of(engine, id_)
    made = edit(engine, of, id_, 5)
    row = row_of(engine, id_)
    assert (row.execution_status, row.proposed_by, row.expires_at) == ("awaiting_ack", ANA, before.expires_at)
    assert row.payload["proposed_change"]["new_value"] == 5
    assert made == row.payload_hash == payload_hash(Action.model_validate(row.payload)) != before.payload_hash
    with pytest.raises(RefusedError, match="the action is not what was shown"):
        call(engine, "approve", of, OLGA, id_, before.payload_hash, LATER)
    with pytest.raises(RefusedError, match="whoever proposed a change may not acknowledge it"):
        call(engine, "approve", of, ANA, id_, made, LATER)
    call(engine, "approve", of, OLGA, id_, made, LATER)
    assert status(engine, id_) == "approved"


def test_an_edited_action_tells_the_new_value_and_keeps_apart_what_the_kernel_said(engine, of):
    made = action(
        field="follow_up_sla_hours", new=3, current=6, type="experiment", requires_acknowledgment=True,
        notes_for_humans="Leads are due within 3 hours.", hypothesis="3 hours get more leads into a conversation",
    )  # fmt: skip
    (id_,) = store(engine, of.id, made)
    edit(engine, of, id_, 2, why="three is too slow.")
    row = row_of(engine, id_)
    assert row.notes_for_humans == (
        "ana proposes follow_up_sla_hours 2 in place of 3: three is too slow."
        " The kernel had said of its own proposal: Leads are due within 3 hours."
    )
    told = row.payload
    assert (told["notes_for_humans"], told["hypothesis"]) == (row.notes_for_humans, row.hypothesis)
    assert (
        row.hypothesis
        == told["experiment"]["hypothesis"]
        == "ana proposes follow_up_sla_hours 2: three is too slow."
    )
    assert told["proposed_change"]["description"] == "Set follow_up_sla_hours to 2, proposed by ana"
    edit(engine, of, id_, 4, who=OLGA, why="two is a lot")
    assert row_of(engine, id_).notes_for_humans == (
        "olga proposes follow_up_sla_hours 4 in place of 2: two is a lot."
        " The kernel had said of its own proposal: Leads are due within 3 hours."
    )


def waiting_budget(engine, of, new="120") -> UUID:
    made = budget_change(
        of, new, type="scale", requires_acknowledgment=True,
        attributes={"window_days": 14, "increases_spend": True, "scales_channel": True, "daily_spend_change": "20"},
    )  # fmt: skip
    return store(engine, of.id, made)[0]


@pytest.mark.parametrize(("value", "change", "grows"), [("150", "50", True), ("80", "-20", False)])
def test_what_an_edited_budget_does_is_worked_out_anew(engine, of, value, change, grows):
    id_ = waiting_budget(engine, of)
    edit(engine, of, id_, value)
    does = row_of(engine, id_).attributes
    assert (does["daily_spend_change"], does["increases_spend"], does["scales_channel"]) == (
        change,
        grows,
        grows,
    )


def test_an_edit_cannot_slip_past_a_gate(engine, of):
    id_ = waiting_budget(engine, of)
    with pytest.raises(RefusedError, match="cash_constrained is triggered: no spend may grow"):
        edit(engine, of, id_, "110", gates=[TRIGGERED])
    assert row_of(engine, id_).payload["proposed_change"]["new_value"] == "120"
    assert row_of(engine, id_).proposed_by is None


def test_a_deeper_discount_is_an_edit_that_reduces_margin(engine, of):
    id_ = waiting(engine, of.id, subsystem="pricing", field="discount_max_pct", current=20, new=15)
    edit(engine, of, id_, 25)
    assert row_of(engine, id_).attributes["reduces_margin"]
    edit(engine, of, id_, 10)
    assert not row_of(engine, id_).attributes["reduces_margin"]


@pytest.mark.parametrize(
    ("value", "why", "told"),
    [
        (21, "x", "crm.max_touches must be a whole number from 1 to 20, not 21"),
        (7, "x", "the action sets crm.max_touches to 7 as it is: approve it, or give another value"),
        (9, "x", "crm.max_touches is 9 already: reject the action instead"),
        (5, " ", "a change needs its reason"),
    ],
)
def test_an_edit_that_breaks_a_rule_is_refused(engine, of, value, why, told):
    id_ = waiting(engine, of.id, current=9)
    with pytest.raises(RefusedError, match=told):
        edit(engine, of, id_, value, why=why)


def test_only_what_waits_is_edited(engine, of):
    (id_,) = store(engine, of.id, action())
    with pytest.raises(RefusedError, match="the action is approved, not awaiting_ack"):
        edit(engine, of, id_, 5)
    late = waiting(engine, of.id)
    with pytest.raises(RefusedError, match="the action expired at"):
        edit(engine, of, late, 5, at=NOW + timedelta(hours=72))


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


def test_a_member_is_found_by_name_and_id_and_has_one_role(engine, of):
    assert call(engine, "find_member", of, "ana").user_id == ANA
    assert call(engine, "find_member", of, str(MAX)).role == "member"
    call(engine, "add_member", of, MAX, "max", "approver")
    assert call(engine, "find_member", of, "max").role == "approver"
    with pytest.raises(RefusedError, match="did you mean olga"):
        call(engine, "find_member", of, "olgo")
    with pytest.raises(RefusedError, match="role 'king' is unknown: use owner, approver, member"):
        call(engine, "add_member", of, MAX, "max", "king")
    call(engine, "add_member", of, STRANGER, "ana", "member")
    with pytest.raises(RefusedError, match="2 users named 'ana': give the id"):
        call(engine, "find_member", of, "ana")
