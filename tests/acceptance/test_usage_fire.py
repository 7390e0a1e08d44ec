"""Usage is counted exactly once, whatever dies and fails while it is metered: duplicates, late ones, altered ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.fakes.usage_fire import Fire, Tally
from tests.fakes.usage_workload import Workload


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


def test_every_event_counts_once_whatever_is_killed_and_fails(engine: sa.Engine, tmp_path: Path) -> None:
    workload = Workload(seed=0, events=20_000, tenants=5, batch=100)
    _is_exact(Fire(engine, workload, kills=6, failures=8, folder=tmp_path).run(), kills=6, failures=8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 21))
def test_of_a_million_events_every_one_counts_once(engine: sa.Engine, tmp_path: Path, seed: int) -> None:
    workload = Workload(seed=seed, events=1_000_000, tenants=20, batch=1_000)
    _is_exact(Fire(engine, workload, kills=20, failures=40, folder=tmp_path).run(), kills=20, failures=40)


def test_keys_that_are_claimed_before_they_are_written_lose_events(engine: sa.Engine, tmp_path: Path) -> None:
    """The control: the same script, with keys claimed in a store beside the database."""
    workload = Workload(seed=0, events=5_000, tenants=2, batch=100)
    tally = Fire(engine, workload, kills=6, failures=8, folder=tmp_path, claims_first=True).run()
    assert tally.under > 0
    assert tally.conflicts_lost > 0
