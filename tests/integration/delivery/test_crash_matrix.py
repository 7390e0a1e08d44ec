"""A worker is killed between any two steps of a send: nobody is contacted twice, and nothing is lost silently."""

from __future__ import annotations

import pytest

from quality.certification.delivery import killed
from quality.certification.delivery.world import World


@pytest.mark.parametrize("case", killed.CASES, ids=lambda case: case.name)
def test_a_worker_that_is_killed_leaves_what_the_next_one_can_settle(world: World, case: killed.Case) -> None:
    assert killed.found(world, case) == case.expected
