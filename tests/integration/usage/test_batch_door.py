"""The batch door: files of events into the ledger, line by line, and again without a difference."""

from __future__ import annotations

import csv
import gzip
import json
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernel.errors import RefusedError
from kernel.usage import audit, files, gate
from kernel.usage.batch import Impact, Intake, Line
from tests.integration.usage.capturing import AT, Shop
from tests.integration.usage.doors import Clock, opened

DECEMBER = datetime(2025, 12, 20, 8, tzinfo=UTC)


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {"url": f"https://x.co/{name}", "ec": "page", "ea": "view", "sid": "v"} | fields


class Import:
    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop, self.folder, self.clock = shop, folder, Clock()
        self.lines: list[Line] = []
        self.intake = Intake(
            shop.engine, shop.site, "1", "ann", self.clock, self.lines.extend, tells_all=True
        )

    def file(self, rows: Iterable[Any], name: str = "events.jsonl") -> Path:
        path = self.folder / name
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return path

    def take(self, path: Path) -> Impact:
        self.lines.clear()
        return self.intake.take(path)

    def statuses(self) -> list[str]:
        return [line.status for line in self.lines]


@pytest.fixture
def importing(shop: Shop, tmp_path: Path) -> Import:
    return Import(shop, tmp_path)


def test_every_line_of_a_file_has_its_outcome(importing: Import) -> None:
    importing.shop.plan(2)
    path = importing.file(
        [record("a"), "{", record("a"), "", {"s": "other", "url": "x"}, record("b"), record("c"), "7"]
    )
    impact = importing.take(path)
    assert [(line.line, line.status, line.reason.split(":")[0]) for line in importing.lines] == [
        (1, "queued", ""),
        (2, "invalid", "invalid_json"),
        (3, "duplicate", ""),
        (5, "invalid", "site_not_found"),
        (6, "queued", ""),
        (7, "rejected_quota", "monthly_limit_exceeded"),
        (8, "invalid", "payload_not_object"),
    ]
    assert impact.statuses == {"queued": 2, "invalid": 3, "duplicate": 1, "rejected_quota": 1}
    assert impact.months == {"2026-01": {"queued": 2, "duplicate": 1, "rejected_quota": 1}}
    importing.shop.agrees()


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_the_same_file_again_is_nothing_but_duplicates(importing: Import, version: str) -> None:
    importing.intake = replace(importing.intake, setting=version)
    path = importing.file([record(str(number), ea="click") for number in range(20)])
    importing.take(path)
    before = importing.shop.pinned("select * from usage.ingest_idempotency order by idempotency_key")
    importing.clock.move(hours=30)
    impact = importing.take(path)
    assert (impact.statuses, impact.was_known, impact.arrived_at) == ({"duplicate": 20}, True, AT)
    assert importing.shop.pinned("select * from usage.ingest_idempotency order by idempotency_key") == before
    importing.shop.agrees()


def test_a_file_under_another_name_is_the_same_file(importing: Import) -> None:
    importing.take(importing.file([record("a")]))
    importing.clock.move(hours=1)
    assert importing.take(importing.file([record("a")], "copy.jsonl")).statuses == {"duplicate": 1}


def test_a_run_that_was_killed_is_finished_by_the_next(
    importing: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_EVENTS", 5)
    path, real, calls = importing.file([record(str(number)) for number in range(12)]), gate.capture, []

    def dying(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(gate, "capture", dying)
    with pytest.raises(KeyboardInterrupt):
        importing.take(path)
    assert importing.statuses() == ["queued"] * 5
    importing.clock.move(hours=1)
    assert importing.take(path).statuses == {"duplicate": 5, "queued": 7}
    loads = importing.shop.pinned(
        "select status, rows_read, rows_inserted from ops.load_batches order by started_at"
    )
    assert loads == [("loaded", 12, 12)], "of both runs together"
    importing.shop.agrees()


def test_what_came_through_the_other_door_is_not_metered_again(importing: Import) -> None:
    with opened(importing.shop) as client:
        sent = [client.event(name, ec="a\0ü\ud800") for name in "abc"]
        assert client.send(sent).body["queued"] == 3
    logged = [each | {"received_at": "2026-01-15T10:00:00Z"} for each in sent]
    importing.clock.move(days=2)
    importing.take(importing.file(logged))
    assert [(line.status, line.reason) for line in importing.lines] == [("duplicate", "")] * 3


@pytest.mark.parametrize(
    "told", ["2026-01-15T09:00:01.5Z", "2026-01-15T10:00:01.5+01:00", "2026-01-15T09:00:01.5", 1768467601500]
)
def test_a_log_says_when_a_server_took_an_event(importing: Import, told: Any) -> None:
    importing.take(importing.file([record("a", received_at=told)]))
    row = importing.shop.pinned("select created_at, payload_hash from usage.ingest_idempotency")[0]
    assert row.created_at == AT - timedelta(minutes=59, seconds=58.5)
    assert json.loads(importing.shop.pinned("select payload::text from usage.usage_outbox")[0][0]) == [
        record("a", s=importing.shop.site.public_id)
    ]


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ("yesterday", "received_at_no_instant"),
        (True, "received_at_no_instant"),
        ([], "received_at_no_instant"),
        (1e300, "received_at_no_instant"),
        ("2026-01-15T10:05:01Z", "received_at_in_future"),
    ],
)
def test_a_time_that_is_none_is_refused(importing: Import, told: Any, word: str) -> None:
    importing.take(importing.file([record("a", received_at=told), record("b")]))
    assert [line.reason.split(":")[0] for line in importing.lines] == [word, ""]


def test_events_of_a_month_that_is_open_still_are_of_that_month(importing: Import) -> None:
    importing.shop.capture("old", at=DECEMBER)
    impact = importing.take(importing.file([record("a", received_at=DECEMBER.isoformat()), record("b")]))
    assert impact.months == {"2025-12": {"queued": 1}, "2026-01": {"queued": 1}}
    assert importing.shop.counters("2025-12") == (2, 0, 0)
    importing.shop.agrees()


@pytest.mark.parametrize("tells_all", [True, False])
def test_events_that_came_before_the_first_plan_are_paid_for_when_their_file_arrives_and_told(
    importing: Import, tells_all: bool
) -> None:
    importing.intake = replace(importing.intake, tells_all=tells_all)
    importing.shop.plan(100)
    path = importing.file([record("a", received_at=DECEMBER.isoformat())])
    for run, status in ((importing.intake.foresee, "new"), (importing.take, "queued")):
        importing.lines.clear()
        impact = run(path)
        assert impact.months == {"2026-01": {status: 1}}
        assert impact.moved == {("2025-12", "2026-01", status): 1}
        (line,) = importing.lines
        assert (line.status, line.month) == (status, "2026-01")
        assert "it came in 2025-12" in line.reason
    assert importing.shop.pinned("select created_at from usage.ingest_idempotency") == [(AT,)]
    again = importing.take(path)
    assert (again.statuses, again.moved) == ({"duplicate": 1}, {})


def test_a_file_begins_a_month_that_has_a_plan(importing: Import) -> None:
    importing.shop.plan(1, at=datetime(2025, 11, 1, tzinfo=UTC))
    late = [record(name, received_at=DECEMBER.isoformat()) for name in "ab"]
    path = importing.file([*late, record("c")])
    foreseen = importing.intake.foresee(path)
    assert foreseen.months == {"2025-12": {"new": 2}, "2026-01": {"new": 1}}
    assert importing.shop.pinned("select year_month from usage.usage_periods") == []
    impact = importing.take(path)
    assert impact.months == {
        "2025-12": {"queued": 1, "rejected_quota": 1}, "2026-01": {"queued": 1},
    }  # fmt: skip
    assert (impact.moved, importing.shop.counters("2025-12")) == ({}, (1, 0, 1))
    importing.shop.agrees()


def test_a_file_begins_no_month_before_one_that_is_closed(importing: Import) -> None:
    importing.shop.plan(100, at=datetime(2025, 11, 1, tzinfo=UTC))
    importing.shop.capture("old", at=DECEMBER)
    importing.shop.close("2025-12")
    impact = importing.take(importing.file([record("a", received_at="2025-11-20T08:00:00Z")]))
    assert impact.moved == {("2025-11", "2026-01", "queued"): 1}
    importing.shop.agrees()


def test_events_of_a_closed_month_become_adjustments_once(importing: Import) -> None:
    importing.shop.capture("old", at=DECEMBER)
    importing.take(importing.file([record("known", received_at=DECEMBER.isoformat())], "first.jsonl"))
    importing.shop.close("2025-12")
    late = [record(name, received_at=DECEMBER.isoformat()) for name in ("known", "a", "a", "b")]
    impact = importing.take(importing.file([*late, record("now")]))
    assert importing.statuses() == ["duplicate", "adjusted", "duplicate", "adjusted", "queued"]
    assert impact.months == {"2025-12": {"duplicate": 2, "adjusted": 2}, "2026-01": {"queued": 1}}
    importing.clock.move(days=20)
    assert importing.take(importing.file([late[3], late[1]], "again.jsonl")).statuses == {"duplicate": 2}
    rows = importing.shop.pinned(
        "select year_month, of_year_month, quantity, kind, asked_by, approved_by from usage.usage_adjustments"
    )
    assert rows == [("2026-01", "2025-12", 1, "late", "ann", None)] * 2
    importing.shop.agrees()


def test_what_would_not_have_been_billed_is_not_billed_late(importing: Import) -> None:
    importing.shop.plan(100, billing_rule="event_kinds", at=DECEMBER)
    importing.shop.capture("old", at=DECEMBER)
    importing.shop.close("2025-12")
    # What holds now says nothing of then.
    importing.shop.plan(100, billing_rule="every_event")
    importing.take(
        importing.file(
            record(each, ec=each, received_at=DECEMBER.isoformat()) for each in ("system", "conversion")
        )
    )
    assert importing.statuses() == ["not_billable", "adjusted"]


def test_a_dry_run_tells_what_a_run_then_does_and_writes_nothing(
    importing: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_EVENTS", 3)
    importing.shop.capture("old", at=DECEMBER)
    importing.shop.close("2025-12")
    late = DECEMBER.isoformat()
    rows = [
        record("a"),
        record("b", received_at=late),
        "{",
        record("a"),
        record("b", received_at=late),
        record("c"),
    ]
    path = importing.file(rows)
    everything = (
        "select (select count(*) from usage.ingest_idempotency), (select count(*) from ops.load_batches)"
    )
    before = importing.shop.pinned(everything)
    foreseen = importing.intake.foresee(path)
    told = importing.statuses()
    assert importing.shop.pinned(everything) == before
    done = importing.take(path)
    assert ["queued" if status == "new" else status for status in told] == importing.statuses()
    assert {month: sum(counts.values()) for month, counts in foreseen.months.items()} == {
        month: sum(counts.values()) for month, counts in done.months.items()
    }
    assert foreseen.statuses == {"new": 2, "adjusted": 1, "duplicate": 2, "invalid": 1}


def _csv(importing: Import, name: str) -> Path:
    path = importing.folder / name
    with gzip.open(path, "wt", newline="") if name.endswith(".gz") else path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["url", "ec", "ea", "meta.fp", "el", "meta.ts", "received_at"])
        rows.writerow(["https://x.co/a", "page", "view", "f", "two\nlines", "1768467600000", ""])
        rows.writerow(["https://x.co/b", "page", "view", "f", "", "", "2026-01-15T09:00:00Z"])
        rows.writerow(["too", "few"])
        rows.writerow(["", "page", "view", "f", "", "", ""])
    return path


def _parquet(importing: Import) -> Path:
    path = importing.folder / "events.parquet"
    told = [None, datetime(2026, 1, 15, 9, tzinfo=UTC), None]
    columns = {
        "url": ["https://x.co/a", "https://x.co/b", None],
        "ec": ["page"] * 3, "ea": ["view"] * 3, "el": ["two\nlines", None, None],
        "meta": [{"fp": "f", "ts": 1768467600000}, {"fp": "f", "ts": None}, {"fp": "f", "ts": None}],
        "received_at": pa.array(told, pa.timestamp("ns", "UTC")),
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)
    return path


def test_the_same_events_are_the_same_in_every_kind_of_file(importing: Import) -> None:
    importing.take(_csv(importing, "events.csv"))
    assert [(line.line, line.status, line.reason.split(":")[0]) for line in importing.lines] == [
        (2, "queued", ""), (4, "queued", ""), (5, "invalid", "csv_fields"), (6, "invalid", "missing_site_or_url"),
    ]  # fmt: skip
    importing.take(_csv(importing, "events.csv.gz"))
    assert importing.statuses() == ["duplicate", "duplicate", "invalid", "invalid"]
    importing.take(_parquet(importing))
    assert [(line.line, line.status, line.reason) for line in importing.lines[:2]] == [
        (1, "duplicate", ""),
        (2, "duplicate", ""),
    ]
    rows = [record("a", el="two\nlines", meta={"fp": "f", "ts": 1768467600000})]
    rows.append(record("b", meta={"fp": "f"}, received_at="2026-01-15T09:00:00Z"))
    for row in rows:
        del row["sid"]
    importing.take(importing.file(rows, "events.jsonl.gz"))
    assert [(line.status, line.reason) for line in importing.lines] == [("duplicate", "")] * 2
    importing.shop.agrees()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("events.txt", b"", "is of no kind"),
        ("events.parquet", b"PAR1", "cannot be read"),
        ("events.jsonl.gz", b"no gzip", "cannot be read"),
        ("events.csv", b"url,url\n", "line 1: a column has no name, or one that stands twice"),
        ("events.csv", b"url,\n", "line 1: a column has no name"),
        ("events.csv", b'"a"b,c\n', "line 1: the header cannot be read"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    importing: Import, name: str, content: bytes, told: str
) -> None:
    path = importing.folder / name
    path.write_bytes(content)
    with pytest.raises(RefusedError, match=told):
        importing.take(path)
    assert importing.shop.ledger() == {}


def test_a_file_that_is_not_there_is_refused(importing: Import) -> None:
    with pytest.raises(RefusedError, match="is no file"):
        importing.take(importing.folder / "none.jsonl")


@pytest.mark.parametrize("name", ["events.jsonl", "events.csv"])
def test_a_line_of_any_length_costs_itself_alone(importing: Import, name: str) -> None:
    long = "x" * 600_000
    if name.endswith("csv"):
        path = importing.file(
            ["url,el", f"https://x.co/a,{long}", '"open', 'quote",b', "https://x.co/b,c"], name
        )
    else:
        path = importing.file([record("a", el=long), "\xff", record("b")], name)
    importing.take(path)
    assert importing.statuses()[0] == "invalid"
    assert importing.lines[-1].status == "queued"
    assert len(importing.shop.ledger()) == (2 if name.endswith("csv") else 1)


def test_an_import_stands_in_the_audit(importing: Import) -> None:
    importing.take(importing.file([record("a")]))
    rows = importing.shop.pinned("select event, actor, detail from usage.usage_audit")
    assert [(row.event, row.actor, row.detail["statuses"]) for row in rows] == [
        ("usage_imported", "ann", {"queued": 1})
    ]
    with importing.shop.engine.begin() as connection:
        assert audit.broken(connection, importing.shop.tenant_id) is None


def test_two_who_hand_over_a_file_at_once_meter_it_once(importing: Import) -> None:
    path = importing.file([record(str(number), ea="click") for number in range(50)])
    both = threading.Barrier(2)

    def run(hours: int) -> Impact:
        def clock() -> datetime:
            # Asked for once it is known whether the file came before: the other one is there too, or held back.
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            return AT + timedelta(hours=hours)

        return replace(importing.intake, clock=clock).take(path)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, (2, 0)))
    assert sum(impact.statuses["queued"] for impact in done) == importing.shop.billable() == 50
    assert len({impact.arrived_at for impact in done}) == 1
