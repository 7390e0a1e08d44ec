"""What the HTTP door answers and counts, without a door. The answers themselves stand in the tests of the door."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from kernel.usage.answers import Answers, Build, seconds_to_next_month
from kernel.usage.counts import COUNTERS, WIDTH, Counts
from kernel.usage.events import Outcome

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
NEW = Outcome("k", "queued", "ACCEPTED", True, 5)
FULL = Outcome("k", "rejected_quota", "REJECTED_QUOTA", False, 0, reason="hard_cap_exceeded")


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, 1, tzinfo=UTC), 1),
        (datetime(2026, 12, 1, tzinfo=UTC), 31 * 86_400),
        (datetime(2024, 2, 1, tzinfo=UTC), 29 * 86_400),
        # In UTC it is February already.
        (datetime(2026, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))), 27 * 86_400 + 23.5 * 3600),
    ],
)
def test_a_full_month_lasts_to_its_end_in_utc(at: datetime, seconds: float) -> None:
    assert seconds_to_next_month(at) == seconds


def test_a_batch_that_met_its_limit_says_so_though_some_of_it_was_taken() -> None:
    answer = Answers(Build("1")).batch([NEW, FULL, NEW], AT)
    assert (answer.status_code, answer.headers["x-opsmantik-quota-exceeded"]) == (200, "1")
    assert Answers(Build("1")).batch([FULL, FULL], AT).status_code == 429


def test_every_answer_says_what_answered_and_differs_by_origin() -> None:
    answers = Answers(Build("1", "c", "b"), "https://x.co")
    for answer in (
        answers.busy(),
        answers.gate_closed(),
        answers.rate_limited(0.2),
        answers.single(NEW, AT),
        answers.preflight(),
    ):
        assert [answer.headers[f"x-opsmantik-{name}"] for name in ("version", "commit", "branch")] == [
            "1",
            "c",
            "b",
        ]
        assert (answer.headers["vary"], answer.headers["access-control-allow-origin"]) == (
            "Origin",
            "https://x.co",
        )
    assert answers.rate_limited(0.2).headers["retry-after"] == "1"


def test_processes_count_in_places_of_their_own_and_tell_the_sum() -> None:
    shared = [0.0] * (2 * WIDTH)
    first, second = Counts(shared, 0), Counts(shared, 1)
    first.add("allowed", 3)
    second.add("allowed")
    second.add("overage", False)
    first.took(0.004)
    second.took(30)
    second.waits(7)
    lines = first.text({"up": 1.0}).splitlines()
    assert second.text({"up": 1.0}).splitlines() == lines
    for line in (
        "billing_ingest_allowed_total 4", "billing_ingest_overage_total 0", "up 1", "billing_ingest_waiting_events 7",
        'billing_ingest_request_seconds_bucket{le="0.005"} 1', 'billing_ingest_request_seconds_bucket{le="5.0"} 1',
        'billing_ingest_request_seconds_bucket{le="+Inf"} 2', "billing_ingest_request_seconds_count 2",
        "billing_ingest_request_seconds_sum 30.004000",
    ):  # fmt: skip
        assert line in lines
    assert all(f"billing_ingest_{name}_total" in first.text({}) for name in COUNTERS)
