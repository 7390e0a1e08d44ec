"""The time of the client: which of the places it may stand in decides, and what counts as a time there."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kernel.usage.keys.payload import client_time_ms


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ts": 1_700_000_060_000}, 1_700_000_060_000),
        ({"ts": 1_700_000_060}, 1_700_000_060_000),
        ({"ts": 1_700_000_060.5}, 1_700_000_060_500),
        ({"ts": 999_999_999_999}, 999_999_999_999_000),
        ({"ts": 1_000_000_000_000}, 1_000_000_000_000),
        ({"ts": -1}, -1000),
        ({"ts": -0.0015}, -2),
        ({"ts": 0}, 0),
        ({"ts": 1_700_000_060_000.9}, 1_700_000_060_000),
        ({"ts": 10**400}, None),
        ({"ts": math.nan}, None),
        ({"ts": math.inf}, None),
        ({"ts": True}, None),
        ({"ts": True, "timestamp": 5}, 5_000),
        ({"ts": "abc", "timestamp": 5}, 5_000),
        ({"timestamp": 5, "created_at": 6, "meta": {"ts": 7}}, 5_000),
        ({"created_at": 6, "meta": {"ts": 7}}, 6_000),
        ({"ts": "8", "meta": {"ts": 7}}, 7_000),
        ({"ts": "8", "timestamp": "1970-01-01T00:00:09Z"}, 8_000),
        ({"ts": "abc", "timestamp": "2023-11-14T22:14:20Z"}, None),
        ({"ts": "", "timestamp": "2023-11-14T22:14:20Z"}, None),
        ({"timestamp": "2023-11-14T22:14:20Z", "created_at": "2024-11-14T22:14:20Z"}, 1_700_000_060_000),
        ({"timestamp": "14 Nov 2023", "created_at": "2023-11-14T22:14:20Z"}, 1_700_000_060_000),
        ({"timestamp": "2023-11-14T", "created_at": "2023-11-14T22:14:20Z"}, None),
        ({"timestamp": "1700000060000"}, None),
        ({"meta": {"ts": "1700000060000"}}, None),
        ({"meta": [1_700_000_060_000]}, None),
        ({"t": 1_700_000_060_000}, None),
        # A date before September 2001 is taken for seconds as well.
        ({"timestamp": "2001-09-09T01:46:39.999Z"}, 999_999_999_999_000),
        ({"timestamp": "2001-09-09T01:46:40Z"}, 1_000_000_000_000),
        ({}, None),
    ],
)
def test_the_first_place_of_the_right_type_gives_the_clients_time(
    fields: dict[str, Any], expected: int | None
) -> None:
    assert client_time_ms(fields) == expected
