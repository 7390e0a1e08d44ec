"""Large files are read by a process of their own: what comes of them is what reading here gives."""

from __future__ import annotations

import gzip
import json
import multiprocessing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from kernel.errors import RefusedError
from kernel.usage import files, reading
from kernel.usage.keys.payload import InvalidPayloadError
from kernel.usage.sites import Site

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
SITE = Site(UUID(int=1), UUID(int=2), "shop", "Shop", "active", ())


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LARGE", 0)
    monkeypatch.setattr(reading, "_MEANWHILE", 1)


def _file(folder: Path, lines: int = 50_000) -> Path:
    """With what is out of the ordinary on every thousandth line."""
    odd = [
        "{", "7", '{"s": "other", "url": "x"}', '{"url": "x", "received_at": "2026-01-02T03:04:05Z"}',
        '{"url": "x", "received_at": "never"}', '{"url": "\\ud800", "ts": 1768471200000, "sid": "v"}', "",
    ]  # fmt: skip
    path = folder / "events.jsonl"
    with path.open("w") as file:
        for number in range(lines):
            if number % 1000 == 999:
                file.write(f"{odd[number // 1000 % len(odd)]}\n")
            else:
                file.write(json.dumps({"url": f"https://x.co/{number}", "sid": "v", "ea": "view"}) + "\n")
    return path


def _plain(parts: list[reading.Made]) -> list[object]:
    return [
        (
            part.lines, part.clock, part.refused,
            [(each.code, str(each)) if isinstance(each, InvalidPayloadError) else each for each in part.events],
        )
        for part in parts
    ]  # fmt: skip


def test_a_process_of_its_own_reads_what_this_one_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path)
    ahead = list(reading.made(path, SITE, "1", AT))
    monkeypatch.setattr(reading, "_LARGE", 2**40)
    here = list(reading.made(path, SITE, "1", AT))
    assert _plain(ahead) == _plain(here)
    assert len(here) == 3
    assert sum(len(part.refused) for part in here) > 5
    assert multiprocessing.active_children() == []


def test_a_file_that_ends_early_needs_no_other_process_to_say_so(tmp_path: Path) -> None:
    assert [len(part.lines) for part in reading.made(_file(tmp_path, 10), SITE, "1", AT)] == [10]


def test_a_reader_that_is_ended_ends_the_file_in_a_sentence(tmp_path: Path) -> None:
    parts = reading.made(_file(tmp_path), SITE, "1", AT)
    next(parts)
    (reader,) = multiprocessing.active_children()
    reader.kill()
    reader.join()
    with pytest.raises(RuntimeError, match="hand the file over again"):
        list(parts)


def test_whoever_stops_early_ends_the_reader(tmp_path: Path) -> None:
    parts = reading.made(_file(tmp_path), SITE, "1", AT)
    next(parts)
    parts.close()
    assert multiprocessing.active_children() == []


def test_what_the_reader_cannot_read_is_refused_here(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    whole = gzip.compress(_file(tmp_path).read_bytes(), 1)
    path.write_bytes(whole[: len(whole) - 20])
    with pytest.raises(RefusedError, match="cannot be read"):
        list(reading.made(path, SITE, "1", AT))


def test_a_line_of_any_length_takes_no_more_memory_than_one_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"url":"' + b"x" * 5_000_000 + b'"}\n{"url":"x","sid":"v"}\n' + b"y" * 600_000)
    (part,) = files.parts(path)
    assert (part.lines, [line for line, _ in part.refused]) == ([2], [1, 3])
    assert all("line_too_long" in why for _, why in part.refused)


def test_a_text_that_holds_json_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(json.dumps({"s": "shop", "url": "x"})) + "\n")
    (part,) = reading.made(path, SITE, "1", AT)
    (error,) = part.events
    assert isinstance(error, InvalidPayloadError)
    assert error.code == "payload_not_object"
