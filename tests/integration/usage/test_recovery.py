"""What could not be published is published later: billed once, tried often enough, given up in the open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import outbox, recovery
from tests.integration.usage.closing import FEBRUARY, JANUARY, Closer

LATER = JANUARY + timedelta(minutes=1)
_owners = count(1)


def fails(connection: sa.Connection, message: outbox.Message) -> None:
    raise ConnectionError("the queue is away")


def degraded(closer: Closer, *keys: str) -> None:
    assert {each.status for each in closer.capture(*keys, at=JANUARY, publisher=fails)} == {"degraded"}


def recovered(closer: Closer, at: Any = LATER, publisher: Any = outbox.write) -> dict[str, int]:
    return dict(recovery.work(closer.engine, f"worker {next(_owners)}", lambda: at, publisher))


def buffer(closer: Closer) -> Any:
    (row,) = closer.pinned("select * from usage.ingest_fallback_buffer")
    return row


def test_what_is_recovered_was_billed_at_capture_and_is_billed_once(closer: Closer):
    degraded(closer, "a", "b")
    billed = closer.billable()
    assert recovered(closer) == {"RECOVERED": 1}
    assert closer.ledger() == {"a": "RECOVERED", "b": "RECOVERED"}
    assert closer.billable() == billed == 2
    assert [row.decision for row in closer.pinned("select decision from usage.usage_decisions")] == [
        "recovered"
    ] * 2


def test_what_was_recovered_is_not_recovered_again(closer: Closer):
    degraded(closer, "a")
    recovered(closer)
    assert recovered(closer, LATER + timedelta(days=1)) == {}
    assert closer.pinned("select count(*) from usage.usage_outbox")[0][0] == 1


def test_a_failure_is_tried_again_later_and_given_up_after_ten(closer: Closer):
    degraded(closer, "a", "b")
    at = LATER
    for attempt in range(1, recovery.ATTEMPTS):
        assert recovered(closer, at, fails) == {"PENDING": 1}
        assert recovered(closer, at) == {}, "not before it is due"
        row = buffer(closer)
        assert row.recover_attempt_count == attempt
        at = row.due_at
    assert recovered(closer, at, fails) == {"QUARANTINE": 1}
    assert recovered(closer, at + timedelta(days=9)) == {}
    told = closer.pinned("select decision, reason from usage.usage_decisions")
    assert [tuple(row) for row in told] == [("quarantined", "never_delivered")] * 2
    assert closer.billable() == 2


def test_what_was_given_up_is_tried_again_by_a_person(closer: Closer):
    degraded(closer, "a")
    closer.pinned("update usage.ingest_fallback_buffer set recover_attempt_count = 9")
    recovered(closer, publisher=fails)
    with closer.engine.begin() as connection:
        recovery.again(connection, closer.tenant_id, buffer(closer).id, actor="Ann", at=LATER)
    assert recovered(closer) == {"RECOVERED": 1}
    with closer.engine.begin() as connection, pytest.raises(RefusedError, match="was not given up"):
        recovery.again(connection, closer.tenant_id, buffer(closer).id, actor="Ann", at=LATER)


def test_a_message_whose_holder_died_is_taken_up_and_the_dead_one_changes_nothing(closer: Closer):
    degraded(closer, "a")
    with closer.engine.begin() as connection:
        held = recovery.claim(connection, "dead", LATER)
    assert recovered(closer) == {}
    assert recovered(closer, LATER + recovery.LEASE) == {"RECOVERED": 1}
    assert recovery.recover(closer.engine, held, "dead", lambda: LATER + recovery.LEASE) == "LOST"
    assert closer.pinned("select count(*) from usage.usage_outbox")[0][0] == 1


def test_a_message_that_kills_who_takes_it_up_is_given_up(closer: Closer):
    degraded(closer, "a")
    at = LATER
    for _ in range(recovery.ATTEMPTS):
        with closer.engine.begin() as connection:
            assert recovery.claim(connection, "killed", at)
        at += recovery.LEASE
    assert recovered(closer, at) == {}
    assert buffer(closer).status == "QUARANTINE"


def test_rows_of_a_month_that_was_closed_meanwhile_stay_as_they_were_billed(closer: Closer):
    degraded(closer, "a")
    closer.closed()
    assert recovered(closer, FEBRUARY) == {"RECOVERED": 1}
    assert closer.ledger() == {"a": "DEGRADED_CAPTURE"}
    assert closer.pinned("select keys from usage.usage_outbox")[0][0] == ["a"]


_KILLED = """
import os, signal, sys
from datetime import datetime
from uuid import UUID
import sqlalchemy as sa
from kernel.usage import outbox, recovery
point, url = sys.argv[1:]
engine = sa.create_engine(url)
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
def publish(connection, message):
    outbox.write(connection, message)
    if point == "published": die()
if point == "marked":
    sa.event.listen(engine, "commit", lambda c: die() if c.info.get("marked") else None)
    @sa.event.listens_for(engine, "after_cursor_execute")
    def seen(connection, cursor, statement, *_):
        if "set billing_state = 'RECOVERED'" in statement: connection.info["marked"] = True
at = datetime.fromisoformat("2026-01-15T10:01:00+00:00")
with engine.begin() as connection:
    held = recovery.claim(connection, "killed", at)
if point == "claimed": die()
recovery.recover(engine, held, "killed", lambda: at, publish)
"""


@pytest.mark.parametrize("point", ["claimed", "published", "marked"])
def test_killed_anywhere_it_is_recovered_once_and_billed_once(closer: Closer, point: str):
    degraded(closer, "a", "b")
    url = closer.engine.url.render_as_string(hide_password=False)
    killed = subprocess.run([sys.executable, "-c", _KILLED, point, url], check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    # The server takes a moment to notice, and until then the message is still held.
    ends_at = time.monotonic() + 10
    while not (done := recovered(closer, LATER + recovery.LEASE)) and time.monotonic() < ends_at:
        time.sleep(0.05)
    assert done == {"RECOVERED": 1}
    assert closer.pinned("select keys from usage.usage_outbox")[0][0] == ["a", "b"]
    assert closer.billable() == 2
    assert set(closer.ledger().values()) == {"RECOVERED"}
