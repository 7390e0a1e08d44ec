"""The last event that fits and the one event that came twenty times, at both doors and with many at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest

from kernel import tenancy
from kernel.usage import plans, sites
from kernel.usage.batch import Intake, Line
from kernel.usage.plans import Terms
from tests.integration.usage.capturing import AT, Shop, event
from tests.integration.usage.doors import opened

Send = Callable[[str], str]


def _payload(shop: Shop, name: str) -> dict[str, str]:
    return {"s": shop.site.public_id, "url": f"https://x.co/{name}", "sid": "v", "event_id": name}


@contextmanager
def _gate(shop: Shop, folder: Path) -> Iterator[Send]:
    yield lambda name: shop.capture(event(shop.site, name))[0].status


@contextmanager
def _requests(shop: Shop, folder: Path) -> Iterator[Send]:
    with opened(shop, setting="3", rate=10**6) as client:
        yield lambda name: client.send(_payload(shop, name)).body["status"]


@contextmanager
def _files(shop: Shop, folder: Path) -> Iterator[Send]:
    """Each event in a file of its own, of which no two are the same: a file that is known is another matter."""
    numbers = iter(range(10**9))

    def send(name: str) -> str:
        told: list[Line] = []
        number = next(numbers)
        path = folder / f"{number}.jsonl"
        spaces = f"{number:b}".translate({ord("0"): " ", ord("1"): "\t"})
        path.write_text(f"{json.dumps(_payload(shop, name))}{spaces}\n")
        Intake(shop.engine, shop.site, "3", "ann", lambda: AT, told.extend, tells_all=True).take(path)
        path.unlink()
        return told[0].status

    yield send


DOORS = [_requests, _files]


def _at_once(pool: ThreadPoolExecutor, send: Send, names: list[str]) -> Counter[str]:
    ready = Barrier(len(names))

    def one(name: str) -> str:
        ready.wait()
        return send(name)

    return Counter(pool.map(one, names))


def _identical_rounds(door: Callable, shop: Shop, folder: Path, rounds: int) -> None:
    shop.plan(10**6)
    with door(shop, folder) as send, ThreadPoolExecutor(20) as pool:
        for number in range(rounds):
            told = _at_once(pool, send, [f"r{number}"] * 20)
            assert told == {"queued": 1, "duplicate": 19}, number
    assert shop.counters() == (rounds, 0, 0)
    assert shop.billable() == rounds
    shop.agrees()


@pytest.mark.parametrize("door", DOORS)
def test_of_twenty_identical_events_at_a_door_one_is_billable(
    shop: Shop, tmp_path: Path, door: Callable
) -> None:
    _identical_rounds(door, shop, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_of_twenty_identical_events_at_a_door_one_is_billable_a_thousand_times(
    shop: Shop, tmp_path: Path, door: Callable
) -> None:
    _identical_rounds(door, shop, tmp_path, 1_000)


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("door", [_gate, *DOORS])
def test_of_sixty_four_at_once_before_the_limit_one_is_taken(
    shop: Shop, tmp_path: Path, door: Callable, is_soft: bool
) -> None:
    """One less than the limit was accepted; of a soft limit, one less than its cap."""
    limit = 10
    if is_soft:
        shop.soft(limit // 2)
    else:
        shop.plan(limit)
    shop.capture(*(f"before{number}" for number in range(limit - 1)))
    with door(shop, tmp_path) as send, ThreadPoolExecutor(64) as pool:
        told = _at_once(pool, send, [f"k{number}" for number in range(64)])
        assert told == {"queued": 1, "rejected_quota": 63}
        # Asked again, all of them are answered as before.
        assert _at_once(pool, send, [f"k{number}" for number in range(64)]) == {
            "duplicate": 1,
            "rejected_quota": 63,
        }
    assert shop.counters() == (limit, limit // 2 if is_soft else 0, 63)
    assert shop.billable() == limit
    shop.agrees()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("limit", [0, 1, 7])
def test_a_door_accepts_exactly_the_limit(shop: Shop, tmp_path: Path, door: Callable, limit: int) -> None:
    shop.plan(limit)
    with door(shop, tmp_path) as send:
        told = [send(f"k{number}") for number in range(limit + 2)]
    assert told == ["queued"] * limit + ["rejected_quota"] * 2
    assert shop.counters() == (limit, 0, 2)


def test_sites_of_a_tenant_have_limits_of_their_own(shop: Shop) -> None:
    shop.plan(2)
    with shop.engine.begin() as connection:
        tenancy.service(connection, shop.tenant_id)
        other = sites.make(connection, shop.tenant_id, "other")
        plans.set_plan(
            connection, shop.tenant_id, other.id, Terms(monthly_limit=3), valid_from=AT, actor="ann", at=AT
        )
    for _ in range(2):
        told = shop.capture(
            *(event(site, f"{site.name} {n}") for n in range(4) for site in (shop.site, other))
        )
        taken = [each.status != "rejected_quota" for each in told]
        assert (taken[::2], taken[1::2]) == ([True, True, False, False], [True, True, True, False])
    shop.agrees()


def test_a_key_expires_ninety_days_after_its_event_came(shop: Shop) -> None:
    shop.capture("a")
    assert shop.pinned("select expires_at from usage.ingest_idempotency")[0][0] == AT + timedelta(days=90)


@pytest.mark.parametrize(
    ("at", "month"),
    [("2026-01-31T23:59:59.999999+00:00", "2026-01"), ("2026-02-01T00:00:00+00:00", "2026-02")],
)
def test_the_last_instant_of_a_month_is_of_that_month(shop: Shop, at: str, month: str) -> None:
    instant = AT.fromisoformat(at)
    shop.capture("a", at=instant)
    assert shop.pinned("select year_month from usage.ingest_idempotency")[0][0] == month
    assert shop.counters(month) == (1, 0, 0)
