"""The weekly cycle looks at what closed since the last weights, and the next decision is as sure as it deserves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions import bundle, calibration, cycles
from kernel.decisions.contract import Trigger
from kernel.decisions.weights import DEFAULT_WEIGHTS
from tests.integration.actions.proposals import store
from tests.integration.decisions.world import (
    MORNING,
    action,
    add_tenant,
    at,
    cycles_of,
    execute,
    insert,
    rows,
)

CLAIMED = DEFAULT_WEIGHTS.families["max_touches"].stderr_pct


def measured(engine: sa.Engine, tenant: UUID, *effects: int) -> None:
    """Closed actions of one family that promised 5 %, with what each came to."""
    made = [action("max_touches", f"s{number}") for number in range(len(effects))]
    ids = store(engine, tenant, *made, at=MORNING - timedelta(days=20))
    execute(
        engine,
        "update spine.optimization_cycles set weights_version = 1, invoked_at = :at where tenant_id = :id",
        id=tenant, at=MORNING - timedelta(days=20),
    )  # fmt: skip
    for id_, effect in zip(ids, effects, strict=True):
        execute(
            engine,
            "update spine.optimization_actions set execution_status = 'closed', outcome = 'neutral',"
            " applied_at = :at, closed_at = :at where id = :id",
            id=id_, at=MORNING - timedelta(days=1),
        )  # fmt: skip
        execute(
            engine,
            "insert into spine.optimization_action_results (tenant_id, optimization_action_id, metric_id,"
            " observation_end_date, confidence, metadata)"
            " select tenant_id, id, target_metric, date '2026-06-30', 0.5, jsonb_build_object('effect_pct', cast(:effect as text),"
            " 'effect_stderr_pct', '1', 'weight', '1', 'economics', jsonb_build_object('outcome', 'neutral'))"
            " from spine.optimization_actions where id = :id",
            id=id_, effect=str(effect),
        )  # fmt: skip


def weights_of(engine: sa.Engine, tenant: UUID):
    with engine.begin() as connection:
        tenancy.service(connection)
        return bundle.weights(connection, [tenant], MORNING)[tenant]


def decide(engine: sa.Engine, source: str) -> cycles.CycleReport:
    asked = Trigger(type="scheduled", source=source, triggered_at=MORNING)
    return cycles.run(engine, None, clock=at(), trigger=asked)


def test_the_weekly_cycle_decides_with_errors_that_fit_the_misses(database: sa.Engine):
    tenant = add_tenant(database, "one")
    measured(database, tenant, 60, -50, 60, -50, 60)
    decide(database, bundle.WEEKLY)
    found = weights_of(database, tenant)
    assert found.version == 2
    assert found.families["max_touches"].stderr_pct == CLAIMED * 2
    assert {cycle.weights_version for cycle in cycles_of(database, tenant)} == {1, 2}
    (stored,) = rows(database, "select author, reason from spine.decision_weights")
    assert (stored.author, stored.reason) == ("calibration", "how far off predictions were: max_touches")


def test_a_daily_cycle_changes_no_weights(database: sa.Engine):
    tenant = add_tenant(database, "one")
    measured(database, tenant, 60, -50, 60, -50, 60)
    decide(database, "daily")
    assert weights_of(database, tenant) == DEFAULT_WEIGHTS


def test_one_tenants_misses_are_not_charged_to_another(database: sa.Engine):
    missing, other = add_tenant(database, "one"), add_tenant(database, "two")
    measured(database, missing, 60, -50, 60, -50, 60)
    assert calibration.recalibrate(database, [missing, other], MORNING) == 1
    assert weights_of(database, other) == DEFAULT_WEIGHTS


def test_the_same_results_change_the_weights_once(database: sa.Engine):
    tenant = add_tenant(database, "one")
    measured(database, tenant, 60, -50, 60, -50, 60)
    assert [calibration.recalibrate(database, [tenant], MORNING) for _ in range(2)] == [1, 0]


def test_what_was_promised_is_read_with_what_came_of_it(database: sa.Engine):
    tenant = add_tenant(database, "one")
    measured(database, tenant, 7)
    with database.begin() as connection:
        tenancy.service(connection)
        (found,) = calibration.outcomes(connection)
    # A confidence of 0.6 for 5 % is an error of two thirds of it.
    assert (found.family, found.predicted_pct, found.realised_pct) == ("max_touches", 5, 7)
    assert round(found.predicted_stderr_pct, 6) == Decimal("3.333333")


def test_results_without_any_error_stop_nobody(database: sa.Engine):
    tenant, other = add_tenant(database, "one"), add_tenant(database, "two")
    measured(database, tenant, 5, 5, 5, 5, 5)
    execute(
        database,
        'update spine.optimization_action_results set metadata = metadata || \'{"effect_stderr_pct": "0"}\'',
    )
    execute(
        database,
        "update spine.optimization_actions set payload = jsonb_set(payload, '{expected_impact,confidence}', '\"1\"')",
    )
    assert set(decide(database, bundle.WEEKLY).completed) == {tenant, other}


@pytest.mark.parametrize("broken", ["weights", "results"])
def test_what_cannot_be_read_of_one_tenant_leaves_the_others_their_weekly_cycle(
    database: sa.Engine, broken: str, caplog: pytest.LogCaptureFixture
):
    bad, good = add_tenant(database, "one"), add_tenant(database, "two")
    measured(database, good, 60, -50, 60, -50, 60)
    if broken == "weights":
        insert(
            database, "spine.decision_weights", tenant_id=bad, version=2, valid_from=MORNING - timedelta(days=9),
            author="test", reason="test", payload={"contribution": "-1"},
        )  # fmt: skip
    else:
        measured(database, bad, 5)
        execute(
            database,
            'update spine.optimization_action_results set metadata = metadata || \'{"effect_pct": "a word"}\''
            " where tenant_id = :id",
            id=bad,
        )
    report = decide(database, bundle.WEEKLY)
    assert good in report.completed
    assert weights_of(database, good).version == 2
    assert f"tenant {bad}: its weights stay as they are" in caplog.text
    if broken == "weights":
        assert report.failed[bad].startswith("INVALID_INPUT: contribution")
