"""Work for people: who reports it done, what ends with it, and that nothing is learned from it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import baseline, dispatch, observe, results, snapshot
from kernel.actions.configuration import Value
from kernel.errors import RefusedError
from tests.fakes.approved import NOW, Clock, Company, action, approve, company, means, one, row_of
from tests.fakes.measured import no_gates, observed, result_rows
from tests.integration.actions.proposals import ANA, MAX, STRANGER, call, people, status, steps

LATER = NOW + timedelta(hours=5)
END = NOW + timedelta(days=14)
ALERT = {"subsystem": "data", "field": "ticket", "new": None, "type": "alert"}


def handed_over(world: sa.Engine, of: Company) -> UUID:
    """An action that has written its ticket; with baselines, as production opens them."""
    (id_,) = approve(world, of.id, action(**ALERT))
    given = means(capture=snapshot.capture, record_baseline=baseline.record)
    assert dispatch.run_due(world, **given).applied == 1
    return id_


def in_doubt(world: sa.Engine, of: Company) -> UUID:
    """An action whose target holds something else, with the ticket that says so."""

    class Elsewhere:
        def read(self, address):
            return Value(5 if self.sent else None)

        sent = False

        def write(self, address, value, idempotency_key):
            self.sent = True

    (id_,) = approve(world, of.id, action())
    assert dispatch.run_due(world, **means(port=Elsewhere())).verify_failed == 1
    return id_


def ticket_of(world: sa.Engine, id_: UUID) -> UUID:
    return one(world, "select id from spine.action_tickets where optimization_action_id = :id", id=id_)


def ticket(world: sa.Engine, id_: UUID) -> tuple[str, str | None, str | None]:
    with world.begin() as connection:
        tenancy.service(connection)
        query = "select status, resolved_by, resolution from spine.action_tickets where optimization_action_id = :id"
        return tuple(connection.execute(sa.text(query), {"id": id_}).one())


def learned(world: sa.Engine, of: Company) -> tuple:
    with world.begin() as connection:
        tenancy.service(connection)
        return results.recent(connection, [of.id])[of.id]


def test_a_ticket_is_not_measured_as_if_it_had_changed_something(world, of):
    id_ = handed_over(world, of)
    early = observe.close_due(world, Clock(END - timedelta(seconds=1)), gates_of=no_gates)
    assert early.closed == ()
    (done,) = observe.close_due(world, Clock(END), gates_of=no_gates).closed
    assert (done.action_id, done.outcome) == (id_, "not_measurable")
    row = row_of(world, id_)
    assert (row.execution_status, row.reason) == ("closed", observe.NOT_A_CHANGE)
    rows = result_rows(world, id_).values()
    assert {each.metadata["why"] for each in rows} == {observe.NOT_A_CHANGE}
    assert learned(world, of) == ()
    assert ticket(world, id_)[0] == "open"  # whoever was asked may do it yet


def test_a_ticket_takes_no_credit_from_a_change(world, of):
    changed = observed(world, of.id, action(target_metric="win_rate"))
    observed(world, of.id, action(**ALERT, target_metric="win_rate"))
    observe.close_due(world, Clock(END + timedelta(days=31)), gates_of=no_gates)
    assert result_rows(world, changed)["win_rate"].metadata["confounded_by"] == []


def test_a_ticket_that_is_done_ends_its_action_at_once(world, of):
    id_ = handed_over(world, of)
    assert call(world, "done", of, MAX, ticket_of(world, id_), "loaded the ledger", LATER) == "closed"
    assert ticket(world, id_) == ("done", str(MAX), "loaded the ledger")
    row = row_of(world, id_)
    assert (row.execution_status, row.outcome, row.closed_at) == ("closed", "not_measurable", LATER)
    assert steps(world, id_)[-1] == ("observing", "closed")
    assert learned(world, of) == ()


def test_a_ticket_about_a_change_leaves_the_change_alone(world, of):
    id_ = in_doubt(world, of)
    assert call(world, "done", of, MAX, ticket_of(world, id_), "looked", LATER) == "verify_failed"
    assert status(world, id_) == "verify_failed"


@pytest.mark.parametrize(
    ("who", "why", "told"),
    [
        (STRANGER, "done", "does not belong to the tenant: add a membership first"),
        (MAX, " ", "needs a word on what was done"),
    ],
)
def test_a_ticket_is_done_by_somebody_of_the_tenant_who_says_what_was_done(world, of, who, why, told):
    id_ = handed_over(world, of)
    with pytest.raises(RefusedError, match=told):
        call(world, "done", of, who, ticket_of(world, id_), why, LATER)
    assert ticket(world, id_) == ("open", None, None)


def test_a_ticket_is_done_once_and_by_its_own_tenant(world, of):
    id_ = handed_over(world, of)
    other = company(world)
    people(world, other.id)
    with pytest.raises(RefusedError, match="is no open ticket of the tenant"):
        call(world, "done", other, MAX, ticket_of(world, id_), "done", LATER)
    call(world, "done", of, MAX, ticket_of(world, id_), "first", LATER)
    with pytest.raises(RefusedError, match="is no open ticket of the tenant"):
        call(world, "done", of, ANA, ticket_of(world, id_), "second", LATER)
    assert ticket(world, id_) == ("done", str(MAX), "first")


def test_an_approver_leaves_what_failed_verification_as_it_is(world, of):
    id_ = in_doubt(world, of)
    call(world, "settle", of, ANA, id_, "five is right", LATER)
    row = row_of(world, id_)
    assert (row.execution_status, row.outcome, row.reason) == ("closed", "not_measurable", "five is right")
    assert ticket(world, id_) == ("done", str(ANA), "five is right")
    assert learned(world, of) == ()


def test_only_an_approver_settles_and_only_what_failed_verification(world, of):
    id_ = in_doubt(world, of)
    with pytest.raises(RefusedError, match="max is no approver of the tenant"):
        call(world, "settle", of, MAX, id_, "five is right", LATER)
    with pytest.raises(RefusedError, match="settling needs its reason"):
        call(world, "settle", of, ANA, id_, "", LATER)
    (waits,) = approve(world, of.id, action(field="auto_assign", new=True))
    with pytest.raises(RefusedError, match="the action is approved: only what is verify_failed is settled"):
        call(world, "settle", of, ANA, waits, "never mind", LATER)
    assert (status(world, id_), ticket(world, id_)[0]) == ("verify_failed", "open")
