"""Replays: the same twice, and nothing of them stays."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

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
