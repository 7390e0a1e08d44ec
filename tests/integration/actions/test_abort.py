"""Changes are taken back when their own conditions say so: once, to what stood before, and never over another's."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import abort, budget, dispatch, lifecycle, results
from kernel.actions.configuration import Address, PostgresConfiguration, Rejected, Transient
from tests.fakes import approved
from tests.fakes.approved import (
    NOW,
    Clock,
    Company,
    action,
    approve,
    budget_change,
    company,
    means,
    one,
    row_of,
)
from tests.fakes.measured import result_rows, write

DAY = NOW.date()
CONDITION = {"metric_id": "cac_blended", "operator": "gt", "threshold": "2500", "consecutive_days": 3}


def applied(engine: sa.Engine, of: Company, **more: Any) -> UUID:
    """A daily budget that dispatch has raised from 100 to 120."""
    more = {"guardrails": {"abort_conditions": [CONDITION]}, "target_metric": "cac_blended"} | more
    attributes = {"window_days": 14, "increases_spend": True, "daily_spend_change": "20"}
    (action_id,) = approve(engine, of.id, budget_change(of, attributes=attributes, **more))
    given = means()
    del given["record_baseline"]
    dispatch.run_due(engine, **given)
    assert row_of(engine, action_id).execution_status == "observing"
    return action_id


def ask(engine: sa.Engine, tenant_id: UUID, action_id: UUID) -> None:
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        assert lifecycle.advance(
            connection, tenant_id, action_id, expected="observing", to="abort_requested", at=NOW, actor="test"
        )


def undo(engine: sa.Engine, of: Company, action_id: UUID, port: Any = None, **more: Any) -> str:
    return abort.revert(engine, {"tenant_id": of.id, "id": action_id}, Clock(), port, **more)


def spend(engine: sa.Engine, of: Company) -> Decimal:
    return one(engine, "select daily_budget from spine.spine_campaign_channels where id = :id", id=of.channel)


def set_spend(engine: sa.Engine, of: Company, amount: int) -> None:
    with engine.begin() as connection:
        tenancy.service(connection, of.id)
        connection.execute(
            sa.text("update spine.spine_campaign_channels set daily_budget = :amount"), {"amount": amount}
        )


# Watching ------------------------------------------------------------------------------------------------------------


def breached(engine: sa.Engine, values: list[Any], *, days: int = 10, **condition: Any) -> str | None:
    """What the monitor notes when these are the values from the day after the change on."""
    of = company(engine)
    limits = {"guardrails": {"abort_conditions": [CONDITION | condition]}}
    applied(engine, of, **limits)
    write(engine, of.id, "cac_blended", DAY + timedelta(days=1), values, final=False)
    report = abort.check(engine, Clock(NOW + timedelta(days=days)))
    assert report.checked == 1
    assert report.failed == {}
    return report.breaches[0].note if report.breaches else None


def test_three_days_in_a_row_over_the_limit_ask_for_the_abort(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    write(world, of.id, "cac_blended", DAY + timedelta(days=1), [2400, 2600, 2700, 3100], final=False)
    report = abort.check(world, Clock(NOW + timedelta(days=5)))
    note = f"cac_blended was 3100 on {DAY + timedelta(days=4)}, above 2500 for 3 days in a row"
    assert [(breach.action_id, breach.note) for breach in report.breaches] == [(action_id, note)]
    row = row_of(world, action_id)
    assert (row.execution_status, row.reason) == ("abort_requested", note)
    told = "select note from spine.action_events where optimization_action_id = :id and to_status = 'abort_requested'"
    assert one(world, told, id=action_id) == note
    assert abort.check(world, Clock(NOW + timedelta(days=5))).breaches == ()


@pytest.mark.parametrize(
    "values",
    [
        [2600, 2600],  # too few
        [2600, 2600, 2400, 2600, 2600],  # not in a row
        [2600, 2600, None, 2600, 2600],  # an unknown day is no evidence
        [2500, 2500, 2500, 2500],  # at the limit is not above it
    ],
)
def test_what_is_not_three_days_over_the_limit_asks_for_nothing(world: sa.Engine, values: list[Any]) -> None:
    assert breached(world, values) is None


def test_infinite_is_above_every_limit(world: sa.Engine) -> None:
    note = breached(world, ["infinite"] * 3)
    assert note is not None
    assert note.startswith("cac_blended was infinite")


def test_a_floor_is_watched_as_well_as_a_ceiling(world: sa.Engine) -> None:
    note = breached(world, [40, 39], operator="lte", threshold="40", consecutive_days=2)
    assert note is not None
    assert "at or below 40 for 2 days in a row" in note


def test_what_was_so_before_the_change_is_not_held_against_it(world: sa.Engine) -> None:
    of = company(world)
    applied(world, of)
    write(world, of.id, "cac_blended", DAY - timedelta(days=5), [3000] * 8)
    assert abort.check(world, Clock(NOW + timedelta(days=3))).breaches == ()


def test_a_part_of_a_metric_does_not_breach_the_limit_of_the_whole(world: sa.Engine) -> None:
    of = company(world)
    applied(world, of)
    write(world, of.id, "cac_blended", DAY + timedelta(days=1), [3000] * 5, dimension={"channel": "email"})
    assert abort.check(world, Clock(NOW + timedelta(days=6))).breaches == ()


# Taking back -----------------------------------------------------------------------------------------------------


def test_a_revert_restores_what_stood_before_and_gives_the_budget_back(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    assert spend(world, of) == 120
    ask(world, of.id, action_id)
    assert abort.revert_due(world, Clock()) == abort.RevertReport({}, reverted=1)
    assert spend(world, of) == 100
    row = row_of(world, action_id)
    assert (row.execution_status, row.status) == ("reverted", "aborted")
    assert row.closed_at == NOW
    with world.begin() as connection:
        tenancy.service(connection, of.id)
        assert budget.committed(connection, of.id, DAY) == 20  # of the one day that it ran
    intents = (
        "select array_agg(state order by kind) from spine.action_intents where optimization_action_id = :id"
    )
    assert one(world, intents, id=action_id) == ["confirmed", "confirmed"]
    assert {found.metadata["outcome"] for found in result_rows(world, action_id).values()} == {
        "not_measurable"
    }
    assert abort.revert_due(world, Clock()) == abort.RevertReport({})


def test_a_breach_is_reverted_from_end_to_end(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    write(world, of.id, "cac_blended", DAY + timedelta(days=1), [2600] * 3)
    clock = Clock(NOW + timedelta(days=4))
    abort.check(world, clock)
    abort.revert_due(world, clock)
    assert (spend(world, of), row_of(world, action_id).execution_status) == (100, "reverted")
    with world.begin() as connection:
        tenancy.service(connection, of.id)
        [learned] = results.recent(connection, [of.id])[of.id]
    assert (learned.outcome, learned.economics, learned.weight) == ("hurt", "hurt", 1)


def test_a_value_that_somebody_else_set_is_left_and_a_person_is_asked(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    set_spend(world, of, 300)
    assert undo(world, of, action_id) == "drifted"
    assert spend(world, of) == 300
    row = row_of(world, action_id)
    assert (row.execution_status, row.status) == ("verify_failed", "failed")
    assert "'300'" in row.reason
    assert "'100'" in row.reason
    assert (
        one(world, "select body from spine.action_tickets where optimization_action_id = :id", id=action_id)
        == row.reason
    )
    assert one(world, "select count(*) from spine.action_intents where kind = 'revert'") == 0


def test_a_value_that_stands_there_again_is_not_written_once_more(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    set_spend(world, of, 100)
    approved.count_writes(world)
    assert undo(world, of, action_id) == "reverted"
    assert approved.writes(world, of.id) == 0


def test_a_drift_that_a_person_has_resolved_can_be_taken_back(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    set_spend(world, of, 300)
    undo(world, of, action_id)
    set_spend(world, of, 120)
    with world.begin() as connection:
        tenancy.service(connection, of.id)
        lifecycle.advance(
            connection, of.id, action_id, expected="verify_failed", to="abort_requested", at=NOW, actor="test"
        )
    assert undo(world, of, action_id) == "reverted"
    assert spend(world, of) == 100


def test_a_tenant_that_is_switched_off_still_gets_its_value_back(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    with world.begin() as connection:
        tenancy.service(connection)
        connection.execute(sa.text("update spine.tenants set revenue_os_enabled = false"))
    assert abort.revert_due(world, Clock()).reverted == 1
    assert spend(world, of) == 100


def test_a_ticket_is_withdrawn(world: sa.Engine) -> None:
    of = company(world)
    (action_id,) = approve(world, of.id, action("data", "note", "look", type="alert"))
    dispatch.run_due(world, **means())
    ask(world, of.id, action_id)
    assert undo(world, of, action_id) == "reverted"
    query = "select status || ' by ' || resolved_by || ': ' || resolution from spine.action_tickets"
    assert one(world, query) == "done by reverter: withdrawn: its action was taken back"


def test_an_action_that_never_left_is_aborted(world: sa.Engine) -> None:
    of = company(world)
    (action_id,) = approve(world, of.id, budget_change(of), execution_status="abort_requested")
    assert undo(world, of, action_id) == "aborted"
    assert row_of(world, action_id).execution_status == "aborted"


@pytest.mark.parametrize("state", ["observing", "approved", "reverted"])
def test_nothing_is_taken_back_that_was_not_asked_for(world: sa.Engine, state: str) -> None:
    of = company(world)
    (action_id,) = approve(world, of.id, budget_change(of), execution_status=state)
    assert undo(world, of, action_id) == "lost"


class Killed(BaseException):
    """The process is gone."""


POINTS = ("read", "recorded", "sent", "read back", "confirmed", "ended")


@pytest.mark.parametrize("point", POINTS)
def test_a_revert_that_is_killed_anywhere_ends_reverted_once(world: sa.Engine, point: str) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    approved.count_writes(world)
    passed: list[str] = []

    def kill(here: str) -> None:
        passed.append(here)
        if here == point:
            raise Killed

    with pytest.raises(Killed):
        undo(world, of, action_id, at=kill)
    assert passed == list(POINTS[: POINTS.index(point) + 1])
    assert undo(world, of, action_id) == "reverted"
    assert undo(world, of, action_id) == "lost"
    assert spend(world, of) == 100
    assert approved.writes(world, of.id) == 1
    events = "select count(*) from spine.action_events where optimization_action_id = :id and to_status = 'reverted'"
    assert one(world, events, id=action_id) == 1
    releases = (
        "select count(*) from spine.budget_entries where optimization_action_id = :id and daily_amount < 0"
    )
    assert one(world, releases, id=action_id) == 1


def test_one_revert_that_fails_does_not_keep_the_others(world: sa.Engine) -> None:
    broken, of = company(world), company(world)
    bad, good = applied(world, broken), applied(world, of)
    for tenant, action_id in ((broken, bad), (of, good)):
        ask(world, tenant.id, action_id)
    set_spend(world, broken, 300)
    with world.begin() as connection:
        tenancy.service(connection, broken.id)
        connection.execute(
            sa.text("update spine.optimization_actions set payload = '{}' where id = :id"), {"id": bad}
        )
    report = abort.revert_due(world, Clock())
    assert (report.reverted, list(report.failed)) == (1, [bad])
    assert row_of(world, bad).execution_status == "abort_requested"


def test_what_a_person_sets_while_a_revert_lies_dead_is_left(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)

    def kill(here: str) -> None:
        if here == "recorded":
            raise Killed

    with pytest.raises(Killed):
        undo(world, of, action_id, at=kill)
    set_spend(world, of, 300)
    assert undo(world, of, action_id) == "drifted"
    assert spend(world, of) == 300


class Failing(PostgresConfiguration):
    def __init__(self, engine: sa.Engine, error: Exception) -> None:
        super().__init__(engine)
        self._error = error

    def write(self, address: Address, value: Any, idempotency_key: str) -> None:
        raise self._error


def test_a_target_out_of_reach_is_tried_again_later(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    assert undo(world, of, action_id, Failing(world, Transient("gone for lunch"))) == "later"
    assert row_of(world, action_id).execution_status == "reverting"
    assert abort.revert_due(world, Clock()).reverted == 1


def test_a_target_that_refuses_is_a_persons_work(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    assert undo(world, of, action_id, Failing(world, Rejected("no such channel"))) == "drifted"
    assert row_of(world, action_id).reason == "no such channel"
    assert one(world, "select count(*) from spine.action_tickets") == 1


class Forgetful(PostgresConfiguration):
    """Says yes and keeps what it has."""

    def write(self, address: Address, value: Any, idempotency_key: str) -> None:
        pass


def test_a_target_that_has_not_followed_yet_is_not_called_reverted(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    assert undo(world, of, action_id, Forgetful(world)) == "later"


def test_of_two_workers_one_takes_back(world: sa.Engine) -> None:
    of = company(world)
    action_id = applied(world, of)
    ask(world, of.id, action_id)
    other: list[str] = []
    undo(
        world,
        of,
        action_id,
        at=lambda here: other.append(undo(world, of, action_id)) if here == "recorded" else None,
    )
    assert other == ["lost"]
    assert row_of(world, action_id).execution_status == "reverted"
