"""Further meters: how they are made, what they come to, and how they end."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from kernel.errors import RefusedError
from kernel.usage import audit, meters
from kernel.usage.meters import Meter
from tests.integration.usage.capturing import AT, Shop, event


def add(shop: Shop, *given: Any) -> None:
    with shop.engine.begin() as connection:
        meters.add(connection, shop.tenant_id, Meter(*given), actor="ann", at=AT)


def end(shop: Shop, name: str) -> None:
    with shop.engine.begin() as connection:
        meters.end(connection, shop.tenant_id, name, actor="ann", at=AT + timedelta(days=1))


def values(shop: Shop, month: str = "2026-01") -> dict[str, tuple[int, Decimal]]:
    with shop.engine.begin() as connection:
        rows = meters.values(connection, shop.tenant_id, month)
    return {row["meter"]: (row["events"], row["value"]) for row in rows}


def sized(shop: Shop, key: str, size: str, user: str) -> None:
    shop.capture(event(shop.site, key, payload={"body": {"size": size}, "user": user}, category="api"))


def test_each_kind_of_meter_comes_to_what_it_says(shop: Shop) -> None:
    add(shop, "calls", "count", "api")
    add(shop, "bytes", "sum", "api", None, "body.size")
    add(shop, "peak", "max", "api", None, "body.size")
    add(shop, "users", "unique", "api", None, "user")
    for number, (size, user) in enumerate([("1.5", "a"), ("7", "b"), ("2", "a")]):
        sized(shop, f"k{number}", size, user)
    shop.capture("no call")
    assert values(shop) == {
        "bytes": (3, Decimal("10.5")), "calls": (3, 3), "peak": (3, 7), "users": (3, 2),
    }  # fmt: skip
    assert values(shop, "2026-02") == {}


def test_a_meter_that_has_ended_reads_nothing_more_and_keeps_what_it_read(shop: Shop) -> None:
    add(shop, "calls", "count")
    shop.capture("a")
    end(shop, "calls")
    shop.capture("b")
    assert values(shop) == {"calls": (1, 1)}
    with pytest.raises(RefusedError, match="no meter 'calls' that goes on"):
        end(shop, "calls")
    with pytest.raises(RefusedError, match="is taken, by a meter that goes on or one that has ended"):
        add(shop, "calls", "count")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("Calls", "count"), "begins with a letter"),
        (("x" * 64, "count"), "at most 63"),
        (("calls", "count", None, None, "body.size"), "of kind count has no value"),
        (("bytes", "sum"), "of kind sum needs the value"),
    ],
)
def test_a_meter_that_cannot_be_is_refused(shop: Shop, given: tuple[Any, ...], told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        add(shop, *given)


def test_who_made_and_ended_a_meter_stands_in_the_audit(shop: Shop) -> None:
    add(shop, "calls", "count")
    end(shop, "calls")
    rows = shop.pinned("select event, actor, detail ->> 'name' from usage.usage_audit order by number")
    assert rows == [("meter_added", "ann", "calls"), ("meter_ended", "ann", "calls")]
    with shop.engine.begin() as connection:
        assert audit.broken(connection, shop.tenant_id) is None
