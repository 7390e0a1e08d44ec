"""Numbers of absurd size and texts that only look like numbers: refused or told, never a crash and never guessed."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from kernel.decisions import gates
from kernel.decisions.contract import KernelError, ProposedChange
from kernel.decisions.levers import days_left, days_of_next_month, number
from tests.unit.decisions.scenarios import AS_OF, CLOCK, A, channels, given, metrics
from tests.unit.decisions.test_certification import decided


@pytest.mark.parametrize("value", [120, "120", "120.00", "1.2e2", 120.0])
def test_an_amount_is_read_from_a_number_or_its_text(value: Any):
    assert number(value) == 120


@pytest.mark.parametrize(
    "value",
    ["1_000", "１２０", "١٢", " 120", "120\n", "", "NaN", "Infinity", "1e999999", "1e-999999", "0e-400", float("nan"),
     float("inf"), 1e308, 10**400, pytest.param(10**5000, id="5001 digits"), True, None, [1]],
)  # fmt: skip
def test_what_only_looks_like_an_amount_or_is_absurd_is_none(value: Any):
    assert number(value) is None


@pytest.mark.parametrize("value", ["1e30", "1e999999", "-1e1000000", "1e-999999", "-0", "1e27"])
def test_a_gate_tells_of_every_number_there_is(value: str):
    assert gates._plain(Decimal(value))


@pytest.mark.parametrize("size", ["1e30", "1e200", "1e999999"])
def test_a_metric_of_absurd_size_is_invalid_input_and_named(size: str):
    with pytest.raises(KernelError) as refused:
        decided(given(readings=metrics(A, gross_margin_pct=size, mrr_total=size, bookings_new=size)))
    assert refused.value.code == "INVALID_INPUT"
    assert refused.value.details["field"].startswith("metrics[")
    assert refused.value.message == f"{refused.value.details['field']} is a number of absurd size: correct it"


@pytest.mark.parametrize(("field", "size"), [("new_customers", "1e30"), ("spend", "1e999999")])
def test_a_channel_of_absurd_size_is_invalid_input_and_named(field: str, size: str):
    rows = tuple(each.model_copy(update={field: Decimal(size)}) for each in channels(A))
    with pytest.raises(KernelError, match=rf"^channels\[0\]\.{field} is a number of absurd size"):
        decided(given(channel_rows=rows))


def test_a_gate_is_evaluated_on_a_number_of_absurd_size():
    readings = [r for r in metrics(A, payback_months="1e30") if r.metric_id == "payback_months"]
    rails = given(A).cfo_guardrails
    found = gates.evaluate(readings, rails, enabled=True, as_of=AS_OF, clock=CLOCK)
    assert found[0].state == "triggered"
    assert "1.000e+30 is above 15 months" in found[0].why


@pytest.mark.parametrize(
    ("value", "stored"),
    [(-0.0, "0.0"), (1e16, "10000000000000000"), (1e22, "10000000000000000000000"), (0.1, "0.1"), (5.0, "5.0"),
     (1e-7, "1e-07"), (7, "7"), ([1e16, {"a": -0.0}], '[10000000000000000, {"a": 0.0}]'), ("-0.0", '"-0.0"')],
)  # fmt: skip
def test_a_value_is_proposed_as_the_database_gives_it_back(value: Any, stored: str):
    made = ProposedChange(field="f", current_value=value, new_value=value)
    assert json.dumps(made.new_value) == json.dumps(made.current_value) == stored


@pytest.mark.parametrize(
    ("day", "left", "following"),
    [(date(2026, 1, 31), 1, 28), (date(2028, 1, 1), 31, 29), (date(2026, 12, 15), 17, 31)],
)
def test_days_of_months_are_those_of_the_calendar(day: date, left: int, following: int):
    assert (days_left(day), days_of_next_month(day)) == (left, following)
