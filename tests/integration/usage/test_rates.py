"""How many events a second a site may send, by the bucket alone and through the door."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from kernel.usage.rates import Limiter
from tests.integration.usage.capturing import Shop
from tests.integration.usage.capturing import shop as another_shop
from tests.integration.usage.doors import opened

SITE = UUID(int=1)


class Ticks:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_what_one_second_fills() -> None:
    limiter = Limiter(3, Ticks())
    assert [limiter.wait(SITE) > 0 for _ in range(5)] == [False, False, False, True, True]


def test_the_wait_that_is_told_is_long_enough_and_not_longer() -> None:
    ticks = Ticks()
    limiter = Limiter(2, ticks)
    limiter.wait(SITE)
    limiter.charge(SITE, 4)
    seconds = limiter.wait(SITE)
    assert seconds == pytest.approx(2)
    ticks.now += seconds - 0.01
    assert limiter.wait(SITE) > 0
    ticks.now += 0.01
    assert limiter.wait(SITE) == 0


@pytest.mark.parametrize("size", [1, 7, 50])
def test_over_time_a_site_sends_at_its_rate_however_large_its_requests(size: int) -> None:
    ticks, sent = Ticks(), 0
    limiter = Limiter(10, ticks)
    for _ in range(10_000):
        ticks.now += 0.01
        if limiter.wait(SITE) == 0:
            limiter.charge(SITE, size - 1)
            sent += size
    assert 1_000 - size <= sent <= 1_010 + size


def test_sites_have_buckets_of_their_own() -> None:
    limiter = Limiter(1, Ticks())
    assert limiter.wait(SITE) == 0 < limiter.wait(SITE)
    assert limiter.wait(uuid4()) == 0


def test_a_clock_that_goes_back_fills_nothing_and_takes_nothing() -> None:
    ticks = Ticks()
    limiter = Limiter(2, ticks)
    limiter.wait(SITE)
    ticks.now -= 50
    assert [limiter.wait(SITE) > 0 for _ in range(2)] == [False, True]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_means_nothing_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        Limiter(rate)


def test_one_site_at_its_rate_does_not_hold_back_another(shop: Shop) -> None:
    other = another_shop(shop.engine)
    with opened(shop, rate=1) as client:
        assert [client.send(client.event(name)).status for name in "ab"] == [200, 429]
        with shop.engine.begin() as connection:
            from kernel.usage import sites

            token = sites.make_key(connection, other.site, actor="ann", at=client.clock()).token
        assert client.send(client.event("a", s=other.site.public_id), token=token).status == 200


def test_names_and_addresses_that_a_client_may_change_fill_no_new_bucket(shop: Shop) -> None:
    with opened(shop, rate=1) as client:
        assert (
            client.send(client.event("a"), **{"user-agent": "one", "x-forwarded-for": "1.1.1.1"}).status
            == 200
        )
        answer = client.send(client.event("b"), **{"user-agent": "two", "x-forwarded-for": "2.2.2.2"})
        assert answer.status == 429
    assert len(shop.ledger()) == 1
    assert shop.counters() == (1, 0, 0)
