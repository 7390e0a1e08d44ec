"""Workers that die, stall and compete: what the provider saw, and what stands in the database."""

from __future__ import annotations

import pytest

from quality.certification.delivery import crowded, stolen
from quality.certification.delivery.world import World


@pytest.mark.parametrize("case", stolen.CASES, ids=lambda case: case.name)
def test_a_worker_that_slept_through_three_leases_completes_nothing_and_tells_what_it_knows(
    world: World, case: stolen.Case
) -> None:
    assert stolen.found(world, case) == stolen.expected(case)


def check_crowd(world: World, seed: int) -> None:
    outcome = crowded.crowd(world, seed)
    print(outcome)
    assert (outcome.twice, outcome.untrue, outcome.miscounted) == (0, 0, 0)
    assert outcome.intended == sum(outcome.statuses.values()) == crowded.PEOPLE * crowded.TENANTS
    assert outcome.kills >= 10


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_four_workers_killed_at_random_contact_nobody_twice_and_lose_nobody(world: World, seed: int) -> None:
    check_crowd(world, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 150))
def test_fifty_crowds_of_workers_contact_nobody_twice(world: World, seed: int) -> None:
    check_crowd(world, seed)
