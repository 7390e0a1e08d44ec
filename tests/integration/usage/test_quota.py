"""How much of a month is accepted: to the very event, and also when a plan changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.usage.plans import Terms
from tests.integration.usage import capturing
from tests.integration.usage.capturing import AT, Shop, event, statuses

pytestmark = pytest.mark.usefixtures("either_way")

LATER = AT + timedelta(hours=1)


def _keys(number: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


@pytest.mark.parametrize(
    ("limit", "terms", "accepted", "overage"),
    [
        (0, {}, 0, 0),
        (1, {}, 1, 0),
        (5, {}, 5, 0),
        (5, {"soft_limit_enabled": True}, 5, 5),
        (5, {"soft_limit_enabled": True, "hard_cap_multiplier": Decimal("1.5")}, 5, 2),
        (5, {"soft_limit_enabled": True, "hard_cap_multiplier": Decimal(1)}, 5, 0),
        (0, {"soft_limit_enabled": True}, 0, 0),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_as_many_are_accepted_as_the_plan_says_and_not_one_more(
    shop: Shop, limit: int, terms: dict, accepted: int, overage: int, at_once: bool
) -> None:
    shop.plan(limit, **terms)
    keys = _keys(12)
    outcomes = shop.capture(*keys) if at_once else [shop.capture(key)[0] for key in keys]
    states = ["ACCEPTED"] * accepted + ["OVERAGE"] * overage + ["REJECTED_QUOTA"] * (12 - accepted - overage)
    assert [each.billing_state for each in outcomes] == states
    assert [each.quota_remaining for each in outcomes] == [max(0, limit - n - 1) for n in range(12)]
    assert [each.billable for each in outcomes] == [state != "REJECTED_QUOTA" for state in states]
    shop.agrees()


def test_a_site_without_a_plan_has_a_thousand(shop: Shop) -> None:
    assert statuses(shop.capture(*_keys(1_001))) == {"queued": 1_000, "rejected_quota": 1}


def test_every_decision_that_a_row_does_not_explain_is_written_down(shop: Shop) -> None:
    plan_id = shop.soft(1)
    outcomes = shop.capture("a", "b", "c")
    assert [each.reason for each in outcomes] == [None, "monthly_limit_exceeded", "hard_cap_exceeded"]
    rows = shop.pinned("select * from usage.usage_decisions order by idempotency_key")
    assert [
        (row.idempotency_key, row.decision, row.reason, row.used_before, row.limit_then) for row in rows
    ] == [
        ("b", "overage", "monthly_limit_exceeded", 1, 1),
        ("c", "rejected_quota", "hard_cap_exceeded", 2, 1),
    ]
    assert {(row.plan_id, row.actor, row.created_at) for row in rows} == {(plan_id, "gate", AT)}
    assert {row[0] for row in shop.pinned("select plan_id from usage.ingest_idempotency")} == {plan_id}


def test_a_refusal_is_repeated_and_noted_once(shop: Shop) -> None:
    shop.plan(1)
    shop.capture("a", "b")
    [outcome] = shop.capture("b", at=LATER)
    assert (outcome.status, outcome.replayed_of, outcome.billable) == (
        "rejected_quota",
        "REJECTED_QUOTA",
        False,
    )
    assert len(shop.pinned("select from usage.usage_decisions")) == 1
    assert shop.counters() == (1, 0, 1)
    shop.agrees()


def test_a_refusal_is_taken_back_when_the_plan_was_raised(shop: Shop) -> None:
    shop.plan(1)
    shop.capture("a", "b", "c", "d")
    raised = shop.soft(2, at=LATER, hard_cap_multiplier=Decimal("1.5"))
    outcomes = shop.capture("d", "c", "b", "d", at=LATER)
    assert [(each.status, each.billing_state, each.replayed_of) for each in outcomes] == [
        ("queued", "ACCEPTED", "REJECTED_QUOTA"),
        ("queued", "OVERAGE", "REJECTED_QUOTA"),
        ("rejected_quota", "REJECTED_QUOTA", "REJECTED_QUOTA"),
        ("duplicate", "ACCEPTED", "ACCEPTED"),
    ]
    row = shop.pinned("select * from usage.ingest_idempotency where idempotency_key = 'd'")[0]
    assert (row.billable, row.billing_reason, row.plan_id, row.created_at) == (
        True,
        "default_billable",
        raised,
        AT,
    )
    rows = shop.pinned(
        "select * from usage.usage_decisions where decision = 'taken_back' order by idempotency_key"
    )
    assert [(row.idempotency_key, row.used_before, row.limit_then, row.reason) for row in rows] == [
        ("c", 2, 2, "monthly_limit_exceeded"), ("d", 1, 2, "below_monthly_limit"),
    ]  # fmt: skip
    assert shop.counters() == (3, 1, 1)
    shop.agrees()


def test_another_payload_does_not_take_a_refusal_back(shop: Shop) -> None:
    shop.plan(0)
    shop.capture("a")
    shop.plan(5, at=LATER)
    [outcome] = shop.capture(event(shop.site, "a", payload={"url": "other"}, at=LATER), at=LATER)
    assert (outcome.status, outcome.is_conflict) == ("rejected_quota", True)
    assert shop.ledger() == {"a": "REJECTED_QUOTA"}


def test_a_refusal_of_last_month_is_taken_back_in_last_month_until_that_is_closed(shop: Shop) -> None:
    shop.plan(0)
    shop.capture("a", "b")
    february = AT + timedelta(days=31)
    shop.plan(1, at=AT + timedelta(days=1))
    assert statuses(shop.capture("a", at=february)) == {"queued": 1}
    assert (shop.counters("2026-01"), shop.counters("2026-02")) == ((1, 0, 1), (0, 0, 0))
    shop.plan(9, at=february + timedelta(days=1))
    shop.close()
    assert statuses(shop.capture("b", at=february + timedelta(days=1))) == {"rejected_quota": 1}
    shop.agrees()


def test_a_month_is_ruled_by_its_own_plan_whatever_holds_now(shop: Shop) -> None:
    shop.plan(2)
    shop.capture("a", "b", "c")
    february = datetime(2026, 2, 1, tzinfo=UTC)
    shop.plan(100, at=february)
    late = [event(shop.site, key, at=february - timedelta(minutes=1)) for key in ("c", "d")]
    assert statuses(shop.capture(*late, at=february + timedelta(minutes=30))) == {"rejected_quota": 2}
    assert statuses(shop.capture("e", at=february + timedelta(minutes=30))) == {"queued": 1}
    shop.agrees()


def test_a_month_with_room_refuses_nothing_because_the_next_one_has_less(shop: Shop) -> None:
    shop.plan(100)
    shop.capture("a")
    february = datetime(2026, 2, 1, tzinfo=UTC)
    shop.plan(0, at=february)
    late = event(shop.site, "b", at=february - timedelta(minutes=1))
    assert statuses(shop.capture(late, at=february + timedelta(minutes=30))) == {"queued": 1}


def test_what_is_taken_back_and_not_published_is_degraded(shop: Shop) -> None:
    def failing(*_: object) -> None:
        raise OSError

    shop.plan(0)
    shop.capture("a")
    shop.plan(1, at=LATER)
    assert statuses(shop.capture("a", at=LATER, publisher=failing)) == {"degraded": 1}
    assert shop.ledger() == {"a": "DEGRADED_CAPTURE"}
    shop.agrees()


def test_the_limit_is_a_months(shop: Shop) -> None:
    shop.plan(1)
    assert statuses(shop.capture("a", "b")) == {"queued": 1, "rejected_quota": 1}
    assert statuses(shop.capture("c", "d", at=AT + timedelta(days=31))) == {"queued": 1, "rejected_quota": 1}


def _told(shop: Shop) -> list[tuple[int, int]]:
    return [tuple(row) for row in shop.pinned("select threshold, used from usage.usage_notices order by 1")]


def test_each_threshold_is_told_once_when_it_is_reached(shop: Shop) -> None:
    shop.plan(20)
    for number, expected in ((9, []), (1, [(50, 10)]), (5, [(50, 10)]), (1, [(50, 10), (80, 16)])):
        shop.capture(*_keys(number, f"{number}-{len(expected)}-"))
        assert _told(shop) == expected
    shop.capture(*_keys(10, "rest"))
    assert _told(shop) == [(50, 10), (80, 16), (95, 20), (100, 20)]
    shop.capture("over")
    assert len(_told(shop)) == 4


def test_a_plan_that_is_lowered_tells_what_is_passed_by_now(shop: Shop) -> None:
    shop.plan(100)
    shop.capture(*_keys(10))
    shop.plan(12, at=LATER)
    shop.capture("one more", at=LATER)
    assert _told(shop) == [(50, 11), (80, 11)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(0, 8),
    soft=st.booleans(),
    multiplier=st.decimals(1, 3, places=1),
    batches=st.lists(st.lists(st.integers(0, 15), max_size=10), max_size=5),
)
def test_however_events_come_the_first_that_fit_are_accepted(
    usage_engine: sa.Engine, limit: int, soft: bool, multiplier: Decimal, batches: list[list[int]]
) -> None:
    made = capturing.shop(usage_engine)
    made.plan(limit, soft_limit_enabled=soft, hard_cap_multiplier=multiplier)
    cap = Terms(limit, soft, multiplier).cap
    expected: dict[str, str] = {}
    for batch in batches:
        keys = [f"k{number}" for number in batch]
        for key in keys:
            state = (
                "ACCEPTED"
                if len(expected) < limit
                else "OVERAGE"
                if len(expected) < cap
                else "REJECTED_QUOTA"
            )
            expected.setdefault(key, state)
        made.capture(*keys)
    assert made.ledger() == expected
    made.agrees()
