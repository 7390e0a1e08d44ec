"""What comes late by a file and now by a request, at once or long after: it is metered once, or refused with a reason."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kernel.usage import archive, gate, payloads
from kernel.usage.batch import Intake, Line
from kernel.usage.events import Event
from tests.integration.usage.capturing import event
from tests.integration.usage.closing import FEBRUARY, Closer

MARCH = datetime(2026, 3, 10, tzinfo=UTC)


def _file(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "events.jsonl"
    path.write_text("".join(f"{json.dumps({'url': 'https://x.co'} | each)}\n" for each in records))
    return path


def _taken(closer: Closer, path: Path, at: datetime, setting: str = "3") -> list[Line]:
    lines: list[Line] = []
    Intake(closer.engine, closer.site, setting, "operator", lambda: at, lines.extend, tells_all=True).take(
        path
    )
    return lines


def _event(closer: Closer, event_id: str, at: datetime) -> Event:
    made = payloads.events(
        closer.site, [{"s": closer.site.public_id, "url": "https://x.co", "event_id": event_id}],
        setting="3", clock=[at],
    )  # fmt: skip
    assert isinstance(made[0], Event)
    return made[0]


def _stopped(monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[threading.Event, threading.Event]:
    """A step of the file door that says when it is done, and waits until it may go on."""
    done, go_on, real = threading.Event(), threading.Event(), getattr(Intake, name)

    def stopped(self: Intake, *given: Any) -> Any:
        result = real(self, *given)
        result = iter(list(result)) if name == "_adjusted" else result
        done.set()
        assert go_on.wait(20)
        return result

    monkeypatch.setattr(Intake, name, stopped)
    return done, go_on


def _at_once(closer: Closer, step: Callable[[], Any], go_on: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=step)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive(), "it waits for the other one"
    go_on.set()
    return thread


def test_what_a_file_adjusts_is_no_new_event_to_a_request_that_waited(
    closer: Closer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer.closed("a")
    closer.capture("of february", at=FEBRUARY)
    path = _file(tmp_path, {"event_id": "one", "received_at": "2026-01-20T10:00:00Z"})
    done, go_on = _stopped(monkeypatch, "_adjusted")
    statuses: list[str] = []
    taking = threading.Thread(
        target=lambda: statuses.extend(each.status for each in _taken(closer, path, FEBRUARY))
    )
    taking.start()
    assert done.wait(20)

    def ask() -> None:
        with closer.engine.begin() as connection:
            outcomes = gate.capture(connection, [_event(closer, "one", FEBRUARY)], at=FEBRUARY, actor="door")
            statuses.append(outcomes[0].status)

    asking = _at_once(closer, ask, go_on)
    taking.join(20)
    asking.join(20)
    assert sorted(statuses) == ["adjusted", "duplicate"]


def test_an_approval_and_an_import_that_begin_a_month_wait_for_each_other(
    closer: Closer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer.closed("a")
    asked = closer.ask(-1, at=FEBRUARY)
    path = _file(
        tmp_path,
        {"event_id": "late", "received_at": "2026-01-20T10:00:00Z"},
        {"event_id": "new", "received_at": "2026-03-09T10:00:00Z"},
    )
    done, go_on = _stopped(monkeypatch, "_sort")
    statuses: list[str] = []
    taking = threading.Thread(
        target=lambda: statuses.extend(each.status for each in _taken(closer, path, MARCH))
    )
    taking.start()
    assert done.wait(20)
    approved: list[Any] = []
    approving = _at_once(closer, lambda: approved.extend(closer.approve(asked, actor="Ben", at=MARCH)), go_on)
    taking.join(20)
    approving.join(20)
    assert sorted(statuses) == ["adjusted", "queued"]
    assert [each.pays for each in approved] == ["2026-03"]


def test_what_comes_of_a_month_that_was_archived_is_refused(closer: Closer, tmp_path: Path) -> None:
    long_ago, later = datetime(2025, 1, 15, 10, tzinfo=UTC), datetime(2025, 5, 2, tzinfo=UTC)
    path = _file(tmp_path, {"event_id": "one", "received_at": "2025-01-15T09:00:00Z"})
    closer.capture("first", at=long_ago)
    assert [each.status for each in _taken(closer, path, long_ago)] == ["queued"]
    closed_at = datetime(2025, 2, 1, 6, tzinfo=UTC)
    closer.recount(at=closed_at)
    closer.close_month("2025-01", at=closed_at)
    assert [each.status for each in _taken(closer, path, later)] == ["duplicate"]
    with closer.engine.begin() as connection:
        (month,) = archive.due(connection, at=later, tenant_id=closer.tenant_id)
    archive.archive(closer.engine, month, tmp_path / "archives", at=later, actor="operator")
    (line,) = _taken(closer, path, later)
    assert (line.status, line.reason.split(":")[0]) == ("invalid", "month_archived")
    assert closer.pinned("select from usage.usage_adjustments") == []


def test_an_event_that_was_archived_is_the_same_event_whenever_it_comes(
    closer: Closer, tmp_path: Path
) -> None:
    long_ago, later = datetime(2025, 1, 15, 10, tzinfo=UTC), datetime(2025, 5, 2, tzinfo=UTC)
    closer.capture(_event(closer, "one", long_ago), at=long_ago)
    closed_at = datetime(2025, 2, 1, 6, tzinfo=UTC)
    closer.recount(at=closed_at)
    closer.close_month("2025-01", at=closed_at)
    with closer.engine.begin() as connection:
        (month,) = archive.due(connection, at=later, tenant_id=closer.tenant_id)
    archive.archive(closer.engine, month, tmp_path / "archives", at=later, actor="operator")
    assert closer.ledger() == {}
    (outcome,) = closer.capture(_event(closer, "one", later), at=later)
    assert outcome.status == "duplicate"


def test_a_file_keeps_the_keys_that_were_made_of_it_first(closer: Closer, tmp_path: Path) -> None:
    path = _file(tmp_path, {"event_id": "one", "sid": "v"})
    assert [each.status for each in _taken(closer, path, FEBRUARY, "1")] == ["queued"]
    assert [each.status for each in _taken(closer, path, FEBRUARY, "3")] == ["duplicate"]


def test_conflicts_of_a_key_are_kept_up_to_a_number_and_long_ones_to_a_length(closer: Closer) -> None:
    closer.capture("a", at=FEBRUARY)
    for number in range(40):
        altered = event(closer.site, "a", payload={"n": number, "text": "x" * 20_000}, at=FEBRUARY)
        (outcome,) = closer.capture(altered, at=FEBRUARY)
        assert outcome.is_conflict
    kept = closer.pinned("select octet_length(payload::text) as size from usage.usage_conflicts")
    assert len(kept) == 32
    assert max(row.size for row in kept) < 40_000


def test_long_texts_of_an_event_are_cut_where_they_are_told(closer: Closer) -> None:
    closer.capture(event(closer.site, "a", label="l" * 5_000, at=FEBRUARY), at=FEBRUARY)
    assert closer.pinned("select char_length(event_label) from usage.ingest_idempotency")[0][0] == 1_000
