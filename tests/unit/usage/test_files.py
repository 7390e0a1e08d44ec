"""Files of events that are damaged, or made to take memory: what can be read is, and of the rest is said why it is not."""

from __future__ import annotations

import gzip
import resource
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernel.errors import RefusedError
from kernel.usage import files
from kernel.usage.files import Part

INSTANT = datetime(2026, 1, 15, 10, tzinfo=UTC)


def _csv(folder: Path, *lines: str) -> Path:
    path = folder / "events.csv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "events.parquet"
    pq.write_table(pa.table({name.replace("__", "."): column for name, column in columns.items()}), path)
    return path


def _one(path: Path) -> Part:
    (part,) = files.parts(path)
    return part


def _codes(part: Part) -> list[tuple[int, str]]:
    return [(line, why.split(":")[0]) for line, why in part.refused]


def _no_utf8() -> pa.Array:
    places = (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + (3).to_bytes(4, "little")
    return pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(places), pa.py_buffer(b"a\xff\xfe")])


def test_a_damaged_gzip_is_refused_in_a_sentence(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(b'{"url":"u"}\n' * 2000))
    damaged[14:20] = b"\xff" * 6
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(damaged)
    with pytest.raises(RefusedError, match=r"cannot be read .*: hand it over again, whole"):
        list(files.parts(path))


def test_a_time_zone_that_nobody_knows_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = _parquet(tmp_path, url=["u"], at=pa.array([1], pa.timestamp("us", tz="Foo/Bar")))
    with pytest.raises(RefusedError, match=r"cannot be read .*Foo/Bar"):
        list(files.parts(path))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2**62], pa.timestamp("us")),
        pa.array([1, 2**30], pa.date32()),
        _no_utf8(),
        pa.StructArray.from_arrays([_no_utf8()], ["x"]),
    ],
    ids=["timestamp", "date", "text", "text in a struct"],
)
def test_a_value_that_cannot_be_read_costs_its_row_alone(tmp_path: Path, column: pa.Array) -> None:
    part = _one(_parquet(tmp_path, url=["u", "v"], x=column))
    assert (part.lines, _codes(part)) == ([1], [(2, "value_unreadable")])


def test_rows_of_parquet_are_what_was_written(tmp_path: Path) -> None:
    table = pa.table(
        {
            "url": ["a", "b", "a", None],
            "meta": [{"fp": "f", "tags": ["x", "y", None]}, None, {"fp": None, "tags": []}, {"fp": "g", "tags": None}],
            "kind": pa.array(["p", None, "q", "p"]).dictionary_encode(),
            "map": pa.array([[("k", "v")], None, [], [("k", None)]], pa.map_(pa.string(), pa.string())),
            "pair": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int64(), 2)),
            "n": [1, None, 2**70 // 2**10, -1],
            "x": [0.5, None, 2.0, 3.0],
            "on": [True, False, None, True],
            "day": pa.array([0, None, 1, 2], pa.date32()),
        }
    )  # fmt: skip
    path = tmp_path / "events.parquet"
    pq.write_table(table, path, row_group_size=3)
    part = _one(path)
    assert part.lines == [1, 2, 3, 4]
    assert part.payloads == [
        {"url": "a", "meta": {"fp": "f", "tags": ["x", "y", None]}, "kind": "p", "map": [["k", "v"]],
         "pair": [1, 2], "n": 1, "x": 0.5, "on": True, "day": "1970-01-01"},
        {"url": "b", "on": False},
        {"url": "a", "meta": {"tags": []}, "kind": "q", "map": [], "pair": [3, 4], "n": 2**60, "x": 2.0,
         "day": "1970-01-02"},
        {"meta": {"fp": "g"}, "kind": "p", "map": [["k", None]], "pair": [5, 6], "n": -1, "x": 3.0, "on": True,
         "day": "1970-01-03"},
    ]  # fmt: skip


def test_a_record_has_one_bound_in_every_kind_of_file(tmp_path: Path) -> None:
    texts = ["x" * 262_000, "x" * 262_144, "y"]
    assert _codes(_one(_parquet(tmp_path, url=texts))) == [(2, "line_too_long")]
    assert _codes(_one(_csv(tmp_path, "url", *texts))) == [(3, "line_too_long")]
    lines = tmp_path / "events.jsonl"
    lines.write_text("".join(f'{{"url":"{text}"}}\n' for text in texts))
    assert _codes(_one(lines)) == [(2, "line_too_long")]


def test_the_fields_of_a_record_count_together(tmp_path: Path) -> None:
    half = ["x" * 140_000]
    assert _codes(_one(_parquet(tmp_path, url=half, el=half))) == [(1, "line_too_long")]
    assert _codes(_one(_csv(tmp_path, "url,el", half[0] + "," + half[0]))) == [(2, "line_too_long")]


def test_a_list_of_very_many_elements_costs_its_row_alone(tmp_path: Path) -> None:
    part = _one(_parquet(tmp_path, url=["u", "v"], n=[[1] * 200_000, [1]]))
    assert (part.lines, _codes(part)) == ([2], [(1, "line_too_long")])


def test_a_row_that_does_not_end_is_passed_over_to_its_end(tmp_path: Path) -> None:
    inner = ["ab", '","'] * 100_000
    path = _csv(tmp_path, "url,el", 'a,"', *inner, '"', "b,c", 'd,"e', 'f"')
    part = _one(path)
    assert _codes(part) == [(2, "line_too_long")]
    assert part.payloads == [{"url": "b", "el": "c"}, {"url": "d", "el": "e\nf"}]
    assert part.lines == [200_004, 200_005]


@pytest.mark.parametrize("length", [262_000, 262_141, 262_142, 262_143, 262_144, 262_145, 270_000, 600_000])
@pytest.mark.parametrize("end", ["", '"', '\n"', '","\n"'])
def test_lines_behind_a_long_row_keep_their_numbers(tmp_path: Path, length: int, end: str) -> None:
    begin = '"' if end else ""
    path = _csv(tmp_path, "url", f"{begin}{'x' * length}{end}", "b", '"c"')
    part = _one(path)
    after = 3 + end.count("\n")
    assert part.lines[-2:] == [after, after + 1]
    assert [each["url"] for each in part.payloads[-2:]] == ["b", "c"]


def test_what_stands_in_a_long_text_is_never_a_row(tmp_path: Path) -> None:
    path = _csv(tmp_path, "url,el", 'a,"', *["https://x.co,view"] * 20_000, '"', "b,c")
    part = _one(path)
    assert (part.payloads, _codes(part)) == ([{"url": "b", "el": "c"}], [(2, "line_too_long")])


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (".".join("a" * 60), "is too long"),
        ("x" * 201, "is too long"),
        (",".join(f"c{place}" for place in range(1001)), "1001 columns"),
        ("x" * 300_000, "header cannot be read"),
        ("meta,meta.fp", "columns meta and meta.fp would be one field"),
        ("meta.fp,meta", "columns meta and meta.fp would be one field"),
    ],
)
def test_a_header_that_makes_no_record_is_refused(tmp_path: Path, header: str, told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        list(files.parts(_csv(tmp_path, header)))


@pytest.mark.parametrize("names", [("meta", "meta.fp"), ("meta.fp", "meta")])
def test_columns_that_would_be_one_field_are_refused_before_anything_is_read(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"url": ["u"] * 2} | {name: ["1", None] for name in names}), path)
    with pytest.raises(RefusedError, match=r"columns meta and meta\.fp would be one field"):
        next(files.parts(path))


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        ("1768471200000", INSTANT),
        ("1712011500000", datetime(2024, 4, 1, 22, 45, tzinfo=UTC)),
        ("1768471200000.5", INSTANT + timedelta(microseconds=500)),
        ("20260115", datetime(2026, 1, 15, tzinfo=UTC)),
        ("2026-01-15T11:00:00+01:00", INSTANT),
    ],
)
def test_an_instant_in_csv_is_what_it_is_in_json(tmp_path: Path, told: str, seen: datetime) -> None:
    part = _one(_csv(tmp_path, "url,received_at", f"u,{told}"))
    assert (part.received_at, part.payloads) == ([seen], [{"url": "u"}])


def _dictionary(folder: Path) -> Path:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), pa.array(["y" * 90_000]))
    deep = pa.StructArray.from_arrays([text], ["b"])
    path = folder / "events.parquet"
    pq.write_table(pa.table({"url": text, "meta": deep, "x": ["x"] * 5_000}), path, store_schema=False)
    return path


def _endless(folder: Path) -> Path:
    path = folder / "events.csv.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(b's,url\nx,"')
        for _ in range(8):
            file.write(b'ab\n","' * 2**18)
    return path


def _long_text(folder: Path) -> Path:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), pa.array(["z" * 1_000_000]))
    path = folder / "events.parquet"
    pq.write_table(pa.table({"url": ["u"] * 5_000, "el": text}), path, store_schema=False)
    return path


@pytest.mark.parametrize("made", [_dictionary, _endless, _long_text])
def test_a_small_file_takes_little_memory(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    path = made(tmp_path)
    assert path.stat().st_size < 2**20
    program = (
        "import resource, sys; from pathlib import Path; from kernel.usage import files\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for part in files.parts(Path(sys.argv[1])): pass\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    limit = 4 * 2**30
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80


@pytest.mark.parametrize("told", ["1768471200", "0", "1999-12-31T23:59:59Z"])
def test_seconds_are_not_taken_for_milliseconds(tmp_path: Path, told: str) -> None:
    part = _one(_csv(tmp_path, "url,received_at", f"u,{told}", "v,2000-01-01T00:00:00Z"))
    ((line, why),) = part.refused
    assert (line, why.startswith("received_at_before_2000: "), "milliseconds" in why) == (2, True, True)
    assert part.lines == [3]
