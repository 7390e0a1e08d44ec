"""Files that arrive in a folder are taken once, and what cannot be taken lies where it can be mended."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from dagster_project.defs.usage import work
from kernel.errors import RefusedError
from kernel.usage import gate, inbox, reading
from tests.integration.usage import capturing
from tests.integration.usage.capturing import AT, Shop


def put(root: Path, shop: Shop, name: str = "day.jsonl", lines: int = 3, site: str | None = None) -> Path:
    folder = root / (site or shop.site.public_id)
    folder.mkdir(exist_ok=True)
    file = folder / name
    rows = (json.dumps({"url": f"https://shop.example/{n}", "sid": f"visitor {n}"}) for n in range(lines))
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def take(shop: Shop, file: Path) -> dict[str, int]:
    return dict(inbox.take(shop.engine, file.parent.parent, file, setting="1", clock=lambda: AT).statuses)


def test_a_file_is_metered_and_put_away(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop)
    assert inbox.waiting(tmp_path) == [file]
    assert take(shop, file) == {"queued": 3}
    assert inbox.waiting(tmp_path) == []
    assert (file.parent / "taken" / file.name).exists()
    assert shop.billable() == 3


def test_the_same_file_again_is_put_beside_the_first_and_bills_nothing(shop: Shop, tmp_path: Path):
    take(shop, put(tmp_path, shop))
    assert take(shop, put(tmp_path, shop)) == {"duplicate": 3}
    assert sorted(each.name for each in (tmp_path / shop.site.public_id / "taken").iterdir()) == [
        "day-1.jsonl",
        "day.jsonl",
    ]
    assert shop.billable() == 3


def test_bad_lines_are_told_beside_it(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop)
    file.write_text(file.read_text("utf-8") + "no json\n", encoding="utf-8")
    assert take(shop, file) == {"queued": 3, "invalid": 1}
    told = (file.parent / "taken" / "day.jsonl.lines.csv").read_text("utf-8").splitlines()
    assert told[0] == "file,line,status,reason,key,month"
    assert told[1].startswith("day.jsonl,4,invalid,")


def test_a_file_of_nobody_is_refused_with_the_reason_beside_it(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop, site="nobody")
    with pytest.raises(RefusedError, match="nobody is no site that takes events"):
        take(shop, file)
    why = file.parent / "refused" / "day.jsonl.why.txt"
    assert "name the folder by its public id" in why.read_text("utf-8")
    assert inbox.waiting(tmp_path) == []


def test_a_file_beside_the_folders_is_refused_with_the_reason_beside_it(shop: Shop, tmp_path: Path):
    root = tmp_path / shop.site.public_id
    root.mkdir()
    file = root / "day.jsonl"
    file.write_text('{"url":"u","sid":"v"}\n', encoding="utf-8")
    assert inbox.waiting(root) == [file]
    with pytest.raises(RefusedError, match="lies in no site's folder"):
        inbox.take(shop.engine, root, file, setting="1", clock=lambda: AT)
    why = root / inbox.ASIDE / "day.jsonl.why.txt"
    assert "named by a public id" in why.read_text("utf-8")
    assert (inbox.waiting(root), shop.billable()) == ([], 0)


def test_a_file_that_is_not_what_its_name_says_is_refused(shop: Shop, tmp_path: Path):
    with pytest.raises(RefusedError):
        take(shop, put(tmp_path, shop, name="day.xlsx"))
    assert shop.billable() == 0


def test_a_file_that_is_still_written_is_left(shop: Shop, tmp_path: Path):
    put(tmp_path, shop, name=".day.jsonl")
    put(tmp_path, shop, name="day.jsonl.part")
    assert inbox.waiting(tmp_path) == []


def damaged(root: Path, shop: Shop, name: str = "bad.jsonl.gz") -> Path:
    file = put(root, shop, name)
    content = bytearray(gzip.compress(b'{"url":"u","sid":"v"}\n' * 2000))
    content[14:20] = b"\xff" * 6
    file.write_bytes(content)
    return file


def refused(folder: Path) -> dict[str, str]:
    """Of each file that was refused, why."""
    return {
        why.name.removesuffix(".why.txt"): why.read_text("utf-8") for why in folder.glob("refused/*.why.txt")
    }


def test_of_very_many_bad_lines_the_first_are_told(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inbox, "_MOST_TOLD", 3)
    file = put(tmp_path, shop)
    file.write_text("7\n" * 5, encoding="utf-8")
    assert take(shop, file) == {"invalid": 5}
    told = (file.parent / "taken" / "day.jsonl.lines.csv").read_text("utf-8").splitlines()
    assert [line.split(",")[1] for line in told] == ["line", "1", "2", "3"]


def test_a_damaged_file_is_tried_once(shop: Shop, tmp_path: Path):
    file = damaged(tmp_path, shop)
    with pytest.raises(RefusedError, match="hand it over again, whole"):
        take(shop, file)
    assert inbox.waiting(tmp_path) == []
    assert "hand it over again" in refused(file.parent)[file.name]
    assert shop.pinned("select count(*), max(status) from ops.load_batches") == [(1, "failed")]


def test_a_name_that_is_no_utf8_is_refused_under_another(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop)
    file = file.rename(file.with_name(os.fsdecode(b"day\xff.jsonl")))
    with pytest.raises(RefusedError, match="no UTF-8"):
        take(shop, file)
    assert list(refused(file.parent)) == ["day\ufffd.jsonl"]
    assert inbox.waiting(tmp_path) == []


def test_a_folder_whose_name_is_no_utf8_is_refused(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop, site=os.fsdecode(b"shop\xff"))
    with pytest.raises(RefusedError, match="no UTF-8"):
        take(shop, file)
    assert list(refused(file.parent)) == [file.name]


def test_a_name_of_any_length_has_room_for_what_is_told_beside_it(shop: Shop, tmp_path: Path):
    files = [put(tmp_path, shop, "ü" * 122 + ending) for ending in (".jsonl", ".jsonl.gz")]
    files[0].write_text("no json\n", encoding="utf-8")
    assert take(shop, files[0]) == {"invalid": 1}
    for _ in range(2):
        with pytest.raises(RefusedError):
            take(shop, damaged(tmp_path, shop, files[1].name))
    taken = sorted(each.name for each in (files[0].parent / "taken").iterdir())
    assert [each[75:] for each in taken] == [".jsonl", ".jsonl.lines.csv"]
    assert [each[75:] for each in sorted(refused(files[1].parent))] == ["-1.jsonl.gz", ".jsonl.gz"]


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (sa.exc.OperationalError("", {}, Exception("the server is away")), True),
        (OSError("the disk is full"), True),
        (reading.ReaderEndedError("ended"), True),
        (sa.exc.DataError("", {}, Exception("out of range")), False),
        (sa.exc.StatementError("no such text", "", {}, UnicodeError()), False),
        (ZeroDivisionError("a mistake"), False),
    ],
)
def test_a_file_stays_for_what_is_not_its_own_fault(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, stays: bool
):
    def failing(*given: Any, **named: Any) -> Any:
        raise error

    monkeypatch.setattr(gate, "capture", failing)
    file = put(tmp_path, shop)
    with pytest.raises(type(error) if stays else RefusedError):
        take(shop, file)
    assert inbox.waiting(tmp_path) == ([file] if stays else [])
    if stays:
        with pytest.raises(type(error)):
            take(shop, file)
        tries = shop.pinned("select status, finished_at is null from ops.load_batches")
        assert tries == [("failed", False)], "one row, however often it was tried"
        monkeypatch.undo()
        assert take(shop, file) == {"queued": 3}
        assert shop.pinned("select status, error from ops.load_batches") == [("loaded", None)]
    else:
        assert type(error).__name__ in refused(file.parent)[file.name]


def test_no_file_keeps_those_behind_it_from_being_taken(
    shop: Shop, usage_engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other, real = capturing.shop(usage_engine), gate.capture
    held = [damaged(tmp_path, shop), put(tmp_path, shop, "away.jsonl"), put(tmp_path, other, "good.jsonl")]
    for age, file in enumerate(held):
        os.utime(file, (age, age))

    def away(connection: sa.Connection, events: Any, **named: Any) -> Any:
        if events[0].site == shop.site:
            raise sa.exc.OperationalError("", {}, Exception("away"))
        return real(connection, events, **named)

    class Settings:
        usage_inbox, idempotency_version = tmp_path, "1"

    monkeypatch.setattr(gate, "capture", away)
    monkeypatch.setattr(work, "settings", lambda: Settings)
    monkeypatch.setattr(work, "engine", lambda: usage_engine)
    with pytest.raises(dg.Failure, match="1 files could not be taken"):
        work.take_files(dg.build_op_context())
    assert inbox.waiting(tmp_path) == [held[1]]
    assert list(refused(held[0].parent)) == [held[0].name]
    assert other.billable() == 3
    monkeypatch.setattr(gate, "capture", real)
    work.take_files(dg.build_op_context())
    assert (inbox.waiting(tmp_path), shop.billable()) == ([], 3)
