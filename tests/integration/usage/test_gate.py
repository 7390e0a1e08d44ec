"""Which events are new, what an answer repeats, and what is written down with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import gate, sites
from kernel.usage.outbox import Message
from tests.integration.usage.capturing import AT, Shop, event, statuses
from tests.integration.usage.capturing import shop as another_shop

pytestmark = pytest.mark.usefixtures("either_way")

FEBRUARY = datetime(2026, 2, 3, tzinfo=UTC)


class BrokerDownError(Exception):
    pass


def _failing(_connection: sa.Connection, _message: Message) -> None:
    raise BrokerDownError("no route to the broker\0 \ud800")


def test_nothing_captured_is_nothing_written(shop: Shop) -> None:
    assert shop.capture() == []
    assert shop.pinned("select from usage.usage_periods") == []


def test_a_new_event_is_metered_and_handed_on(shop: Shop) -> None:
    [outcome] = shop.capture(event(shop.site, "a", category="page", action="view", label="x", occurred_at=AT))
    assert (outcome.status, outcome.billing_state, outcome.billable) == ("queued", "ACCEPTED", True)
    assert (outcome.quota_remaining, outcome.replayed_of, outcome.is_conflict) == (999, None, False)
    row = shop.pinned("select * from usage.ingest_idempotency")[0]
    assert (row.created_at, row.expires_at, row.year_month) == (AT, AT + timedelta(days=90), "2026-01")
    assert (row.event_category, row.event_action, row.event_label, row.occurred_at) == (
        "page",
        "view",
        "x",
        AT,
    )
    assert (row.billing_reason, row.idempotency_version, row.plan_id) == ("default_billable", 1, None)
    shop.agrees()


def test_the_outbox_holds_the_payloads_as_they_came_in_the_order_of_their_keys(shop: Shop) -> None:
    odd = {"url": "x", "el": 'a\0b \ud800 "q" \\ ,{}', "n": 10**30}
    shop.capture(event(shop.site, "b"), event(shop.site, "a", payload=odd))
    keys, payload = shop.pinned("select keys, payload::text from usage.usage_outbox")[0]
    assert (keys, json.loads(payload)) == (["b", "a"], [{"url": "b"}, odd])


def test_texts_that_postgresql_cannot_hold_are_kept_as_near_as_it_can(shop: Shop) -> None:
    shop.capture(event(shop.site, 'q"\\,{}', category="a\0b", action="x\ud800y", label='"\\ {,} NULL ü'))
    row = shop.pinned("select * from usage.ingest_idempotency")[0]
    assert (row.idempotency_key, row.event_category, row.event_action) == ('q"\\,{}', "a\ufffdb", "x\ufffdy")
    assert row.event_label == '"\\ {,} NULL ü'


def test_a_duplicate_repeats_the_outcome_and_writes_nothing(shop: Shop) -> None:
    shop.capture("a")
    [outcome] = shop.capture("a", at=AT + timedelta(days=1))
    assert (outcome.status, outcome.replayed_of, outcome.billing_state) == (
        "duplicate",
        "ACCEPTED",
        "ACCEPTED",
    )
    assert (outcome.quota_remaining, outcome.is_conflict) == (999, False)
    assert (shop.billable(), len(shop.pinned("select from usage.usage_outbox"))) == (1, 1)
    shop.agrees()


def test_one_capture_knows_its_own_duplicates(shop: Shop) -> None:
    outcomes = shop.capture("a", "b", "a", "a")
    assert [each.status for each in outcomes] == ["queued", "queued", "duplicate", "duplicate"]
    assert [each.quota_remaining for each in outcomes] == [999, 998, 998, 998]
    shop.agrees()


def test_a_key_belongs_to_its_site(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        second = sites.make(connection, shop.tenant_id, "second")
    outcomes = shop.capture("a", event(second, "a"), "b", event(second, "a"))
    assert [each.status for each in outcomes] == ["queued", "queued", "queued", "duplicate"]
    assert sorted(row[0] for row in shop.pinned("select accepted from usage.usage_counters")) == [1, 2]
    assert sorted(row[0] for row in shop.pinned("select keys from usage.usage_outbox")) == [["a"], ["a", "b"]]


def test_another_payload_under_a_key_is_kept_and_the_ledger_stands(shop: Shop) -> None:
    odd = {"url": "other\0"}
    before, *_ = shop.capture("a"), shop.pinned("select 1")
    outcomes = shop.capture(
        event(shop.site, "a", payload=odd), event(shop.site, "b"), event(shop.site, "b", payload=odd)
    )
    assert [each.is_conflict for each in (*before, *outcomes)] == [False, True, False, True]
    assert [each.status for each in outcomes] == ["duplicate", "queued", "duplicate"]
    kept = shop.pinned("select idempotency_key, payload::text from usage.usage_conflicts order by 1")
    assert [(key, json.loads(payload)) for key, payload in kept] == [("a", odd), ("b", odd)]
    shop.capture(event(shop.site, "a", payload=odd))
    assert len(shop.pinned("select from usage.usage_conflicts")) == 2
    shop.agrees()


def test_a_publisher_that_fails_costs_no_event(shop: Shop) -> None:
    outcomes = shop.capture("a", "b", "a", publisher=_failing)
    assert [each.status for each in outcomes] == ["degraded", "degraded", "duplicate"]
    assert [each.billing_state for each in outcomes] == ["DEGRADED_CAPTURE"] * 3
    assert shop.ledger() == {"a": "DEGRADED_CAPTURE", "b": "DEGRADED_CAPTURE"}
    kept = shop.pinned("select * from usage.ingest_fallback_buffer")
    assert [(each.keys, each.payload, each.status) for each in kept] == [
        (["a", "b"], [{"url": "a"}, {"url": "b"}], "PENDING")
    ]
    assert kept[0].error_reason == "BrokerDownError: no route to the broker\ufffd ?"
    assert statuses(shop.capture("a")) == {"duplicate": 1}
    shop.agrees()


def test_what_a_publisher_wrote_before_it_failed_is_taken_back(shop: Shop) -> None:
    def half(connection: sa.Connection, message: Message) -> None:
        gate.outbox.write(connection, message)
        connection.exec_driver_sql("select 1 / 0")

    assert statuses(shop.capture("a", publisher=half)) == {"degraded": 1}
    assert shop.pinned("select from usage.usage_outbox") == []
    shop.agrees()


def test_only_the_site_whose_message_failed_is_degraded(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        second = sites.make(connection, shop.tenant_id, "second")

    def of_second(connection: sa.Connection, message: Message) -> None:
        if message.site_id == second.id:
            raise BrokerDownError
        gate.outbox.write(connection, message)

    outcomes = shop.capture("a", event(second, "b"), publisher=of_second)
    assert [each.status for each in outcomes] == ["queued", "degraded"]
    shop.agrees()


def test_overage_that_could_not_be_published_stays_overage_for_the_invoice(shop: Shop) -> None:
    shop.soft(1)
    outcomes = shop.capture("a", "b", publisher=_failing)
    assert [(each.status, each.is_overage) for each in outcomes] == [("degraded", False), ("degraded", True)]
    assert shop.ledger() == {"a": "DEGRADED_CAPTURE", "b": "OVERAGE"}
    shop.agrees()


def test_an_event_counts_in_the_month_it_was_received(shop: Shop) -> None:
    last = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    first = datetime(2026, 2, 1, tzinfo=UTC)
    shop.capture(event(shop.site, "a", at=last), event(shop.site, "b", at=first), at=first)
    assert shop.counters("2026-01") == shop.counters("2026-02") == (1, 0, 0)
    berlin = datetime.fromisoformat("2026-02-01T00:30:00+01:00")
    shop.capture(event(shop.site, "c", at=berlin), at=first)
    assert shop.counters("2026-01") == (2, 0, 0)
    shop.agrees()


def test_the_same_key_in_two_months_is_one_event(shop: Shop) -> None:
    shop.capture("a")
    assert statuses(shop.capture("a", at=FEBRUARY)) == {"duplicate": 1}
    assert shop.counters("2026-02") == (0, 0, 0)


@pytest.mark.parametrize(
    "received_at", [datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)]
)
def test_a_month_that_was_never_opened_takes_nothing(shop: Shop, received_at: datetime) -> None:
    with pytest.raises(RefusedError, match=f"month {received_at:%Y-%m} takes no more usage"):
        shop.capture("a", event(shop.site, "b", at=received_at))
    assert shop.ledger() == {}


def test_a_closed_month_takes_nothing_and_the_others_go_on(shop: Shop) -> None:
    shop.capture("a")
    shop.close()
    with pytest.raises(RefusedError, match="month 2026-01 takes no more usage"):
        shop.capture("b")
    assert statuses(shop.capture(event(shop.site, "a", at=FEBRUARY), event(shop.site, "c", at=FEBRUARY), at=FEBRUARY)) == {
        "duplicate": 1, "queued": 1,
    }  # fmt: skip


def test_what_was_decided_is_gone_with_its_transaction(shop: Shop) -> None:
    with pytest.raises(RuntimeError), shop.engine.begin() as connection:
        gate.capture(connection, [event(shop.site, "a")], at=AT, actor="gate")
        raise RuntimeError
    assert (shop.ledger(), shop.counters()) == ({}, (0, 0, 0))
    assert statuses(shop.capture("a")) == {"queued": 1}


def test_a_closed_site_and_one_of_another_tenant_are_refused(shop: Shop) -> None:
    other = another_shop(shop.engine)
    with pytest.raises(ValueError, match="one tenant"):
        shop.capture("a", event(other.site, "a"))
    shop.pinned("update usage.sites set status = 'closed'")
    with pytest.raises(RefusedError, match="closed or unknown"):
        shop.capture("a")


def test_a_lost_counter_begins_with_what_the_ledger_says(shop: Shop) -> None:
    shop.soft(2, hard_cap_multiplier=1.5)
    shop.capture("a", "b", "c", "d")
    assert shop.counters() == (3, 1, 1)
    shop.pinned("delete from usage.usage_counters")
    assert statuses(shop.capture("e")) == {"rejected_quota": 1}
    assert shop.counters() == (3, 1, 2)


@pytest.mark.parametrize(
    ("category", "action", "billable", "reason"),
    [
        ("conversion", "phone_call", True, "conversion"),
        ("interaction", "view", True, "interaction_view"),
        ("interaction", "scroll_depth", False, "scroll_depth"),
        ("interaction", "new", True, "default_billable"),
        ("system", "heartbeat", False, "system"),
        ("System", "heartbeat", True, "default_billable"),
        ("", "", True, "default_billable"),
    ],
)
def test_a_plan_may_say_which_kinds_of_events_count(
    shop: Shop, category: str, action: str, billable: bool, reason: str
) -> None:
    shop.plan(0, billing_rule="event_kinds")
    [outcome] = shop.capture(event(shop.site, "a", category=category, action=action))
    assert (outcome.billable, outcome.status) == (False, "rejected_quota" if billable else "queued")
    shop.plan(9, at=AT + timedelta(days=1), billing_rule="event_kinds")
    shop.capture(event(shop.site, "b", category=category, action=action), at=AT + timedelta(days=1))
    row = shop.pinned("select * from usage.ingest_idempotency where idempotency_key = 'b'")[0]
    assert (row.billable, row.billing_reason) == (billable, reason)
    shop.agrees()


METERS = (
    ("calls", "count", None), ("bytes", "sum", "body.size"), ("peak", "max", "body.size"), ("users", "unique", "user"),
)  # fmt: skip


def test_meters_read_their_values_from_the_events_they_name(shop: Shop) -> None:
    for name, kind, path in METERS:
        shop.pinned(
            "insert into usage.usage_meters (tenant_id, name, kind, event_category, value_path, dimensions)"
            " values (:tenant, :name, :kind, 'api', :path, '{region}')",
            tenant=shop.tenant_id, name=name, kind=kind, path=path,
        )  # fmt: skip
    bodies: tuple[Any, ...] = (
        {"body": {"size": "12.50"}, "user": "ü\0", "region": "eu"}, {"body": {"size": "x"}, "user": None},
        {"body": {"size": 7}, "user": 3},
    )  # fmt: skip
    shop.capture(
        *(event(shop.site, f"k{n}", payload=each, category="api") for n, each in enumerate(bodies)),
        "other",
        "k0",
    )
    rows = shop.pinned(
        "select meter, idempotency_key, value::text, told, dimensions ->> 'region', year_month"
        " from usage.usage_meter_values order by meter, idempotency_key"
    )
    month = "2026-01"
    assert rows == [
        ("bytes", "k0", "12.50", "12.50", "eu", month), ("bytes", "k2", "7", "7", None, month),
        ("calls", "k0", "1", None, "eu", month), ("calls", "k1", "1", None, None, month),
        ("calls", "k2", "1", None, None, month),
        ("peak", "k0", "12.50", "12.50", "eu", month), ("peak", "k2", "7", "7", None, month),
        ("users", "k0", None, "ü\ufffd", "eu", month), ("users", "k2", None, "3", None, month),
    ]  # fmt: skip


def test_a_refused_event_has_no_meter_values(shop: Shop) -> None:
    shop.pinned(
        "insert into usage.usage_meters (tenant_id, name, kind) values (:t, 'calls', 'count')",
        t=shop.tenant_id,
    )
    shop.plan(1)
    shop.capture("a", "b")
    assert shop.pinned("select idempotency_key from usage.usage_meter_values") == [("a",)]


def test_a_capture_costs_a_bounded_number_of_statements(shop: Shop) -> None:
    shop.capture("warm")
    asked: list[str] = []
    sa.event.listen(shop.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    shop.capture("one")
    one = len(asked)
    shop.capture(*(uuid4().hex for _ in range(300)))
    assert (one, len(asked) - one) == (one, one)
    assert one <= 14


def test_what_was_adjusted_as_late_is_metered_by_no_later_request(shop: Shop):
    shop.pinned(
        "insert into usage.usage_adjustments"
        " (tenant_id, site_id, year_month, of_year_month, idempotency_key, quantity, kind, reason, asked_by)"
        " values (:tenant, :site, '2026-01', '2025-12', 'v3:late', 1, 'late', 'came when it was closed', 'ann')",
        tenant=shop.tenant_id,
        site=shop.site.id,
    )
    (outcome,) = shop.capture("v3:late")
    assert (outcome.status, outcome.is_conflict) == ("duplicate", False)
    assert shop.ledger() == {}
