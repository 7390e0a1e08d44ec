"""Replays: the same twice, and nothing of them stays."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions import shadow
from tests.integration.decisions.world import HEALTHY, LAST_DAY, action, add_tenant, deciding, rows, write_day


def test_a_replay_is_the_same_twice_and_leaves_nothing(database: sa.Engine):
    tenant = add_tenant(database, "one")
    span = (LAST_DAY - timedelta(days=2), LAST_DAY)
    first, second = (
        list(shadow.backtest(database, [tenant], *span, decide=deciding(action()))) for _ in range(2)
    )
    assert first == second
    assert [item.day for item in first] == [span[0], span[0] + timedelta(days=1), span[1]]
    assert all(len(item.digest) == 64 for item in first)
    for table in ("spine.optimization_cycles", "spine.optimization_actions", "ops.kernel_cycle_slo"):
        assert rows(database, f"select 1 from {table}") == []


def test_a_changed_input_changes_the_digest(database: sa.Engine):
    tenant = add_tenant(database, "one")
    before = list(shadow.backtest(database, [tenant], LAST_DAY, LAST_DAY))
    write_day(database, tenant, LAST_DAY, HEALTHY | {"payback_months": 30})
    after = list(shadow.backtest(database, [tenant], LAST_DAY, LAST_DAY))
    assert before[0].gates == ()
    assert after[0].gates == ("payback_exceeded",)
    assert before[0].digest != after[0].digest


def test_a_day_that_cannot_be_decided_says_why_and_the_others_go_on(database: sa.Engine):
    tenant = add_tenant(database, "one", days=2)
    found = list(
        shadow.backtest(database, [tenant], LAST_DAY - timedelta(days=3), LAST_DAY, decide=deciding())
    )
    assert [item.why.split(":")[0] for item in found] == ["INSUFFICIENT_DATA", "INSUFFICIENT_DATA", "", ""]


def promise(**more):
    impact = {"metric_id": "payback_months", "direction": "decrease", "magnitude_pct": 8, "confidence": "0.5"}
    return action(
        target_metric="payback_months", target_direction="decrease", expected_impact=impact,
        expected_observation_window_days=4, **more,
    )  # fmt: skip


def test_promises_are_held_against_what_the_metric_did_by_itself(database: sa.Engine):
    tenant = add_tenant(database, "one", HEALTHY | {"payback_months": 10}, last=LAST_DAY - timedelta(days=5))
    for number in range(5):
        write_day(database, tenant, LAST_DAY - timedelta(days=number), HEALTHY | {"payback_months": 9})
    decided_on = LAST_DAY - timedelta(days=5)
    replayed = list(shadow.backtest(database, [tenant], decided_on, decided_on, decide=deciding(promise())))
    with database.begin() as connection:
        tenancy.service(connection)
        (found,) = shadow.foreseen(connection, replayed)
    # From ten months to nine is a tenth in the intended direction.
    assert (found.proposals, found.measured, found.predicted_pct, found.realised_pct) == (1, 1, 8, 10)


def test_a_promise_whose_window_is_not_over_is_not_held_against_anything(database: sa.Engine):
    tenant = add_tenant(database, "one")
    decided_on = LAST_DAY - timedelta(days=4)
    replayed = list(shadow.backtest(database, [tenant], decided_on, decided_on, decide=deciding(promise())))
    with database.begin() as connection:
        tenancy.service(connection)
        (found,) = shadow.foreseen(connection, replayed)
    assert (found.proposals, found.measured, found.realised_pct) == (1, 0, None)
