"""The drill: one command stops everything for a tenant, and only for that tenant."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import budget, dispatch, emergency
from kernel.errors import RefusedError
from tests.fakes.approved import NOW, Company, action, approve, budget_change, company, means, one, row_of

WHY = {"actor": "olga", "reason": "spend runs away", "at": NOW}


def _stop(engine: sa.Engine, of: Company) -> emergency.Stop:
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        return emergency.disable(connection, of.id, **WHY)


def test_what_waits_is_aborted_and_what_stands_is_offered_for_revert(engine: sa.Engine) -> None:
    of = company(engine)
    [standing] = approve(engine, of.id, action())
    dispatch.run_due(engine, **means())
    waiting = approve(
        engine, of.id, action(field="sequence_delay_days", new=2), action(field="auto_assign", new=True)
    )
    stop = _stop(engine, of)
    assert set(stop.aborted) == set(waiting)
    assert stop.revertible == (
        (standing, "crm.max_touches: not set -> 7, in force since 2026-05-04 09:00 UTC"),
    )
    assert {row_of(engine, each).execution_status for each in waiting} == {"aborted"}
    assert row_of(engine, standing).execution_status == "observing"


def test_what_can_be_taken_back_is_told_in_words_and_no_ticket_is_among_it(engine: sa.Engine) -> None:
    of = company(engine)
    budget_id, *_ = approve(
        engine,
        of.id,
        budget_change(of),
        action("data", "ticket", None, type="alert"),
        action(field="auto_assign", new=True, attributes={"window_days": 14, "reversible": False}),
    )
    assert dispatch.run_due(engine, **means()).applied == 3
    told = dict(_stop(engine, of).revertible)
    assert told == {
        budget_id: "campaigns.budget_daily of paid_search in Spring: 100 -> 120, in force since 2026-05-04 09:00 UTC"
    }


def test_nothing_is_applied_after_the_stop(engine: sa.Engine) -> None:
    of = company(engine)
    [waiting] = approve(engine, of.id, action())
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        connection.execute(
            sa.text("update spine.tenants set revenue_os_enabled = false where id = :id"), {"id": of.id}
        )
    assert dispatch.run_due(engine, **means()).applied == 0
    assert row_of(engine, waiting).applied_at is None


def test_another_tenant_goes_on(engine: sa.Engine) -> None:
    of, other = company(engine), company(engine)
    [theirs] = approve(engine, other.id, action())
    _stop(engine, of)
    assert dispatch.run_due(engine, **means()).applied == 1
    assert row_of(engine, theirs).execution_status == "observing"


def test_reserved_spend_is_given_back(engine: sa.Engine) -> None:
    of = company(engine)
    [waiting] = approve(engine, of.id, budget_change(of))
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        budget.reserve(connection, of.id, waiting, 20, NOW)
    _stop(engine, of)
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        assert budget.committed(connection, of.id, NOW.date()) == 0


def test_the_incident_says_who_why_and_what(engine: sa.Engine) -> None:
    of = company(engine)
    [waiting] = approve(engine, of.id, action())
    stop = _stop(engine, of)
    detail = one(engine, "select detail from ops.incidents where id = :id", id=stop.incident_id)
    assert detail["aborted"] == [str(waiting)]
    assert one(engine, "select actor || ': ' || reason from ops.incidents") == "olga: spend runs away"


def test_a_stop_needs_a_reason(engine: sa.Engine) -> None:
    of = company(engine)
    with pytest.raises(RefusedError, match="needs its reason"), engine.begin() as connection:
        tenancy.service(connection, of.id)
        emergency.disable(connection, of.id, actor="olga", reason=" ", at=NOW)


def test_switching_on_begins_the_thirty_days_anew(engine: sa.Engine) -> None:
    of = company(engine, enabled=False)
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        emergency.enable(connection, of.id, actor="olga", reason="repaired", at=NOW)
    assert one(engine, "select revenue_os_activated_at from spine.tenants where id = :id", id=of.id) == NOW
