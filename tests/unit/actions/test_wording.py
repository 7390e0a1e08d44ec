"""How actions and their conditions are told in a line."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.actions import abort, wording
from kernel.decisions.contract import AbortCondition


def row(**more: Any) -> dict[str, Any]:
    change = {"field": "status", "current_value": "active", "new_value": "paused", "description": "Pause it"}
    return {
        "type": "config_change", "subsystem": "campaigns", "change": change, "entity_type": "", "entity_id": "",
        "entity_name": None,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "campaigns.status: active -> paused"),
        (
            {"entity_type": "channel", "entity_id": "c1", "entity_name": "email in Spring"},
            "campaigns.status of email in Spring: active -> paused",
        ),
        ({"entity_type": "segment", "entity_id": "smb"}, "campaigns.status of segment smb: active -> paused"),
        ({"type": "experiment"}, "campaigns.status: active -> paused (test)"),
        ({"type": "alert"}, "ticket (campaigns): Pause it"),
        ({"subsystem": "lifecycle"}, "ticket (lifecycle): Pause it"),
    ],
)
def test_a_line_tells_what_is_changed_of_what_or_that_people_are_asked(given: dict[str, Any], told: str):
    assert wording.line(row(**given)) == told


@pytest.mark.parametrize(
    ("value", "told"), [(None, "not set"), (True, "true"), (7, "7"), ("7", "7"), ({"a": 1}, '{"a": 1}')]
)
def test_a_value_is_told_as_it_is_written(value: Any, told: str):
    assert wording.value(value) == told


@pytest.mark.parametrize(
    ("operator", "threshold", "days", "told"),
    [
        ("lt", "131184.8120", 3, "pipeline_total is below 131,185 for 3 days"),
        ("gt", "15", 1, "pipeline_total is above 15 for 1 day"),
        ("gte", "12.3456", 3, "pipeline_total is at or above 12.35 for 3 days"),
        ("lte", "0.03456", 3, "pipeline_total is at or below 0.0346 for 3 days"),
        ("lt", "1000", 3, "pipeline_total is below 1,000 for 3 days"),
    ],
)
def test_a_condition_is_told_in_words_and_rounded(operator: str, threshold: str, days: int, told: str):
    asked = AbortCondition(
        metric_id="pipeline_total", operator=operator, threshold=threshold, consecutive_days=days
    )
    assert abort.in_words(asked) == told
