"""Under which gates an approval holds: those that whoever gave it was shown."""

from __future__ import annotations

from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel.actions import acknowledge, dispatch, lifecycle
from kernel.decisions.contract import GateReading
from kernel.errors import RefusedError
from tests.fakes.approved import NOW, Company, action, means, row_of
from tests.integration.actions.proposals import ANA, LATER, MAX, status, steps, store


def cash(state: str) -> GateReading:
    return GateReading(
        gate="cash_constrained", state=state, value=3, threshold=6, margin=-3, metric_id="cash_runway_months",
        metric_date=NOW.date(), snapshot_id="s", why="3 is below 6 months",
    )  # fmt: skip


def approved_under(engine: sa.Engine, of: Company, proposed: str, shown_now: str | None) -> UUID:
    made = action(requires_acknowledgment=True, attributes={"window_days": 7})
    (id_,) = store(engine, of.id, made, gates=[cash(proposed)])
    gates = None if shown_now is None else [cash(shown_now)]
    with engine.begin() as connection:
        digest = row_of(engine, id_).payload_hash
        acknowledge.approve(connection, of.id, ANA, id_, digest, LATER, shown=gates)
    return id_


def test_a_gate_that_closed_before_the_approval_and_was_shown_does_not_have_the_approver_asked_again(
    engine, of
):
    id_ = approved_under(engine, of, "clear", "triggered")
    assert row_of(engine, id_).gate_states["cash_constrained"]["state"] == "triggered"
    assert steps(engine, id_) == [
        (None, "awaiting_ack"),
        ("awaiting_ack", "awaiting_ack"),
        ("awaiting_ack", "approved"),
    ]
    dispatch.run_due(engine, **means(gates_of=lambda *_: (cash("triggered"),)))
    assert status(engine, id_) == "observing"


@pytest.mark.parametrize(
    ("proposed", "shown_now", "then"),
    [
        ("clear", "clear", "triggered"),
        ("clear", "unknown", "triggered"),
        # It had opened when it was shown, so that it closed again is news.
        ("triggered", "clear", "triggered"),
        # Nobody was shown the gates of now.
        ("clear", None, "triggered"),
    ],
)
def test_a_gate_that_closes_after_the_approval_has_the_approver_asked_again(
    engine, of, proposed, shown_now, then
):
    id_ = approved_under(engine, of, proposed, shown_now)
    dispatch.run_due(engine, **means(gates_of=lambda *_: (cash(then),)))
    assert status(engine, id_) == "awaiting_ack"


def test_whoever_is_refused_binds_no_gates(engine, of):
    (id_,) = store(engine, of.id, action(requires_acknowledgment=True), gates=[cash("clear")])
    digest = row_of(engine, id_).payload_hash
    with engine.begin() as connection:
        with pytest.raises(RefusedError, match="no approver"):
            acknowledge.approve(connection, of.id, MAX, id_, digest, LATER, shown=[cash("triggered")])
        connection.execute(sa.text("select 1"))  # the transaction goes on and is committed
    assert row_of(engine, id_).gate_states == lifecycle.seen([cash("clear")])
    assert steps(engine, id_) == [(None, "awaiting_ack")]
