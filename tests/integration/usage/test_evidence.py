"""How the rows of a month are read: what is read is the same in every way, and which way is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.usage import canonical, close, evidence, matrix, verify
from tests.integration.usage.capturing import event
from tests.integration.usage.closing import Closer

ODD = ["=1+1", 'a,"b"\nc', "é😀\t", "\\n", "", "'x"]
MONTH = "2026-01"
# Few rows are read as many would be.
AS_MANY = (
    "set local parallel_setup_cost = 0",
    "set local parallel_tuple_cost = 0",
    "set local min_parallel_table_scan_size = 0",
    "set local enable_bitmapscan = off",
)


@pytest.fixture
def used(closer: Closer) -> Closer:
    closer.capture(*(event(closer.site, f"k{n}", category="c", label=ODD[n % len(ODD)]) for n in range(700)))
    return closer


@pytest.fixture
def reading(used: Closer) -> Iterator[sa.Connection]:
    with used.engine.connect() as connection:
        tenancy.service(connection, used.tenant_id)
        for setting in AS_MANY:
            connection.exec_driver_sql(setting)
        yield connection


def _plan(connection: sa.Connection, used: Closer) -> str:
    """Of the statement whose lines are read."""
    select = canonical.copy_lines(used.tenant_id, used.site.id, MONTH)[len("copy (") :].rpartition(") to")[0]
    with connection.connection.cursor() as cursor:
        return "\n".join(row[0] for row in cursor.execute(f"explain {select}").fetchall())


def _read(connection: sa.Connection, used: Closer) -> tuple[int, bytes]:
    rows = evidence.rows_of(connection, used.tenant_id, used.site.id, MONTH)
    assert rows.findings == []
    return rows.row_count, rows.tree.root()


def test_two_processes_read_what_one_reads_by_keys(
    used: Closer, reading: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with evidence.by_pages(reading):
        told = _plan(reading, used)
        assert ("Workers Planned: 1" in told, "Sort Key" in told) == (True, True)
    sorted_by_two = _read(reading, used)
    reading.exec_driver_sql("set local enable_sort = off")
    assert "Index Scan using ingest_idempotency_pkey" in _plan(reading, used)
    monkeypatch.setattr(evidence, "by_pages", nullcontext)
    assert _read(reading, used) == sorted_by_two
    assert sorted_by_two[0] == 700


def test_who_has_read_a_month_looks_up_keys_again(used: Closer, reading: sa.Connection) -> None:
    settings = (
        "select current_setting('enable_indexscan'), current_setting('max_parallel_workers_per_gather')"
    )
    before = reading.exec_driver_sql(settings).one()
    _read(reading, used)
    matrix.compare(reading, used.tenant_id, MONTH, [used.site.id])
    assert reading.exec_driver_sql(settings).one() == before
    with evidence.by_pages(reading):
        assert reading.exec_driver_sql(settings).one() == ("off", "1")


def test_whose_rows_are_read_is_asked_once_a_statement(reading: sa.Connection) -> None:
    plan = reading.exec_driver_sql("explain select from usage.ingest_idempotency").scalars().all()
    (asked,) = [line for line in plan if "Filter" in line]
    assert ("InitPlan" in asked, "current_setting" in asked) == (True, False)


def test_a_month_that_is_not_read_as_it_was_counted_stays_open(
    used: Closer, monkeypatch: pytest.MonkeyPatch
) -> None:
    used.recount()
    whole = verify.Rows.feed
    monkeypatch.setattr(verify.Rows, "feed", lambda rows, piece: whole(rows, piece.partition(b"\n")[2]))
    with pytest.raises(RefusedError, match=r"was counted as .* and read as"):
        used.close_month()
    assert (used.state(), used.snapshots()) == ("OPEN", [])


def test_a_read_that_ends_early_closes_nothing(used: Closer, monkeypatch: pytest.MonkeyPatch) -> None:
    used.recount()
    whole = canonical.copy_lines

    def failing(*given) -> str:
        # The last rows cannot be written as lines.
        return whole(*given).replace("billable::text", "(1 / (idempotency_key < 'k9')::int)::text")

    monkeypatch.setattr(evidence, "copy_lines", failing)
    with pytest.raises(RefusedError, match=r"was not read to its end \(division by zero\)"):
        used.close_month()
    assert (used.state(), used.snapshots()) == ("OPEN", [])
    monkeypatch.undo()
    assert used.close_month().rows == 700
    with used.engine.begin() as connection:
        assert close.broken_chain(connection, used.tenant_id) is None
