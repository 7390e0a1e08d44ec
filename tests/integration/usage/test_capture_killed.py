"""Processes killed at every step of a capture, a recovery, a recount and a close: the invoice is of what was captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain, count, takewhile

import pytest
import sqlalchemy as sa

from kernel.usage import recovery
from tests.fakes import usage_killed
from tests.fakes.killed import ANSWER, Killing
from tests.integration.usage import closing
from tests.integration.usage.closing import CLOSE_AT, JANUARY, Closer

LATER = JANUARY + timedelta(minutes=1)
KEYS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def killing(usage_engine: sa.Engine) -> Iterator[Killing]:
    url = usage_engine.url.render_as_string(hide_password=False)
    with Killing(usage_killed.__name__, url) as made:
        yield made


def _everywhere(die: Callable[[int], bool]) -> int:
    """Dies at each step until one is not reached any more, and after the last; how many there are."""
    steps = sum(1 for _ in takewhile(die, count(1)))
    assert die(ANSWER)
    return steps


def _new(usage_engine: sa.Engine) -> Closer:
    """A month in which the third event is overage."""
    made = closing.closer(usage_engine)
    made.soft(2)
    return made


def _is_invoiced(closer: Closer) -> None:
    """Closes the month: its invoice is of these events, each once, and each was handed on once."""
    handed = closer.pinned("select unnest(keys) from usage.usage_outbox")
    assert sorted(chain.from_iterable(handed)) == KEYS
    closer.recount(CLOSE_AT + timedelta(hours=1))
    done = closer.close_month(at=CLOSE_AT + timedelta(hours=1))
    assert (done.is_new, done.rows, done.events, done.overage) == (True, 4, 4, 2)
    assert sorted(closer.ledger()) == KEYS
    _is_invoice_of_all(closer)


def _is_invoice_of_all(closer: Closer) -> None:
    (frozen,) = closer.snapshots()
    assert (frozen.event_count, frozen.overage_count) == (4, 2)
    assert sum(quantity for kind, _, quantity, _ in closer.lines() if kind == "overage") == 2


@pytest.mark.parametrize("is_away", [False, True])
def test_killed_at_any_step_of_a_capture_each_event_is_on_the_invoice_once(
    usage_engine: sa.Engine, killing: Killing, is_away: bool
) -> None:
    def die(step: int) -> bool:
        closer = _new(usage_engine)
        closer.capture("a")
        killed = killing.at(
            step,
            "capture",
            public_id=closer.site.public_id,
            keys=KEYS,
            at=JANUARY.isoformat(),
            is_away=is_away,
        )
        # All of the capture or nothing.
        stored = sorted(closer.ledger())
        assert stored == (["a"] if killed and step != ANSWER else KEYS), step
        closer.agrees()
        told = [outcome.status for outcome in closer.capture(*KEYS, at=JANUARY)]
        assert told == ["duplicate" if key in stored else "queued" for key in KEYS]
        recovery.work(usage_engine, "worker", lambda: LATER)
        _is_invoiced(closer)
        return killed

    assert _everywhere(die) > 8


def test_killed_at_any_step_of_a_recovery_each_event_is_on_the_invoice_once(
    usage_engine: sa.Engine, killing: Killing
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError

    def die(step: int) -> bool:
        closer = _new(usage_engine)
        closer.capture(*KEYS, at=JANUARY, publisher=away)
        killed = killing.at(step, "recover", at=LATER.isoformat())
        recovery.work(usage_engine, "worker", lambda: LATER + recovery.LEASE)
        _is_invoiced(closer)
        return killed

    assert _everywhere(die) > 6


def test_killed_at_any_step_of_a_recount_each_event_is_on_the_invoice_once(
    usage_engine: sa.Engine, killing: Killing
) -> None:
    def die(step: int) -> bool:
        closer = _new(usage_engine)
        closer.capture(*KEYS, at=JANUARY)
        killed = killing.at(step, "recount", tenant_id=str(closer.tenant_id), at=CLOSE_AT.isoformat())
        _is_invoiced(closer)
        return killed

    assert _everywhere(die) > 6


def test_killed_at_any_step_of_a_close_each_event_is_on_the_invoice_once(
    usage_engine: sa.Engine, killing: Killing
) -> None:
    closer = _new(usage_engine)
    closer.capture(*KEYS, at=JANUARY)
    closer.recount()
    given = {"tenant_id": str(closer.tenant_id), "month": "2026-01", "at": CLOSE_AT.isoformat()}
    steps = 0
    while True:
        killed = killing.at(steps + 1, "close", **given)
        if not killed:
            break
        steps += 1
        assert (closer.state(), closer.snapshots(), closer.lines()) == ("OPEN", [], []), steps
    assert steps > 15
    # After as many deaths, it was closed once and whole.
    assert closer.close_month().is_new is False
    _is_invoice_of_all(closer)


def test_killed_after_a_close_it_is_closed(usage_engine: sa.Engine, killing: Killing) -> None:
    closer = _new(usage_engine)
    closer.capture(*KEYS, at=JANUARY)
    closer.recount()
    assert killing.at(
        ANSWER, "close", tenant_id=str(closer.tenant_id), month="2026-01", at=CLOSE_AT.isoformat()
    )
    assert closer.close_month().is_new is False
    _is_invoice_of_all(closer)
