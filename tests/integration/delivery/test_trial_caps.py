"""A test takes of the caps of its channel what goes out, and nothing of what the provider refuses."""

from __future__ import annotations

import pytest

from kernel.delivery import setup
from kernel.delivery.providers.base import Outcome, rejected, unknown
from quality.certification.delivery.world import World
from tests.integration.delivery.companies import company
from tests.integration.delivery.test_trial import SEED, Box, tried


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        (None, {"hour": 2, "day": 2}),
        (rejected("refused", "no such address"), {"hour": 0, "day": 0}),
        (unknown("timeout", "no answer"), {"hour": 2, "day": 2}),
    ],
)
def test_what_is_refused_is_given_back(world: World, answer: Outcome | None, used: dict[str, int]) -> None:
    acme = company(world.engine, world.ledger)
    acme.call(setup.policy, "email", hourly_cap=2, daily_cap=2)
    acme.call(setup.add_seeds, [SEED, "boss@acme.example"], channel="email", actor="olga")
    tried(acme, Box(fails=answer), acme.write(), SEED, "boss@acme.example")
    windows = acme.pinned("select span, sum(used) as used from delivery.quota_windows group by 1")
    assert {row.span: int(row.used) for row in windows} == used
