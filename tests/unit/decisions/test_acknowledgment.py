"""Which actions wait for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from kernel.decisions.acknowledgment import required
from kernel.decisions.contract import Attributes
from tests.unit.decisions.scenarios import CLOCK, given


@dataclass(frozen=True)
class Proposed:
    type: str = "config_change"
    owner_subsystem: str = "crm"
    attributes: Attributes = Attributes(window_days=7)  # noqa: RUF009 - frozen


def asked(action: Any, activated_at: Any = CLOCK - timedelta(days=100)) -> bool:
    needed, why = required(action, given(config={"activated_at": activated_at}), CLOCK)
    assert needed == bool(why)
    return needed


@pytest.mark.parametrize("does", ["increases_spend", "changes_price", "reallocates_budget"])
def test_money_always_asks(does: str):
    assert asked(Proposed(attributes=Attributes(window_days=7, **{does: True})))


def test_more_spend_asks_even_when_it_is_not_declared():
    assert asked(Proposed(attributes=Attributes(window_days=7, daily_spend_change=1)))


def test_pricing_always_asks():
    assert asked(Proposed(owner_subsystem="pricing"))


@pytest.mark.parametrize("kind", ["config_change", "experiment", "scale", "pause", "revert"])
@pytest.mark.parametrize("owner", ["campaigns", "crm", "routing", "content"])
def test_everything_asks_in_the_first_30_days_and_while_the_start_is_unknown(kind: str, owner: str):
    action = Proposed(kind, owner)
    assert asked(action, CLOCK - timedelta(days=30))
    assert asked(action, CLOCK + timedelta(days=1))
    assert asked(action, None)
    assert not asked(action, CLOCK - timedelta(days=30, seconds=1))


@pytest.mark.parametrize("kind", ["alert", "data_correction", "forecast_update"])
def test_a_ticket_never_asks(kind: str):
    assert not asked(Proposed(kind, "data"), None)
