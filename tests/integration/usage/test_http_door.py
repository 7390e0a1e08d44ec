"""The HTTP door: statuses, bodies and headers that clients rely on, and what stands in the ledger behind each."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from kernel.usage import arrivals, gate, sites
from kernel.usage.counts import COUNTERS
from kernel.usage.outbox import Message
from tests.integration.usage import capturing
from tests.integration.usage.capturing import AT, Shop, event
from tests.integration.usage.doors import Client, opened


@pytest.fixture
def door(shop: Shop) -> Iterator[Client]:
    with opened(shop) as client:
        yield client


def test_a_new_event_is_queued_with_its_id(door: Client) -> None:
    answer = door.send(door.event("a"))
    (key,) = door.shop.ledger()
    assert (answer.status, answer.body) == (
        200, {"ok": True, "score": 10, "v": "2.1.0", "status": "queued", "ingest_id": key},
    )  # fmt: skip
    assert answer.has(quota_remaining="999", dedup="0", commit="abc", branch="main", version="2.1.0")
    assert answer.has(overage=None, degraded=None, ratelimit=None, quota_exceeded=None)
    assert answer.headers["vary"] == "Origin"
    door.shop.agrees()


def test_the_same_event_again_is_a_duplicate(door: Client) -> None:
    door.send(door.event("a"))
    answer = door.send(door.event("a"))
    assert (answer.status, answer.body["status"], answer.body["ingest_id"], answer.body["captured"]) == (
        200, "duplicate", None, True,
    )  # fmt: skip
    assert answer.has(dedup="1", quota_remaining="999")
    assert len(door.shop.ledger()) == 1


def test_another_payload_under_the_key_is_a_duplicate_that_says_so(door: Client) -> None:
    door.send(door.event("a"))
    assert door.send(door.event("a", ev=7)).body["conflict"] is True
    assert (len(door.shop.ledger()), door.counted("conflict")) == (1, 1)


def test_how_a_payload_is_written_is_no_conflict(door: Client) -> None:
    door.send(door.event("a"))
    spaced = b'{ "sid":"v", "ea":"view","ec":"p\\u0061ge", "url":"https://x.co/a", "s":"%s"}'
    answer = door.send(spaced % door.shop.site.public_id.encode())
    assert answer.body["status"] == "duplicate"
    assert "conflict" not in answer.body


def test_a_full_month_answers_with_the_seconds_to_the_next(door: Client) -> None:
    door.shop.plan(1)
    assert door.send(door.event("a")).has(quota_remaining="0", overage=None)
    for _ in range(2):
        answer = door.send(door.event("b"))
        assert (answer.status, answer.body["status"], answer.body["ok"]) == (429, "rejected_quota", False)
        assert answer.has(quota_exceeded="1", quota_remaining="0", ratelimit=None)
        assert answer.headers["retry-after"] == str(16 * 86400 + 14 * 3600)
    assert sorted(door.shop.ledger().values()) == ["ACCEPTED", "REJECTED_QUOTA"]
    assert door.shop.billable() == 1


def test_overage_is_told_by_a_header(door: Client) -> None:
    door.shop.soft(1)
    door.send(door.event("a"))
    answer = door.send(door.event("b"))
    assert (answer.status, answer.body["status"]) == (200, "queued")
    assert answer.has(overage="true", quota_remaining="0", quota_exceeded=None)
    assert (door.counted("overage"), door.counted("allowed")) == (1, 2)


def test_what_cannot_be_published_is_billed_and_kept(shop: Shop) -> None:
    def failing(_connection: sa.Connection, _message: Message) -> None:
        raise RuntimeError("no broker")

    with opened(shop, publisher=failing) as client:
        answer = client.send(client.event("a"))
        assert (answer.status, answer.body["status"], answer.body["score"]) == (200, "degraded", 0)
        assert answer.has(degraded="qstash_publish_failed", fallback="true", quota_remaining="999")
        assert client.send(client.event("a")).body["status"] == "duplicate"
        assert client.counted("degraded") == 1
    assert list(shop.ledger().values()) == ["DEGRADED_CAPTURE"]
    shop.agrees()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{", "invalid_json"),
        (b"", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"null", "payload_not_object"),
        (b"7", "payload_not_object"),
        ({}, "missing_site_or_url"),
        ({"s": "SITE"}, "missing_site_or_url"),
        ({"s": "SITE", "url": " "}, "missing_site_or_url"),
        ({"s": "another", "url": "x"}, "site_not_found"),
        ({"s": "SITE", "url": {"toString": 1}}, "url_not_text"),
        ([], "events_empty"),
        ({"events": []}, "events_empty"),
        (b"[" * 5_000, "invalid_json"),
        (b'{"s":"SITE","url":"x","a":' + b"[" * 300 + b"]" * 300 + b"}", "payload_too_deep"),
    ],
)
def test_what_is_no_event_is_named(door: Client, sent: Any, code: str) -> None:
    public_id = door.shop.site.public_id
    if isinstance(sent, bytes):
        sent = sent.replace(b"SITE", public_id.encode())
    elif isinstance(sent, dict) and sent.get("s") == "SITE":
        sent = sent | {"s": public_id}
    answer = door.send(sent)
    assert (answer.status, answer.body["ok"], answer.body["error"]) == (400, False, code)
    assert answer.has(error_code=code)
    assert door.shop.pinned("select from usage.usage_periods") == []


@pytest.mark.parametrize("odd", ["a\0b", "\ud800", 'q"\\,{}', "ü" * 5_000, "\x1f"])
def test_texts_of_any_kind_are_metered(door: Client, odd: str) -> None:
    answer = door.send(door.event("a", ec=odd, el=odd, more=[odd, 10**30, 1e308]))
    assert answer.body["status"] == "queued"
    assert door.send(door.event("a", ec=odd, el=odd, more=[odd, 10**30, 1e308])).body["status"] == "duplicate"
    door.shop.agrees()


def test_too_many_events_and_too_large_a_body_are_refused_whole(door: Client) -> None:
    many = door.send([door.event(str(number)) for number in range(51)])
    assert (many.status, many.body["error"]) == (413, "batch_too_many_events")
    large = door.send(door.event("a", el="x" * 300_000))
    assert (large.status, large.body["error"]) == (413, "body_too_large")
    assert door.shop.ledger() == {}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_batch_is_answered_item_by_item(door: Client, wrapped: bool) -> None:
    door.shop.plan(3)
    door.send(door.event("old"))
    batch = [door.event("a"), door.event("old"), {"s": "x"}, door.event("b"), door.event("c"), 7]
    answer = door.send({"events": batch} if wrapped else batch)
    told = [each["status"] for each in answer.body["results"]]
    assert told == ["queued", "duplicate", "invalid", "queued", "rejected_quota", "invalid"]
    counts = {
        name: answer.body[name] for name in ("queued", "duplicates", "rejected_quota", "invalid", "degraded")
    }
    assert counts == {"queued": 2, "duplicates": 1, "rejected_quota": 1, "invalid": 2, "degraded": 0}
    assert (answer.status, answer.body["ok"], answer.body["status"]) == (200, True, "batch")
    assert answer.has(quota_exceeded="1", quota_remaining="0")
    door.shop.agrees()


def test_a_batch_of_refusals_alone_has_their_status(door: Client) -> None:
    door.shop.plan(0)
    assert door.send([door.event("a"), door.event("b")]).status == 429
    assert door.send([{}, 7]).status == 400


def test_a_request_without_a_write_key_or_with_a_wrong_one_is_turned_away(door: Client) -> None:
    missing, wrong = door.send(door.event("a"), token=None), door.send(door.event("a"), token="ros_nothing")
    assert (missing.status, missing.body["error"], missing.headers["www-authenticate"]) == (
        401, "missing_write_key", "Bearer",
    )  # fmt: skip
    assert (wrong.status, wrong.body["error"]) == (403, "wrong_write_key")
    assert (door.shop.ledger(), door.counted("unauthorized")) == ({}, 2)


def test_a_revoked_key_is_turned_away_within_seconds(door: Client) -> None:
    door.send(door.event("a"))
    with door.shop.engine.begin() as connection:
        (key,) = sites.keys(connection, door.shop.site)
        sites.revoke_key(connection, door.shop.tenant_id, key.id, at=door.clock())
    door.clock.move(seconds=5)
    assert door.send(door.event("b")).status == 403


def test_a_key_opens_no_site_of_another_tenant(door: Client) -> None:
    other = capturing.shop(door.shop.engine)
    answer = door.send(door.event("a", s=other.site.public_id))
    assert (answer.status, answer.body["error"], other.ledger()) == (400, "site_not_found", {})


def test_a_browser_sends_from_the_sites_origins_alone(shop: Shop) -> None:
    with opened(shop, origins=("https://shop.co",)) as client:
        good = client.send(client.event("a"), origin="https://shop.co")
        assert (good.status, good.headers["access-control-allow-origin"]) == (200, "https://shop.co")
        for origin in ("https://evil.co", "https://shop.co.evil.co", "null", "http://shop.co"):
            bad = client.send(client.event("b"), origin=origin)
            assert (bad.status, bad.body["error"]) == (403, "origin_not_allowed")
            assert bad.headers["access-control-allow-origin"] is None
        assert client.send(client.event("c")).status == 200
    assert len(shop.ledger()) == 2


def test_a_preflight_is_answered_before_anybody_knows_the_key(door: Client) -> None:
    answer = door.send(b"", token=None, method="OPTIONS", origin="https://shop.co")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "https://shop.co")
    assert "authorization" in answer.headers["access-control-allow-headers"]


def test_a_site_beyond_its_rate_is_held_back_and_nothing_is_written(shop: Shop) -> None:
    with opened(shop, rate=2) as client:
        assert client.send([client.event(str(number)) for number in range(4)]).status == 200
        answer = client.send(client.event("late"))
        assert (answer.status, answer.body) == (429, {"ok": False, "error": "Rate limit"})
        assert answer.has(ratelimit="1", quota_exceeded=None, quota_remaining=None)
        assert answer.headers["retry-after"] == "2"
        # Before it is read: what it says makes no difference.
        assert client.send(b"{").status == 429
        assert (len(shop.ledger()), client.counted("rate_limited")) == (4, 2)
        client.clock.move(seconds=2)
        assert client.send(client.event("late")).status == 200


def test_twenty_same_requests_at_once_are_one_event(door: Client) -> None:
    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(lambda _: door.send(door.event("a")).body["status"], range(20)))
    assert sorted(told) == ["duplicate"] * 19 + ["queued"]
    assert door.shop.billable() == 1


def test_every_event_is_counted_once_and_the_billable_ones_are_in_the_ledger(shop: Shop) -> None:
    shop.soft(20, hard_cap_multiplier=Decimal("1.5"))
    chosen = random.Random(4)
    with opened(shop) as client, ThreadPoolExecutor(4) as pool:
        requests = [
            [client.event(str(chosen.randrange(60))) for _ in range(chosen.randrange(1, 9))]
            for _ in range(30)
        ]
        requests += [[{}], [7, client.event("x")]]
        list(pool.map(client.send, [each[0] if len(each) == 1 else each for each in requests]))
        counted = {name: client.counted(name) for name in COUNTERS}
    assert counted["allowed"] == shop.billable() == 30
    assert counted["overage"] == 10
    told = ("allowed", "degraded", "duplicate", "rejected_quota", "invalid")
    assert sum(counted[name] for name in told) == sum(map(len, requests))
    shop.agrees()


def test_when_the_database_fails_the_gate_is_closed_and_nothing_is_written(shop: Shop) -> None:
    with opened(shop) as client:
        assert client.send(client.event("a")).status == 200
        shop.pinned("select 1")
        with shop.engine.begin() as connection:
            connection.exec_driver_sql("alter table usage.usage_outbox rename to away")
            connection.exec_driver_sql("alter table usage.ingest_fallback_buffer rename to away_too")
        try:
            answer = client.send(client.event("b"))
            assert (answer.status, answer.body) == (500, {"ok": False, "status": "billing_gate_closed"})
            assert client.counted("gate_closed") == 1
        finally:
            with shop.engine.begin() as connection:
                connection.exec_driver_sql("alter table usage.away rename to usage_outbox")
                connection.exec_driver_sql("alter table usage.away_too rename to ingest_fallback_buffer")
        assert len(shop.ledger()) == 1
        assert client.send(client.event("b")).body["status"] == "queued"
    shop.agrees()


def test_without_a_database_the_door_is_not_ready_and_takes_nothing(shop: Shop) -> None:
    away = arrivals.engine("postgresql+psycopg://nobody@127.0.0.1:1/none", 6)
    with opened(shop, engine=away) as client:
        assert (client.get("/healthz").status, client.get("/readyz").status) == (200, 503)
        answer = client.send(client.event("a"))
        assert (answer.status, answer.body["status"]) == (500, "billing_gate_closed")
        assert "billing_database_up 0" in client.get("/metrics").text


def test_a_door_is_ready_once_migrations_are_applied(door: Client) -> None:
    assert (door.get("/readyz").status, door.get("/readyz").text) == (200, "ready\n")
    with door.shop.engine.begin() as connection:
        revision = connection.exec_driver_sql("select version_num from alembic_version").scalar_one()
        connection.exec_driver_sql("update alembic_version set version_num = '0011'")
    try:
        answer = door.get("/readyz")
        assert (answer.status, "db migrate" in answer.text) == (503, True)
    finally:
        with door.shop.engine.begin() as connection:
            connection.execute(sa.text("update alembic_version set version_num = :v"), {"v": revision})


def test_a_full_queue_turns_requests_away_before_they_are_taken(shop: Shop) -> None:
    with opened(shop, most_waiting=10) as client:
        answer = client.send([client.event(str(number)) for number in range(11)])
        assert (answer.status, answer.headers["retry-after"], shop.ledger()) == (503, "1", {})
        assert client.counted("unavailable") == 1
        assert client.send(client.event("a")).status == 200


class _Held:
    """A publisher that waits, as a slow transaction does."""

    def __init__(self) -> None:
        self.begun, self.released, self.captures = threading.Event(), threading.Event(), 0

    def __call__(self, connection: sa.Connection, message: Message) -> None:
        self.captures += 1
        self.begun.set()
        assert self.released.wait(10)
        gate.outbox.write(connection, message)


def test_requests_that_wait_are_captured_together(shop: Shop) -> None:
    held = _Held()
    with opened(shop, publisher=held) as client, ThreadPoolExecutor(9) as pool:
        first = pool.submit(client.send, client.event("first"))
        assert held.begun.wait(5)
        others = [pool.submit(client.send, client.event(str(number))) for number in range(8)]
        _until(lambda: "billing_ingest_waiting_events 8" in _waiting(client))
        held.released.set()
        assert {each.result().status for each in (first, *others)} == {200}
    assert (held.captures, len(shop.ledger())) == (2, 9)
    shop.agrees()


def test_one_bad_request_fails_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    held, real = _Held(), gate.capture

    def capture(connection: sa.Connection, events: Any, **given: Any) -> Any:
        if any(b"/bad" in event.payload for event in events):
            raise ValueError("no such event")
        return real(connection, events, **given)

    monkeypatch.setattr(gate, "capture", capture)
    with opened(shop, publisher=held) as client, ThreadPoolExecutor(5) as pool:
        first = pool.submit(client.send, client.event("first"))
        assert held.begun.wait(5)
        others = [pool.submit(client.send, client.event(name)) for name in ("a", "bad", "c")]
        _until(lambda: "billing_ingest_waiting_events 3" in _waiting(client))
        held.released.set()
        assert [each.result().status for each in (first, *others)] == [200, 200, 500, 200]
    assert len(shop.ledger()) == 3
    shop.agrees()


def test_a_request_that_nobody_waits_for_any_more_is_not_begun(shop: Shop) -> None:
    held = _Held()
    waiting = arrivals.Arrivals(shop.engine, lambda: AT, threads=1, publisher=held)
    begun = waiting.put([event(shop.site, "a")])
    assert held.begun.wait(5)
    left, third = waiting.put([event(shop.site, "b")]), waiting.put([event(shop.site, "c")])
    assert (begun.cancel(), left.cancel()) == (False, True)
    held.released.set()
    waiting.close()
    assert [each.result()[0].status for each in (begun, third)] == ["queued", "queued"]
    assert list(shop.ledger()) == ["a", "c"]
    with pytest.raises(arrivals.BusyError):
        waiting.put([event(shop.site, "d")])


def test_one_tenant_that_is_held_up_holds_up_no_other(shop: Shop) -> None:
    other = capturing.shop(shop.engine)
    waiting = arrivals.Arrivals(shop.engine, lambda: AT, threads=2)
    with shop.engine.begin() as closing:
        closing.execute(sa.text("select from usage.sites where id = :id for update"), {"id": shop.site.id})
        held = [waiting.put([event(shop.site, str(number))]) for number in range(5)]
        assert waiting.put([event(other.site, "a")]).result(5)[0].status == "queued"
        assert not any(each.done() for each in held)
    assert {each.result(5)[0].status for each in held} == {"queued"}
    waiting.close()


def test_a_door_that_ends_answers_what_it_has_taken(shop: Shop) -> None:
    held = _Held()
    with opened(shop, publisher=held) as client, ThreadPoolExecutor(2) as pool:
        taken = pool.submit(client.send, client.event("a"))
        assert held.begun.wait(5)
        client.uvicorn.should_exit = True
        time.sleep(0.3)
        with pytest.raises(OSError, match=r"refused|reset"):
            client.get("/healthz")
        held.released.set()
        assert taken.result().body["status"] == "queued"
    shop.agrees()


def _waiting(client: Client) -> str:
    # What waits is noted by the requests themselves; this one is turned away.
    client.send(b"", token=None)
    return client.get("/metrics").text


def _until(condition: Any) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
