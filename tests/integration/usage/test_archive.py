"""Rows leave the ledger only when they stand in a file that gives the invoiced root."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from kernel.errors import RefusedError
from kernel.usage import archive, dispute, verify
from tests.integration.usage.closing import Closer

# Of a key that was metered on the last day of January 2025, and then some.
OLD = datetime(2025, 1, 15, 10, tzinfo=UTC)
CLOSE_AT = datetime(2025, 2, 1, 6, tzinfo=UTC)
EXPIRED = datetime(2025, 5, 2, tzinfo=UTC)


@pytest.fixture
def closed(closer: Closer) -> Closer:
    """January of last year, with three events, closed."""
    closer.capture("a", "b", 'c,"=1', at=OLD)
    closer.recount(at=CLOSE_AT)
    closer.close_month("2025-01", at=CLOSE_AT)
    return closer


def due(closer: Closer, at: datetime = EXPIRED) -> list[archive.Month]:
    with closer.engine.begin() as connection:
        return archive.due(connection, at=at, tenant_id=closer.tenant_id)


def archived(closer: Closer, root: Path) -> Path:
    (month,) = due(closer)
    return archive.archive(closer.engine, month, root, at=EXPIRED, actor="operator")


def test_a_month_is_due_when_its_last_key_has_expired(closed: Closer):
    assert due(closed, datetime(2025, 5, 1, tzinfo=UTC)) == []
    (month,) = due(closed, EXPIRED)
    assert (month.year_month, month.rows, month.is_archived) == ("2025-01", 3, False)


def test_a_month_that_is_not_closed_is_never_due(closer: Closer):
    closer.capture("a", at=OLD)
    assert due(closer, datetime(2026, 1, 1, tzinfo=UTC)) == []


def test_an_archived_month_has_left_the_ledger_and_gives_the_invoiced_root(closed: Closer, tmp_path: Path):
    file = archived(closed, tmp_path)
    assert closed.ledger() == {}
    rows = verify.Rows("2025-01")
    rows.feed(gzip.decompress(file.read_bytes()).partition(b"\n")[2])
    rows.end()
    assert not rows.findings
    assert rows.tree.root().hex() == closed.snapshots()[0].merkle_root
    assert due(closed) == []
    assert closed.pinned("select count(*) from usage.usage_outbox")[0][0] == 1, "not handed on yet"


def test_rows_are_deleted_some_at_a_time_and_the_month_is_read_once(
    closer: Closer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    closer.capture(*(f"k{n}" for n in range(7)), "a\\b", '"c"', at=OLD)
    closer.capture("later", at=CLOSE_AT)
    closer.recount(at=CLOSE_AT)
    closer.close_month("2025-01", at=CLOSE_AT)
    monkeypatch.setattr(archive, "_AT_ONCE", 2)
    asked = []
    (month,) = due(closer)
    sa.event.listen(closer.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    archive.archive(closer.engine, month, tmp_path, at=EXPIRED, actor="operator")
    assert sum("select idempotency_key from usage.ingest_idempotency" in each for each in asked) == 1
    assert sum("delete from usage.ingest_idempotency" in each for each in asked) == 5
    assert list(closer.ledger()) == ["later"]


def test_a_file_that_is_not_what_was_invoiced_deletes_nothing(closed: Closer, tmp_path: Path, monkeypatch):
    (month,) = due(closed)
    written = archive._write

    def altered(*given):
        written(*given)
        lines = gzip.decompress(given[-1].read_bytes()).replace(b",true,", b",false,", 1)
        given[-1].write_bytes(gzip.compress(lines))

    monkeypatch.setattr(archive, "_write", altered)
    with pytest.raises(RefusedError, match="is not what was invoiced of 2025-01: nothing was deleted"):
        archive.archive(closed.engine, month, tmp_path, at=EXPIRED, actor="operator")
    assert len(closed.ledger()) == 3


def test_after_a_crash_before_the_deletion_it_goes_on(closed: Closer, tmp_path: Path, monkeypatch):
    (month,) = due(closed)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_delete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            archive.archive(closed.engine, month, tmp_path, at=EXPIRED, actor="operator")
    (again,) = due(closed)
    assert again.is_archived
    archive.archive(closed.engine, again, tmp_path, at=EXPIRED, actor="operator")
    assert closed.ledger() == {}
    assert closed.pinned("select count(*) from usage.usage_archives")[0][0] == 1


def test_an_archive_that_was_lost_keeps_the_rows(closed: Closer, tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_delete", lambda *_: None)
        file = archived(closed, tmp_path)
    file.unlink()
    with pytest.raises(RefusedError, match="put the one back that was written"):
        archived(closed, tmp_path)
    assert len(closed.ledger()) == 3


def exported(closer: Closer, folder: Path, archives: Path | None) -> dispute.Pack:
    return dispute.export(
        closer.engine, closer.tenant_id, closer.site.id, "2025-01", folder, actor="Ann", at=EXPIRED, archives=archives
    )  # fmt: skip


def test_a_pack_of_an_archived_month_has_the_same_bytes_as_before(closed: Closer, tmp_path: Path):
    before = exported(closed, tmp_path / "before", tmp_path)
    archived(closed, tmp_path)
    after = exported(closed, tmp_path / "after", tmp_path)
    assert before.file.read_bytes() == after.file.read_bytes()
    assert before.manifest.read_bytes() == after.manifest.read_bytes()
    assert verify.verify(after.file, event='c,"=1', snapshot=after.snapshot_hash).findings == ()


@pytest.mark.parametrize("spoil", ["other bytes", "other row", "cut", "gone"])
def test_nothing_is_handed_out_of_an_archive_that_is_not_the_one_that_was_written(
    closed: Closer, tmp_path: Path, spoil: str
):
    file = archived(closed, tmp_path)
    lines = gzip.decompress(file.read_bytes())
    if spoil == "other bytes":
        # The same rows, compressed anew.
        file.write_bytes(gzip.compress(lines, 1, mtime=7))
    elif spoil == "other row":
        file.write_bytes(gzip.compress(lines.replace(b",true,", b",false,", 1)))
    elif spoil == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        file.unlink()
    with pytest.raises(RefusedError, match="put the one back that was written"):
        exported(closed, tmp_path / "pack", tmp_path)
    assert list((tmp_path / "pack").iterdir()) == []


def test_an_archived_month_is_not_exported_without_its_archive(closed: Closer, tmp_path: Path):
    archived(closed, tmp_path)
    with pytest.raises(RefusedError, match="left the ledger"):
        exported(closed, tmp_path / "pack", None)


@pytest.mark.parametrize("spoiled", ["sha256", "row_count", "merkle_root", "nothing"])
def test_the_database_deletes_no_row_for_an_archive_that_its_snapshot_does_not_prove(
    closed: Closer, spoiled: str
):
    (frozen,) = closed.snapshots()
    said = {"sha256": "0" * 64, "row_count": frozen.row_count, "merkle_root": frozen.merkle_root}
    if spoiled != "nothing":
        said[spoiled] = {"sha256": "x", "row_count": 1, "merkle_root": "0" * 64}[spoiled]
    closed.pinned(
        "insert into usage.usage_archives (tenant_id, site_id, year_month, place, sha256, row_count, merkle_root)"
        " values (:t, :s, '2025-01', 'nowhere', :sha256, :row_count, :merkle_root)",
        t=closed.tenant_id, s=closed.site.id, **said,
    )  # fmt: skip
    if spoiled == "nothing":
        closed.pinned("delete from usage.ingest_idempotency")
        assert closed.ledger() == {}
    else:
        with pytest.raises(sa.exc.IntegrityError, match="the rows and the root of the snapshot"):
            closed.pinned("delete from usage.ingest_idempotency")
        assert len(closed.ledger()) == 3


def test_the_database_deletes_no_row_whose_month_is_not_archived(closed: Closer):
    with pytest.raises(sa.exc.IntegrityError, match="closed and archived"):
        closed.pinned("delete from usage.ingest_idempotency")


def test_a_clock_ahead_of_the_databases_is_told_and_deletes_nothing(closer: Closer, tmp_path: Path):
    ahead = datetime.now(UTC) + timedelta(days=400)
    closer.capture("a", at=ahead)
    month = f"{ahead:%Y-%m}"
    closed_at, expired = ahead + timedelta(days=32), ahead + timedelta(days=130)
    closer.recount(at=closed_at)
    closer.close_month(month, at=closed_at)
    (found,) = due(closer, expired)
    with pytest.raises(
        RefusedError, match=f"{month} leaves the ledger from .*put this machine's clock right"
    ):
        archive.archive(closer.engine, found, tmp_path, at=expired, actor="operator")
    assert (list(closer.ledger()), list(tmp_path.iterdir())) == (["a"], [])
