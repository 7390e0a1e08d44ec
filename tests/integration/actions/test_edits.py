"""Putting an action off, and changing what it proposes."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from kernel.decisions.contract import Action, GateReading, payload_hash
from kernel.errors import RefusedError
from tests.fakes.approved import NOW, action, budget_change, row_of
from tests.integration.actions.proposals import ANA, LATER, OLGA, call, status, store, waiting

TRIGGERED = GateReading(
    gate="cash_constrained", state="triggered", value=3, threshold=6, margin=-3, metric_id="cash_runway_months",
    metric_date=NOW.date(), snapshot_id="s", why="3 is below 6 months",
)  # fmt: skip


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
