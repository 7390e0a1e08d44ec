"""The door asks in a fixed order: what fails several checks is answered by the first of them."""

from __future__ import annotations

from tests.integration.usage.capturing import Shop
from tests.integration.usage.doors import opened


def away(*_: object) -> None:
    raise ConnectionError


def test_who_sends_how_often_what_whether_new_whether_there_is_room_and_only_then_it_is_handed_on(
    shop: Shop,
) -> None:
    shop.plan(1)
    with opened(shop, rate=1, publisher=away) as door:
        known, new, no_event = door.event("a"), door.event("b"), b"{"
        # New, there is room, and it cannot be handed on.
        assert door.send(known).body["status"] == "degraded"
        # The bucket is empty now, and the month is full.
        assert door.send(no_event, token="ros_wrong").status == 403
        assert door.send(no_event).has(ratelimit="1", quota_exceeded=None)
        door.clock.move(seconds=1)
        assert door.send(no_event).status == 400
        door.clock.move(seconds=1)
        again = door.send(known)
        assert (again.status, again.body["status"]) == (200, "duplicate")
        door.clock.move(seconds=1)
        refused = door.send(new)
        assert (refused.status, refused.has(quota_exceeded="1", ratelimit=None)) == (429, True)
    assert sorted(shop.ledger().values()) == ["DEGRADED_CAPTURE", "REJECTED_QUOTA"]
    # What was refused was handed on by nobody.
    assert shop.pinned("select cardinality(keys) from usage.ingest_fallback_buffer") == [(1,)]
