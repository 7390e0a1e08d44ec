"""What a cycle refuses to start from, and the field it names."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from kernel.decisions.contract import KernelError, KernelInput, Reading, Trigger
from kernel.decisions.inputs import checked
from tests.unit.decisions.scenarios import AS_OF, CLOCK, A, daily, given, metrics, result


def refused(asked: KernelInput, clock: datetime = CLOCK) -> tuple[str, Any]:
    with pytest.raises(KernelError) as raised:
        checked(asked, clock)
    return raised.value.code, raised.value.details["field"]


def with_reading(**changed: Any) -> KernelInput:
    extra = Reading(**({"metric_id": "leads_created", "value": 1, "date": AS_OF} | changed))
    return given(readings=(extra, *metrics(A)))


def test_an_unknown_metric_is_refused():
    assert refused(with_reading(metric_id="pipeline_quality_score")) == (
        "INVALID_INPUT",
        "metrics[0].metric_id",
    )


def test_an_alias_is_resolved():
    facts = checked(with_reading(metric_id="leads_total", value=7), CLOCK)
    assert facts.value("leads_created") == 7


def test_a_reading_given_twice_is_refused_even_under_an_alias():
    asked = given(readings=(*metrics(A), *daily("pipeline_value", "1", days=1)))
    assert refused(asked)[0] == "INVALID_INPUT"


def test_the_same_day_in_another_dimension_is_no_duplicate():
    window = Reading(metric_id="bookings_new", value=Decimal(900), date=AS_OF, dimension={"window": "T30"})
    facts = checked(given(readings=(*metrics(A), window)), CLOCK)
    assert facts.month("bookings_new") == 900


def test_a_reading_of_the_future_is_refused():
    assert refused(with_reading(date=CLOCK.date() + timedelta(days=1))) == (
        "INVALID_INPUT",
        "metrics[0].date",
    )


def test_another_unit_is_refused_and_the_dictionarys_is_not():
    asked = with_reading(metric_id="churn_rate", value="2.5", unit="percent")
    assert refused(asked) == ("INVALID_INPUT", "metrics[0].unit")
    checked(with_reading(metric_id="churn_rate", value="0.025", unit="fraction"), CLOCK)


@pytest.mark.parametrize("age", [timedelta(hours=24, seconds=1), timedelta(seconds=-1)])
def test_a_trigger_that_is_old_or_of_the_future_is_refused(age: timedelta):
    trigger = Trigger(type="manual", source="person", triggered_at=CLOCK - age)
    assert refused(given(trigger=trigger)) == ("INVALID_INPUT", "trigger.triggered_at")


def test_a_trigger_of_exactly_24_hours_is_taken():
    trigger = Trigger(type="manual", source="person", triggered_at=CLOCK - timedelta(hours=24))
    checked(given(trigger=trigger), CLOCK)


@pytest.mark.parametrize("metric_id", ["pipeline_total", "bookings_new", "cac_blended"])
def test_a_missing_mandatory_metric_is_insufficient_data(metric_id: str):
    asked = given(readings=metrics(A, **{metric_id: None}))
    with pytest.raises(KernelError) as raised:
        checked(asked, CLOCK)
    assert raised.value.code == "INSUFFICIENT_DATA"
    assert raised.value.details == {"field": "metrics", "metric_id": metric_id}


def test_an_instant_without_time_zone_is_refused():
    naive = CLOCK.replace(tzinfo=None)
    trigger = Trigger(type="manual", source="person", triggered_at=naive)
    assert refused(given(trigger=trigger))[1] == "trigger.triggered_at"
    late = result("scale_channel", 3).model_copy(update={"closed_at": naive})
    assert refused(given(results=(late,)))[1] == "recent_action_results[0].closed_at"
    assert refused(given(), naive)[1] == "clock"


def test_a_channel_given_twice_is_refused():
    asked = given()
    assert refused(given(channel_rows=asked.channels * 2)) == ("INVALID_INPUT", "channels")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", float("nan"), float("inf")])
def test_nan_and_infinity_are_no_values(value: Any):
    with pytest.raises(ValidationError):
        Reading(metric_id="pipeline_total", value=value, date=AS_OF)


def test_days_are_scaled_to_a_month_when_some_are_missing():
    facts = checked(given(readings=(*metrics(A), *daily("leads_created", "4", days=15))), CLOCK)
    assert facts.month("leads_created") == 120
