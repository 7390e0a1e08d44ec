"""Trends read direction, dates and outliers as they should."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from kernel.decisions.trends import trend
from tests.unit.decisions.scenarios import AS_OF, series


def test_a_rising_cost_is_degrading_and_a_rising_pipeline_improving():
    rising = [100 + 5 * day for day in range(14)]
    assert trend("cac_blended", series("cac_blended", rising), AS_OF).direction == "degrading"
    assert trend("pipeline_total", series("pipeline_total", rising), AS_OF).direction == "improving"


def test_moving_either_way_degrades_what_should_stand_still():
    rising = [100 + 5 * day for day in range(14)]
    assert trend("spend_paid_total", series("spend_paid_total", rising), AS_OF).direction == "degrading"


def test_a_few_wild_days_do_not_turn_a_trend():
    values = [100 + 2 * day for day in range(14)]
    values[3], values[9], values[13] = 900, 0, 1
    assert trend("win_rate", series("win_rate", values), AS_OF).slope == 2


def test_a_missing_day_counts_as_a_day():
    whole = [10 * day for day in range(14)]
    with_holes = [value if day not in (4, 5, 6) else None for day, value in enumerate(whole)]
    assert trend("leads_created", series("leads_created", with_holes), AS_OF).slope == 10


def test_a_rising_negative_value_improves():
    values = [-100 + 5 * day for day in range(14)]
    assert trend("pipeline_velocity", series("pipeline_velocity", values), AS_OF).direction == "improving"


def test_fewer_than_seven_days_are_no_trend():
    assert trend("win_rate", series("win_rate", [1, 2, 3, 4, 5, 6]), AS_OF).direction == "unknown"
    old = [r.model_copy(update={"date": r.date - timedelta(days=14)}) for r in series("win_rate", range(14))]
    assert trend("win_rate", old, AS_OF).direction == "unknown"


def test_a_twentieth_in_two_weeks_is_flat():
    values = [Decimal(100) + Decimal(day) * Decimal("0.3") for day in range(14)]
    assert trend("win_rate", series("win_rate", values), AS_OF).direction == "flat"


def test_from_nothing_to_something_is_a_change():
    values = [0] * 5 + list(range(1, 10))
    assert trend("leads_created", series("leads_created", values), AS_OF).direction == "improving"
