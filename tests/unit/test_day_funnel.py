"""What is found when a campaign of the demonstration is laid beside what its server took. No database."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from dagster_project.cli import day_funnel
from kernel.delivery import funnel
from kernel.delivery.providers.effects import Effect
from kernel.delivery.rollup import Counts
from kernel.delivery.views import Exclusion

ITEMS = {name: uuid4() for name in ("ann", "bob", "cleo", "dan")}
BECAME = {"ann": "accepted", "bob": "accepted", "cleo": "unknown", "dan": "failed"}
ATTEMPTS: dict[str, tuple[UUID, str]] = {
    f"try-{name}": (ITEMS[name], became) for name, became in BECAME.items()
}
CLEAN = Counts(accepted=2, rejected=1, suppressed=1, unknown=1)


def effect(name: str, reference: str | None = None) -> Effect:
    return Effect(
        uuid4().hex, reference or f"try-{name}", f"{name}@mail.example", "mail", "", "2026-11-21T12:00:00"
    )


def drawer(counts: Counts = CLEAN, intended: int = 5) -> Any:
    case = SimpleNamespace(
        id=uuid4(), item_id=ITEMS["cleo"], resolution=None, address="cleo@mail.example", reason="no_answer"
    )
    return SimpleNamespace(
        run=SimpleNamespace(id=uuid4(), intended=intended, counts=counts, provider="smtp"),
        exclusions=[Exclusion("opt_out", True, False, 1), Exclusion("invalid_address", False, False, 3)],
        cases=[case],
    )  # fmt: skip


TAKEN = [effect("ann"), effect("bob"), effect("cleo")]


def compared(effects: list[Effect] = TAKEN, **given: Any) -> funnel.Funnel:
    return funnel.compared("acme", drawer(**given), ATTEMPTS, effects)


def test_a_campaign_that_adds_up_has_no_mismatch():
    seen = compared()
    assert funnel.mismatches(seen) == []
    assert dict(seen.taken) == {"accepted": 2, "unknown": 1}
    assert (seen.strangers, seen.twice, seen.missing, len(seen.held)) == (0, 0, 0, 1)


def test_an_unknown_message_that_the_server_never_took_is_no_mismatch():
    seen = compared(TAKEN[:2])
    assert funnel.mismatches(seen) == []
    assert not seen.held


@pytest.mark.parametrize(
    ("effects", "told"),
    [
        (TAKEN[1:], "acme: 1 count as accepted and were never taken by the server"),
        ([*TAKEN, effect("ann")], "acme: 1 were contacted twice"),
        ([*TAKEN, effect("dan")], "acme: the server took 1 messages for people who count as failed"),
        ([*TAKEN, effect("eve", "of nobody")], "acme: the server took 1 messages that nobody sent"),
    ],
)
def test_what_the_server_took_beside_what_counts_is_told(effects: list[Effect], told: str):
    assert funnel.mismatches(compared(effects)) == [told]


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (replace(CLEAN, rejected=0), "acme: 5 were intended, and 4 are accounted for"),
        (replace(CLEAN, rejected=0, open=1), "acme: 1 are still open"),
        (replace(CLEAN, rejected=0, unknown=2), "acme: 2 are unknown, with 1 open cases"),
    ],
)
def test_counts_that_do_not_hold_are_told(counts: Counts, told: str):
    assert funnel.mismatches(compared(counts=counts)) == [told]


def test_the_lines_of_a_funnel_add_up_to_what_was_intended(capsys: pytest.CaptureFixture[str]):
    day_funnel.tell([compared()])
    shown = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    read = {name.strip(): int(value) for name, value in shown.items() if value.isdigit()}
    assert read["addressed"] == read["intended"] + read["cannot be reached: invalid_address"] == 8
    named = ("suppressed: opt_out", "accepted", "rejected", "unknown", "cancelled")
    assert sum(read[name] for name in named) == read["intended"] == 5
    assert (read["the server took"], read["for accepted people"], read["for unknown people"]) == (3, 2, 1)
    assert (read["contacted twice"], read["open cases"]) == (0, 1)
