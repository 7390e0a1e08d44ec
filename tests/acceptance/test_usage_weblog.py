"""A real web log as page views of one site: whatever order and parts it comes in, ledger, month and root are the same."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.usage import close, plans, recount, sites
from kernel.usage.batch import Intake
from kernel.usage.plans import Terms
from kernel.usage.sites import Site

FIRST = datetime(2015, 5, 1, tzinfo=UTC)
ARRIVED = datetime(2015, 5, 21, 9, tzinfo=UTC)
CLOSE_AT = datetime(2015, 6, 1, 6, tzinfo=UTC)
PUBLIC_ID = "weblog"

_LINE = re.compile(
    r'(?P<host>\S+) \S+ \S+ \[(?P<at>[^]]+)\] "(?P<request>.*?)" (?P<status>\d{3}) \S+ "(?P<referrer>.*?)" "(?P<agent>.*)'
)
_BOT = re.compile("bot|crawl|spider|slurp", re.IGNORECASE)

Record = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """The lines of the log, and what each is as an event: a bot's request and a failed one are of the system."""

    lines: list[str]
    records: list[Record]

    @property
    def views(self) -> int:
        """How many different lines are a person's page views."""
        kinds = dict(zip(self.lines, (record["ec"] for record in self.records), strict=True))
        return sum(kind == "page" for kind in kinds.values())


@pytest.fixture(scope="module")
def log(real_data: Path) -> Log:
    file = real_data / "elastic-apache-log" / "apache_logs.gz"
    if not file.is_file():
        pytest.skip("the web log (../shared/data/elastic-apache-log) is not here")
    lines = gzip.decompress(file.read_bytes()).decode("utf-8", "replace").splitlines()
    return Log(lines, [_record(line) for line in lines])


def _record(line: str) -> Record:
    """Nothing in it tells two requests apart that stand in the same words: they are one event."""
    told = _LINE.fullmatch(line)
    assert told, line
    target = told["request"].split(" ")[1] if " " in told["request"] else told["request"]
    is_view = int(told["status"]) < 400 and not _BOT.search(told["agent"])
    return {
        "url": f"https://www.semicomplete.example{target}",
        "ec": "page" if is_view else "system",
        "ea": "page_view" if is_view else "request",
        "r": told["referrer"],
        # An address is a person's: only its hash is handed over.
        "sid": hashlib.sha256(told["host"].encode()).hexdigest()[:16],
        "event_id": hashlib.sha256(line.encode()).hexdigest(),
        "received_at": datetime.strptime(told["at"], "%d/%b/%Y:%H:%M:%S %z").isoformat(),
    }


@dataclass
class Metered:
    """What stands in the database after all of it. What became of the lines of each file is told, not compared."""

    ledger: list[tuple]
    snapshots: list[dict[str, Any]]
    invoice: list[tuple]
    statuses: list[dict[str, int]] = field(compare=False)

    @property
    def keys(self) -> list[str]:
        return [row[1] for row in self.ledger]


Meter = Callable[..., Metered]


@pytest.fixture
def meter(_create: Callable[[str, str], str], _migrated: str, tmp_path: Path) -> Iterator[Meter]:
    """Meters files of records in a database of their own, of which each begins with the same site and plan."""
    numbers, names = count(1), []

    def database(template: str) -> str:
        names.append(f"weblog_{next(numbers)}")
        return _create(names[-1], template)

    beginning = database(_migrated)
    with _engine(beginning) as engine, engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, PUBLIC_ID, PUBLIC_ID, "USD")
        site = sites.make(connection, tenant_id, PUBLIC_ID, public_id=PUBLIC_ID)
        # Of a month that is full, the order decides which rows are refused: this one has room for all.
        terms = Terms(monthly_limit=20_000, billing_rule="event_kinds", base_price=Decimal(10))
        plans.set_plan(connection, tenant_id, site.id, terms, valid_from=FIRST, actor="ann", at=FIRST)

    def meter(files: Sequence[Sequence[Record]], setting: str = "3") -> Metered:
        with _engine(database(names[0])) as engine:
            return _metered(engine, site, _written(tmp_path, files), setting)

    yield meter
    with _engine(beginning, "postgres") as engine, engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        for name in names:
            connection.exec_driver_sql(f'drop database "{name}" with (force)')


@contextmanager
def _engine(url: str, database: str | None = None) -> Iterator[sa.Engine]:
    made = sa.create_engine(sa.make_url(url).set(database=database) if database else url)
    yield made
    made.dispose()


def _written(folder: Path, files: Sequence[Sequence[Record]]) -> list[Path]:
    paths = [folder / f"{number}.jsonl.gz" for number in range(len(files))]
    for path, records in zip(paths, files, strict=True):
        path.write_bytes(gzip.compress("".join(json.dumps(each) + "\n" for each in records).encode(), 1))
    return paths


def _metered(engine: sa.Engine, site: Site, paths: Sequence[Path], setting: str) -> Metered:
    intake = Intake(engine, site, setting, "ann", lambda: ARRIVED)
    statuses = [dict(intake.take(path).statuses) for path in paths]
    with engine.begin() as connection:
        recount.find(connection, site.tenant_id, CLOSE_AT)
    recount.work(engine, "worker", lambda: CLOSE_AT, tenant_id=site.tenant_id)
    with engine.begin() as connection:
        close.close(connection, site.tenant_id, "2015-05", at=CLOSE_AT, actor="operator")
    with engine.begin() as connection:
        tenancy.service(connection, site.tenant_id)
        ledger = connection.exec_driver_sql(
            "select site_id, idempotency_key, created_at, year_month, billable, billing_state, billing_reason,"
            " event_category, event_action, payload_hash, plan_id from usage.ingest_idempotency order by 2"
        )
        rows = [tuple(row) for row in ledger]
        frozen = connection.exec_driver_sql("select * from usage.invoice_snapshot").mappings()
        snapshots = [dict(row) for row in frozen]
        lines = connection.exec_driver_sql(
            "select kind, quantity, price_per_1k, amount from usage.usage_invoice_lines order by number"
        )
        return Metered(rows, snapshots, [tuple(row) for row in lines], statuses)


def _parts(records: Sequence[Record], number: int) -> list[list[Record]]:
    return [list(records[start::number]) for start in range(number)]


def test_the_log_is_metered_once_in_whatever_order_and_parts_it_comes(log: Log, meter: Meter) -> None:
    whole = meter([log.records])
    distinct = len(set(log.lines))
    assert 0 < distinct < len(log.lines)
    assert whole.statuses == [{"queued": distinct, "duplicate": len(log.lines) - distinct}]
    assert len(whole.ledger) == distinct
    (frozen,) = whole.snapshots
    assert (frozen["year_month"], frozen["row_count"]) == ("2015-05", distinct)
    assert 0 < frozen["event_count"] == log.views < distinct

    backward, mixed = log.records[::-1], log.records.copy()
    Random(7).shuffle(mixed)
    twice = [log.records, log.records]
    two_orders = [backward, log.records]
    shuffled = [*_parts(mixed, 7), *_parts(backward, 3)]
    for files in (twice, two_orders, shuffled):
        assert meter(files) == whole


def test_by_the_first_version_of_keys_the_log_is_the_same_events_in_every_order(
    log: Log, meter: Meter
) -> None:
    """What a visitor asks for again within five seconds of the server's clock is one event."""
    expected = set()
    for record in log.records:
        seconds = datetime.fromisoformat(record["received_at"]).timestamp() // 5
        expected.add((record["ec"], record["ea"], record["url"], record["sid"], seconds))
    forward, backward = (
        meter([records, records], setting="1") for records in (log.records, log.records[::-1])
    )
    assert len(forward.ledger) == len(expected) < len(set(log.lines))
    assert forward.keys == backward.keys
    assert forward.snapshots[0]["event_count"] == backward.snapshots[0]["event_count"]


def test_another_line_is_another_root(log: Log, meter: Meter) -> None:
    """The comparison can fail: one visitor less and the root is another one."""
    roots = {meter([records]).snapshots[0]["merkle_root"] for records in (log.records, log.records[1:])}
    assert len(roots) == 2
