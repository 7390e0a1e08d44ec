"""Reading files: what a row is, which line it stands on, and what spoils a row or a file."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import RefusedError
from kernel.landing import reader
from kernel.landing.mapping import File, Output

OUTPUT = Output(fact="accounts", columns={"source_key": "a", "name": "b"})
CSV = File(pattern="*", outputs=[OUTPUT])


def read(path: Path, file: File = CSV) -> tuple[list[tuple[int, ...]], list[reader.Reject]]:
    rows, rejects = [], []
    for chunk in reader.chunks(path, file):
        rows += list(chunk.frame.itertuples(name=None))
        rejects += chunk.rejects
    return rows, rejects


def written(folder: Path, content: bytes, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_rows_come_with_the_line_they_begin_on(tmp_path, name) -> None:
    content = b'a,b\r\n1,x\r\n\r\n2,"two\r\nlines"\r\n3,y'
    rows, rejects = read(written(tmp_path, content, name))
    assert rows == [(2, "1", "x"), (4, "2", "two\r\nlines"), (6, "3", "y")]
    assert rejects == []


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbfa,b\n1,x\n")
    assert reader.header(path) == ["a", "b"]


@pytest.mark.parametrize("block", [24, 2**20])
def test_a_bad_byte_refuses_its_row_and_no_other(tmp_path, monkeypatch, block) -> None:
    monkeypatch.setattr(reader, "_BLOCK_BYTES", block)
    rows, rejects = read(written(tmp_path, b"a,b\n" + b"1,x\n" * 9 + b"2,\xff\n3,y\n"))
    assert rows == [*((line, "1", "x") for line in range(2, 11)), (12, "3", "y")]
    assert [(reject.line, reject.field, reject.row) for reject in rejects] == [
        (11, "b", {"a": "2", "b": "\ufffd"})
    ]


cells = st.text(alphabet=["a", '"', ",", "\n", "\r", " ", "é", "\\", "\t"], max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(cells, min_size=1, max_size=3), max_size=6), st.booleans(), st.integers(2, 30))
def test_whole_blocks_are_read_as_rows_one_by_one_are(tmp_path_factory, rows, quoted, block) -> None:
    text = io.StringIO(newline="")
    if quoted:
        csv.writer(text).writerows(rows)
    else:
        text.write("\n".join(",".join(row) for row in rows))
    path = written(tmp_path_factory.mktemp("read"), b"a,b\n" + text.getvalue().encode())
    with path.open("rb") as raw, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_BLOCK_BYTES", block)
        whole = told_of(reader.chunks(path, CSV))
        slow = told_of(reader._rows(reader._text(raw), CSV, ["a", "b"], 1, 0))
    assert whole == slow


def told_of(chunks: Iterator[reader.Chunk]) -> tuple[list[tuple[int, ...]], list[reader.Reject], str]:
    rows, rejects = [], []
    try:
        for chunk in chunks:
            rows += list(chunk.frame.itertuples(name=None))
            rejects += chunk.rejects
    except (RefusedError, csv.Error) as error:
        return [], [], str(error).removeprefix("x.csv cannot be read: ")
    return rows, rejects, ""


def test_columns_apart_by_blanks_are_read_with_given_names(tmp_path) -> None:
    file = File(pattern="*", outputs=[OUTPUT], format="whitespace", columns=["a", "b"], skip_lines=1)
    rows, rejects = read(written(tmp_path, b"title\n 0001   x\n 2\n"), file)
    assert rows == [(2, "0001", "x")]
    assert "line 3 has 1 fields" in rejects[0].reason


def test_parquet_is_read_as_text_without_loss(tmp_path) -> None:
    table = pa.table(
        {
            "a": pa.array([1, None]),
            "b": pa.array([Decimal("0.10"), None]),
            "c": pa.array([datetime(2026, 3, 1, 5, tzinfo=UTC), None]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    rows, _ = read(tmp_path / "x.parquet")
    assert rows[0] == (1, "1", "0.10", "2026-03-01 05:00:00.000000Z")
    assert rows[1] == (2, "", "", "")


def test_a_parquet_column_that_is_no_text_is_named_in_a_sentence(tmp_path) -> None:
    pq.write_table(pa.table({"a": [[1]], "b": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(RefusedError, match=r"x\.parquet"):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.csv.gz", gzip.compress(b"a,b\n" + b"1,x\n" * 10_000, mtime=0)[:60], "breaks off"),
        ("x.csv.gz", b"a,b\n1,x\n", "no gzip file"),
        ("x.parquet", b"PAR1 and no more", "no Parquet file"),
        ("x.csv", b"", "is empty"),
        ("x.csv", b"\n", "is empty"),
        ("x.csv", b"a,a\n", "stands there twice"),
        ("x.csv", b"a,b\r1,x\r2,y\r", "carriage returns alone: save it with line feeds"),
        ("x.csv", b'a,"b\n1,x\n', "unexpected end of data"),
        ("x.csv", b'a,b\n1,x\n2,"y\n3,z\n', "begins in line 3 is not closed"),
        ("x.csv", b'a,b\n1,x\n2,"y', "begins in line 3 is not closed"),
        ("x.csv", b'a,b\n1,"x\n2,y\n"3, z",4\n', "begins in line 2 is not closed"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, name, content, told) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RefusedError, match=told):
        read(path)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"1,x\n2," + b"y" * 200 + b"\n", 3),
        (b"1,x\n2," + b"y" * 200, 3),
        (b'1,x\n\n2,"' + b"y\n" * 100 + b'"\n', 4),
        (b'1,"x\n' + b"2,y\n" * 100, 2),
    ],
)
def test_a_row_of_any_length_is_not_held(tmp_path, monkeypatch, name, body, line) -> None:
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 32)
    monkeypatch.setattr(reader, "_ROW_BYTES", 100)
    with pytest.raises(RefusedError, match=f"row that begins in line {line} is longer than 100 bytes"):
        read(written(tmp_path, b"a,b\n" + body, name))


def test_a_row_of_the_greatest_length_is_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 32)
    monkeypatch.setattr(reader, "_ROW_BYTES", 101)
    rows, _ = read(written(tmp_path, b"a,b\n1," + b"y" * 98 + b"\n"))
    assert rows == [(2, "1", "y" * 98)]


@pytest.mark.parametrize("columns", [None, ["a", "b"]])
def test_a_header_of_any_length_is_not_held(tmp_path, monkeypatch, columns) -> None:
    monkeypatch.setattr(reader, "_HEADER_BYTES", 100)
    monkeypatch.setattr(reader, "_ROW_BYTES", 100)
    file = File(pattern="*", outputs=[OUTPUT], columns=columns, skip_lines=1 if columns else 0)
    with pytest.raises(RefusedError, match="longer than 100 bytes"):
        read(written(tmp_path, b"a,b" * 100 + b"\n1,x\n", "x.csv.gz"), file)


def test_large_rows_that_are_read_one_by_one_are_handed_on_in_portions(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 100)
    path = written(tmp_path, b"a,b\n\n" + (b"1," + b"y" * 60 + b"\n") * 5)
    assert [len(chunk.frame) for chunk in reader.chunks(path, CSV)] == [2, 2, 1]


def test_of_a_row_with_any_number_of_fields_a_thousand_beyond_the_header_are_kept(tmp_path) -> None:
    _, (reject,) = read(written(tmp_path, b"a,b\n" + b"1" + b"," * 5_000 + b"\n"))
    assert "has 5001 fields" in reject.reason
    assert len(reject.row) == 1_002
