"""Actions under observation come to a verdict: when their days are final, for every metric, and never by guessing."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.actions import baseline, observe, results, snapshot
from kernel.decisions.contract import ECONOMIC_METRICS, Action
from models.decisions import optimization_actions
from tests.fakes import approved
from tests.fakes.approved import Clock, company, one, row_of
from tests.fakes.measured import APPLIED, APPLIED_AT, no_gates, observed, result_rows, write

ENDS_AT = APPLIED_AT + timedelta(days=14)
FIRST = APPLIED - timedelta(days=84)
USUAL = {"cac_blended": 2500, "payback_months": 12, "gross_margin_pct": 60, "revenue_per_fte": 20_000}


def action(**more: object) -> Action:
    given = {
        "target_metric": "cac_blended",
        "target_direction": "decrease",
        "expected_impact": {
            "metric_id": "cac_blended", "direction": "decrease", "magnitude_pct": "10", "confidence": "0.5",
        },
    }  # fmt: skip
    return approved.action(**given | more)


def economy(engine: sa.Engine, tenant_id: UUID, *, days: int = 99, seed: int = 1, **changes: float) -> None:
    """Every economic metric with 1 % of noise, each changed by its share from the day after the application."""
    random = np.random.default_rng(seed)
    for metric_id, level in USUAL.items():
        values = level * (1 + 0.01 * random.standard_normal(days))
        values[85:] *= 1 + changes.get(metric_id, 0)
        write(engine, tenant_id, metric_id, FIRST, values)


def close(engine: sa.Engine, at: object = ENDS_AT + timedelta(days=9)) -> observe.ObserveReport:
    return observe.close_due(engine, Clock(at), gates_of=no_gates)


def test_an_action_that_worked_is_closed_as_improved_with_economics_of_its_own(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, cac_blended=-0.2, payback_months=-0.2)
    action_id = observed(world, tenant, action())
    report = close(world)
    assert [(done.action_id, done.outcome, done.economics) for done in report.closed] == [
        (action_id, "improved", "improved")
    ]
    row = row_of(world, action_id)
    assert (row.execution_status, row.status, row.outcome) == ("closed", "completed", "improved")
    assert row.closed_at == ENDS_AT + timedelta(days=9)
    target = result_rows(world, action_id)["cac_blended"]
    assert target.metadata["effect_pct"].startswith(("19", "20"))
    assert 0.99 < target.confidence <= 1
    assert target.observation_end_date == APPLIED + timedelta(days=14)


def test_a_target_that_gains_while_the_economics_suffer_is_told_as_both(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, payback_months=0.5, gross_margin_pct=-0.3)
    write(world, tenant, "opps_created", FIRST, [10] * 85 + [20] * 14)
    target = {
        "target_metric": "opps_created", "target_direction": "increase",
        "expected_impact": {
            "metric_id": "opps_created", "direction": "increase", "magnitude_pct": "10", "confidence": "0.5",
        },
    }  # fmt: skip
    observed(world, tenant, action(**target))
    (done,) = close(world).closed
    assert (done.outcome, done.economics) == ("improved", "hurt")


def test_every_row_is_closed_and_deltas_are_keyed_by_the_dictionary(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, cac_blended=-0.2)
    write(world, tenant, "win_rate", FIRST, [0.3] * 99)
    action_id = observed(world, tenant, action(), monitored=("win_rate", "cac_blended"))
    close(world)
    rows = result_rows(world, action_id)
    assert set(rows) == {*ECONOMIC_METRICS, "win_rate"}
    assert all(row.observation_end_date is not None and row.confidence is not None for row in rows.values())
    assert rows["win_rate"].metadata["outcome"] == "neutral"
    target = rows["cac_blended"]
    assert set(target.economic_deltas) == set(ECONOMIC_METRICS)
    assert (
        Decimal(target.economic_deltas["cac_blended"])
        == target.delta
        == target.observed_value - target.baseline_value
    )
    assert target.delta_direction == "decrease"


def test_a_metric_nobody_knows_does_not_keep_the_others_open(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, cac_blended=-0.2)
    write(world, tenant, "revenue_per_fte", FIRST, [None] * 99)
    action_id = observed(world, tenant, action(), monitored=("a_metric_of_yesterday",))
    (done,) = close(world).closed
    assert done.outcome == "improved"
    row = result_rows(world, action_id)["revenue_per_fte"]
    assert (row.metadata["outcome"], row.confidence, row.observed_value) == ("not_measurable", 0, None)
    assert result_rows(world, action_id)["a_metric_of_yesterday"].metadata["outcome"] == "not_measurable"


def test_a_payback_that_becomes_infinite_hurts_whatever_else_was_gained(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, cac_blended=-0.5)
    write(world, tenant, "payback_months", APPLIED + timedelta(days=5), ["infinite"] * 10)
    action_id = observed(world, tenant, action())
    (done,) = close(world).closed
    assert (done.outcome, done.economics) == ("improved", "hurt")
    assert result_rows(world, action_id)["payback_months"].metadata["outcome"] == "hurt"


def test_a_payback_that_comes_back_from_infinity_is_improved(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant)
    write(world, tenant, "payback_months", FIRST, ["infinite"] * 85)
    promised = {"target_metric": "payback_months"}
    observed(world, tenant, action(**promised))
    assert [done.outcome for done in close(world).closed] == ["improved"]


def test_an_action_waits_until_the_last_day_of_its_window_is_final(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, cac_blended=-0.2)
    write(world, tenant, "cac_blended", APPLIED + timedelta(days=14), [2000], final=False)
    action_id = observed(world, tenant, action())
    report = close(world)
    assert (report.closed, report.left_open) == ((), 1)
    assert row_of(world, action_id).execution_status == "observing"
    write(world, tenant, "cac_blended", APPLIED + timedelta(days=14), [2000])
    assert len(close(world).closed) == 1


def test_an_action_whose_window_is_not_over_is_left_alone(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant)
    observed(world, tenant, action())
    report = close(world, ENDS_AT - timedelta(seconds=1))
    assert (report.closed, report.left_open) == ((), 0)


def test_what_cannot_be_measured_is_given_up_thirty_days_after_the_window(world: sa.Engine) -> None:
    tenant = company(world).id
    action_id = observed(world, tenant, action())
    assert close(world, ENDS_AT + timedelta(days=30, seconds=-1)).left_open == 1
    (done,) = close(world, ENDS_AT + timedelta(days=30)).closed
    assert (done.outcome, done.economics) == ("not_measurable", "inconclusive")
    assert all(row.confidence == 0 for row in result_rows(world, action_id).values())


def test_a_tenant_that_is_switched_off_waits(world: sa.Engine) -> None:
    tenant = company(world, enabled=False).id
    economy(world, tenant)
    observed(world, tenant, action())
    assert close(world) == observe.ObserveReport((), 0, {})


def test_nothing_happening_is_neutral_or_inconclusive(world: sa.Engine) -> None:
    for seed in range(5):
        tenant = company(world).id
        economy(world, tenant, seed=seed)
        observed(world, tenant, action())
    assert {done.outcome for done in close(world).closed} <= {"neutral", "inconclusive"}


def test_actions_on_the_same_metric_at_the_same_time_share_the_credit(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, cac_blended=-0.2)
    first = observed(world, tenant, action())
    second = observed(world, tenant, action(), applied_at=APPLIED_AT + timedelta(days=3))
    long_before = observed(
        world, tenant, action(), applied_at=APPLIED_AT - timedelta(days=30), execution_status="closed"
    )
    taken_back = observed(
        world,
        tenant,
        action(),
        applied_at=APPLIED_AT - timedelta(days=3),
        execution_status="reverted",
        closed_at=APPLIED_AT - timedelta(days=1),
    )
    close(world)
    told = result_rows(world, first)["cac_blended"].metadata
    assert told["confounded_by"] == [str(second)]
    assert not {str(long_before), str(taken_back)} & set(told["economics"]["confounded_by"])
    with world.begin() as connection:
        tenancy.service(connection)
        (result,) = results.recent(connection, [tenant])[tenant]
    assert (result.weight, result.economics_weight) == (Decimal("0.5"), Decimal("0.5"))


def test_an_experiment_is_judged_by_its_arms_and_not_by_what_all_did(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, cac_blended=-0.2)
    random = np.random.default_rng(3)
    for arm in ("control", "treatment"):
        values = 2000 + 20 * random.standard_normal(14)
        write(world, tenant, "cac_blended", APPLIED + timedelta(days=1), values, dimension={"variant": arm})
    action_id = observed(world, tenant, action(type="experiment"))
    (done,) = close(world).closed
    told = result_rows(world, action_id)["cac_blended"].metadata
    assert told["method"] == "split"
    assert done.outcome in ("neutral", "inconclusive")


def test_the_kernel_learns_from_what_was_closed_and_from_nothing_else(world: sa.Engine) -> None:
    tenant, other = company(world).id, company(world).id
    economy(world, tenant, cac_blended=-0.2)
    observed(world, tenant, action(family="cut"))
    observed(world, tenant, action(family="late"), applied_at=APPLIED_AT + timedelta(days=60))
    close(world)
    with world.begin() as connection:
        tenancy.service(connection)
        found = results.recent(connection, [tenant, other])
    assert found[other] == ()
    (result,) = found[tenant]
    assert (result.family, result.outcome, result.target_metric) == ("cut", "improved", "cac_blended")
    assert result.effect_pct == pytest.approx(Decimal(20), abs=1)
    assert 0 < result.effect_stderr_pct < 2
    assert result.delta == result.observed_value - result.baseline_value
    assert set(result.economic_deltas) == set(ECONOMIC_METRICS)


def test_only_the_newest_results_are_given(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant)
    for _ in range(3):
        observed(world, tenant, action())
    close(world)
    with world.begin() as connection:
        tenancy.service(connection)
        assert len(results.recent(connection, [tenant], limit=2)[tenant]) == 2


def test_a_baseline_is_the_fourteen_days_before_and_nothing_else(world: sa.Engine) -> None:
    """The mean of 1 to 14 is 7.5, their variance 17.5; the day itself, older days and parts do not count."""
    tenant = company(world).id
    write(world, tenant, "cac_blended", APPLIED - timedelta(days=15), [99, *range(1, 15), 99])
    write(
        world, tenant, "cac_blended", APPLIED - timedelta(days=14), [50] * 14, dimension={"channel": "email"}
    )
    action_id = observed(world, tenant, action())
    row = result_rows(world, action_id)["cac_blended"]
    assert row.baseline_value == Decimal("7.5")
    told = row.metadata["baseline"]
    assert (Decimal(told["mean"]), Decimal(told["variance"]), told["n"]) == (
        Decimal("7.5"),
        Decimal("17.5"),
        14,
    )
    assert row.observation_start_date == APPLIED
    assert row.context_snapshot == {
        "snapshot_id": str(one(world, "select id from spine.action_snapshots where moment = 'before'"))
    }


def test_a_day_is_the_tenants_day(world: sa.Engine) -> None:
    """At nine in the evening in UTC it is the next day in Auckland."""
    tenant = company(world).id
    late = APPLIED_AT.replace(hour=21)
    with world.begin() as connection:
        tenancy.service(connection, tenant)
        tenancy.set_config(
            connection, tenant, {"time_zone": "Pacific/Auckland"}, author="a", reason="r",
            valid_from=APPLIED_AT - timedelta(days=1),
        )  # fmt: skip
        assert baseline.local_day(connection, tenant, late) == APPLIED + timedelta(days=1)
        assert baseline.local_day(connection, tenant, APPLIED_AT - timedelta(days=2)) == APPLIED - timedelta(
            days=2
        )


def test_recording_again_changes_neither_baseline_nor_snapshot(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant, days=84)
    action_id = observed(world, tenant, action())
    before = result_rows(world, action_id)
    write(world, tenant, "cac_blended", APPLIED - timedelta(days=14), [1] * 14)
    with world.begin() as connection:
        tenancy.service(connection, tenant)
        row = connection.execute(
            sa.select(optimization_actions).where(optimization_actions.c.id == action_id)
        ).one()
        again = snapshot.capture(
            connection, tenant, row._mapping, "before", ENDS_AT, {"max_touches": 9}, gates_of=no_gates
        )
        baseline.record(connection, tenant, row._mapping, ENDS_AT)
    assert result_rows(world, action_id) == before
    assert (
        one(world, "select entity ->> 'max_touches' from spine.action_snapshots where id = :id", id=again)
        == "5"
    )


def test_a_snapshot_holds_the_last_three_days_and_why_a_value_is_missing(world: sa.Engine) -> None:
    tenant = company(world).id
    write(world, tenant, "cac_blended", APPLIED - timedelta(days=4), [1, 2, 3, 4, 5, 6])
    write(world, tenant, "cash_runway_months", APPLIED, ["not_applicable"])
    observed(world, tenant, action())
    metrics = one(world, "select metrics from spine.action_snapshots")
    assert [(day["date"], Decimal(day["value"])) for day in metrics["cac_blended"]["trend"]] == [
        (str(APPLIED - timedelta(days=ago)), 5 - ago) for ago in range(3)
    ]
    assert Decimal(metrics["cac_blended"]["current"]) == 5
    runway = metrics["cash_runway_months"]
    assert (runway["current"], runway["status"]) == (None, "not_applicable")
    assert metrics["payback_months"]["status"] == "missing"


def test_a_window_that_closes_is_captured_too(world: sa.Engine) -> None:
    tenant = company(world).id
    economy(world, tenant)
    action_id = observed(world, tenant, action())
    close(world)
    moments = "select array_agg(moment order by moment) from spine.action_snapshots where optimization_action_id = :id"
    assert one(world, moments, id=action_id) == ["after", "before"]


def test_one_action_that_cannot_be_closed_does_not_keep_the_others(world: sa.Engine) -> None:
    tenant, broken = company(world).id, company(world).id
    for each in (tenant, broken):
        economy(world, each)
    fine = observed(world, tenant, action())
    bad = observed(world, broken, action())

    def gates_of(connection: sa.Connection, tenant_id: UUID, at: object) -> tuple[()]:
        if tenant_id == broken:
            connection.execute(sa.text("select 1 / 0"))
        return ()

    report = observe.close_due(world, Clock(ENDS_AT + timedelta(days=9)), gates_of=gates_of)
    assert [done.action_id for done in report.closed] == [fine]
    assert list(report.failed) == [bad]
    assert row_of(world, bad).execution_status == "observing"
