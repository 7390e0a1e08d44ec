"""Many at the same time: what is new is metered once, and a limit lets through exactly what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from kernel.usage.events import Event, Outcome
from tests.integration.usage.capturing import AT, Shop, event, statuses


def _together(shop: Shop, captures: list[list[Event]], pool: ThreadPoolExecutor) -> list[Outcome]:
    ready = Barrier(len(captures))

    def one(events: list[Event]) -> list[Outcome]:
        ready.wait()
        return shop.capture(*events, at=AT)

    return [outcome for outcomes in pool.map(one, captures) for outcome in outcomes]


def _identical_rounds(shop: Shop, rounds: int) -> None:
    shop.plan(10**6)
    with ThreadPoolExecutor(20) as pool:
        for number in range(rounds):
            same = [event(shop.site, f"r{number}")]
            assert statuses(_together(shop, [same] * 20, pool)) == {"queued": 1, "duplicate": 19}
    assert shop.counters() == (rounds, 0, 0)
    shop.agrees()


def test_of_twenty_identical_events_at_once_one_is_billable(shop: Shop) -> None:
    _identical_rounds(shop, 100)


@pytest.mark.slow
def test_of_twenty_identical_events_at_once_one_is_billable_a_thousand_times(shop: Shop) -> None:
    _identical_rounds(shop, 1_000)


@pytest.mark.parametrize("left", [1, 5])
def test_of_sixty_four_at_once_as_many_are_accepted_as_are_left(shop: Shop, left: int) -> None:
    shop.plan(10 + left)
    shop.capture(*(f"before{n}" for n in range(10)))
    with ThreadPoolExecutor(64) as pool:
        outcomes = _together(shop, [[event(shop.site, f"k{n}")] for n in range(64)], pool)
    assert statuses(outcomes) == {"queued": left, "rejected_quota": 64 - left}
    assert shop.counters() == (10 + left, 0, 64 - left)
    shop.agrees()


def test_batches_that_overlap_meter_each_event_once(shop: Shop) -> None:
    with ThreadPoolExecutor(8) as pool:
        batches = [[event(shop.site, f"k{(n * 7 + start) % 60}") for n in range(40)] for start in range(8)]
        outcomes = _together(shop, batches, pool)
    assert statuses(outcomes) == {"queued": 60, "duplicate": 8 * 40 - 60}
    shop.agrees()


def test_whoever_captures_while_a_month_is_closed_is_refused_or_is_in_it(shop: Shop) -> None:
    shop.plan(10**6)
    shop.capture("first")
    ready = Barrier(9)

    def capture(number: int) -> str:
        ready.wait()
        try:
            return shop.capture(f"k{number}")[0].status
        except Exception as error:
            return str(error)

    def close() -> int:
        ready.wait()
        shop.close()
        return shop.billable()

    with ThreadPoolExecutor(9) as pool:
        closing = pool.submit(close)
        told = list(pool.map(capture, range(8)))
        assert closing.result() == shop.billable() == 1 + told.count("queued")
    assert all(each == "queued" or "takes no more usage" in each for each in told)
    shop.agrees()


_CRASH = """
import os, signal, sys
import sqlalchemy as sa
from kernel.usage import gate, outbox, sites
from tests.integration.usage.capturing import AT, event
url, public_id, moment = sys.argv[1:]
engine = sa.create_engine(url)
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with engine.begin() as connection:
    site = sites.by_public_id(connection, public_id)
with engine.begin() as connection:
    publisher = die if moment == "publishing" else outbox.write
    gate.capture(connection, [event(site, "a"), event(site, "b")], at=AT, actor="gate", publisher=publisher)
    if moment == "before the commit":
        die()
if moment == "after the commit":
    die()
"""


@pytest.mark.parametrize(
    ("moment", "again"),
    [("publishing", "queued"), ("before the commit", "queued"), ("after the commit", "duplicate")],
)
def test_a_process_that_is_killed_leaves_all_of_a_capture_or_nothing(
    shop: Shop, moment: str, again: str
) -> None:
    url = shop.engine.url.render_as_string(hide_password=False)
    given = [sys.executable, "-c", _CRASH, url, shop.site.public_id, moment]
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    killed = subprocess.run(given, check=False, env=os.environ | {"PYTHONPATH": path})
    assert killed.returncode == -signal.SIGKILL
    assert shop.ledger() == ({} if again == "queued" else {"a": "ACCEPTED", "b": "ACCEPTED"})
    shop.agrees()
    assert statuses(shop.capture("a", "b")) == {again: 2}
    shop.agrees()
