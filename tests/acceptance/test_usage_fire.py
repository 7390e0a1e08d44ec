"""Usage is counted exactly once, whatever dies and fails while it is metered: duplicates, late ones, altered ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from models import address
from tests.fakes.usage_fire import Fire, Tally
from tests.fakes.usage_workload import Workload


@pytest.fixture
def fire_engine(database_url: str) -> Iterator[sa.Engine]:
    """Of a database that goes with the test: a large one must not stay until the session ends."""
    made = sa.create_engine(database_url)
    yield made
    made.dispose()
    name = sa.make_url(database_url).database
    with address.connected(address.sibling(database_url, "postgres")) as connection:
        connection.exec_driver_sql(f'drop database "{name}" with (force)')


def _is_exact(tally: Tally, *, kills: int, failures: int) -> None:
    print(tally)
    assert (tally.killed, tally.failed) == (kills, failures)
    assert (tally.over, tally.under) == (0, 0)
    assert tally.metered == tally.counted == tally.invoiced == tally.distinct
    assert (tally.delivered, tally.undelivered, tally.late_rows) == (tally.distinct, 0, 0)
    assert (tally.conflicts_lost, tally.conflicts_invented) == (0, 0)
    duplicates = tally.sent - tally.distinct
    assert abs(duplicates / tally.sent - 0.3) < 0.02
    assert tally.late > 0.05 * duplicates
    assert tally.altered > 0.03 * duplicates
    assert tally.conflicts > 0.9 * tally.altered
    assert tally.resent > 0


def test_every_event_counts_once_whatever_is_killed_and_fails(fire_engine: sa.Engine, tmp_path: Path) -> None:
    workload = Workload(seed=0, events=20_000, tenants=5, batch=100)
    _is_exact(Fire(fire_engine, workload, kills=6, failures=8, folder=tmp_path).run(), kills=6, failures=8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 21))
def test_of_a_million_events_every_one_counts_once(fire_engine: sa.Engine, tmp_path: Path, seed: int) -> None:
    workload = Workload(seed=seed, events=1_000_000, tenants=20, batch=1_000)
    _is_exact(
        Fire(fire_engine, workload, kills=20, failures=40, folder=tmp_path).run(), kills=20, failures=40
    )


def test_keys_that_are_claimed_before_they_are_written_lose_events(
    fire_engine: sa.Engine, tmp_path: Path
) -> None:
    """The control: the same script, with keys claimed in a store beside the database."""
    workload = Workload(seed=0, events=5_000, tenants=2, batch=100)
    tally = Fire(fire_engine, workload, kills=6, failures=8, folder=tmp_path, claims_first=True).run()
    assert tally.under > 0
    assert tally.conflicts_lost > 0
