"""Reading landing files in chunks of text with their line numbers. What the text means is casting's work."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from kernel.errors import RefusedError
from kernel.landing.mapping import File

SURPLUS = "beyond the header: "  # and the place: how the fields of a row that is too long are kept
CHUNK_ROWS = 50_000
_BLOCK_BYTES = 8 * 2**20
# A row is held whole, and a few compressed bytes can stand for one of any length.
_ROW_BYTES = 16 * 2**20
_HEADER_BYTES = 2**20
_SURPLUS_FIELDS = 1_000  # kept of a row that is too long


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot be loaded, with the sentence that says why."""

    line: int
    field: str | None
    reason: str
    row: dict[str, str]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows as text, the empty string where nothing stands; indexed by their line in the file."""

    frame: pd.DataFrame
    rejects: list[Reject]


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def header(path: Path, file: File | None = None) -> list[str]:
    """The column names of a file; comma-separated with a header line unless `file` says otherwise.

    Raises RefusedError when it is empty, broken off or names one twice.
    """
    if path.suffix == ".parquet":
        return list(_parquet_file(path).schema_arrow.names)
    if file and file.columns:
        return file.columns
    with _opened(path) as stream, _readable(path):
        line = stream.readline(_HEADER_BYTES + 1)
        if len(line) > _HEADER_BYTES:
            raise csv.Error(
                f"its header is longer than {_HEADER_BYTES:,} bytes: name its columns in the first line"
            )
        first = line.decode("utf-8-sig", "replace").rstrip("\r\n")
        if not first.strip():
            raise RefusedError(f"{path.name} is empty: it needs a header line that names its columns")
        if "\r" in first:
            raise csv.Error("its lines end in carriage returns alone: save it with line feeds")
        delimiter = file.delimiter if file else ","
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True))]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise RefusedError(f"{path.name}, line 1: column {twice!r} stands there twice: rename one")
    return names


def chunks(path: Path, file: File, on_bytes: Callable[[int], None] = lambda done: None) -> Iterator[Chunk]:
    """The file's rows. Raises RefusedError when it breaks off or is no file of the kind it says."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
        on_bytes(path.stat().st_size)
        return
    names = header(path, file)
    with path.open("rb") as raw, _readable(path):
        packed = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        for chunk in _chunks(packed, file, names):
            yield chunk
            on_bytes(raw.tell())


def _chunks(packed: Any, file: File, names: list[str]) -> Iterator[Chunk]:
    """Plain blocks are parsed whole; from the first one that is not on, the file is read row by row."""
    skipped = file.skip_lines if file.columns else 1
    if file.format == "whitespace":
        yield from _rows(_text(packed), file, names, skipped, 0)
        return
    offset = 0
    for number in range(skipped):
        offset += len(packed.readline(_ROW_BYTES + 1))
        if offset > _ROW_BYTES:
            raise _too_long(number + 1)
    line, rest = skipped, b""
    while True:
        read = packed.read(_BLOCK_BYTES)
        if rest and len(rest) + (read.find(b"\n") if b"\n" in read else len(read)) > _ROW_BYTES:
            raise _too_long(line + 1)
        block, newline, rest = (rest + read).rpartition(b"\n") if read else (rest, b"", b"")
        if not block and not newline:
            if read:
                continue
            return
        block += newline
        table = _plain(block, file, names)
        if table is None:
            packed.seek(offset)
            yield from _rows(_text(packed), file, names, 0, line)
            return
        index = pd.RangeIndex(line + 1, line + 1 + len(table))
        yield Chunk(table.to_pandas().set_axis(index), [])
        offset, line = offset + len(block), line + len(table)


def _plain(block: bytes, file: File, names: list[str]) -> Any:
    """The block as a table when each of its lines is one good row; None otherwise."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    if block.startswith((b"\n", b"\r\n")) or b"\n\n" in block or b"\n\r\n" in block:
        return None  # a blank line is no row
    if block.count(b"\r") != block.count(b"\r\n"):
        return None
    if not block.endswith(b"\n"):
        block += b"\n"
    lines = block.count(b"\n")
    # A quote left open would swallow the empty row put behind the block.
    block += file.delimiter.encode() * (len(names) - 1) + b"\n"
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(block),
            pa_csv.ReadOptions(column_names=names, block_size=len(block) + 1, use_threads=False),
            pa_csv.ParseOptions(delimiter=file.delimiter, newlines_in_values=True, ignore_empty_lines=False),
            pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None  # a wrong number of fields, or bytes that are not UTF-8
    return table.slice(0, lines) if len(table) == lines + 1 else None


def _text(packed: Any) -> io.TextIOWrapper:
    # A byte that is no UTF-8 becomes a lone surrogate, by which its row, and only its row, is refused.
    return io.TextIOWrapper(packed, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


class _readable:
    """Turns what goes wrong while reading into one sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise RefusedError(
                f"{self._path.name} breaks off or is no gzip file: nothing of it was loaded, transfer it again"
            ) from error
        if isinstance(error, csv.Error):
            raise RefusedError(f"{self._path.name} cannot be read: {error}") from error
        if isinstance(error, OSError):
            raise RefusedError(f"{self._path.name} cannot be read: {error.strerror or error}") from error


def _rows(text: io.TextIOWrapper, file: File, names: list[str], skipped: int, before: int) -> Iterator[Chunk]:
    """Rows one by one. `before` lines of the file precede `text`, of which `skipped` more hold no rows."""
    lines: list[int] = []
    rows: list[list[str]] = []
    rejects: list[Reject] = []
    held = 0
    for line, row in _numbered(text, file, skipped, before):
        held += sum(map(len, row))
        if len(row) == len(names):
            lines.append(line)
            rows.append(row)
        elif row:  # a blank line is no row
            told = (
                f"line {line} has {len(row)} fields and the header has {len(names)}:"
                " check its quotes and delimiters"
            )
            # What has no column keeps its place in the row, so that an export for repair loses nothing.
            last = min(len(row), len(names) + _SURPLUS_FIELDS)
            surplus = (f"{SURPLUS}{number:03}" for number in range(len(names) + 1, last + 1))
            raw = dict(zip(chain(names, surplus), map(clean, row), strict=False))
            rejects.append(Reject(line, None, told, raw))
        if len(rows) + len(rejects) >= CHUNK_ROWS or held >= _BLOCK_BYTES:
            yield _chunk(lines, rows, rejects, names)
            lines, rows, rejects, held = [], [], [], 0
    yield _chunk(lines, rows, rejects, names)


def _numbered(
    text: io.TextIOWrapper, file: File, skipped: int, before: int
) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line it begins on. Raises csv.Error for a row that is too long or whose quotes do not close."""
    lines = _Lines(text, before)
    if file.format == "whitespace":
        for number, line in enumerate(lines):
            begun = lines.begin_row()
            if number >= skipped:
                yield begun, line.split()
        return
    csv.field_size_limit(_ROW_BYTES)
    for number, row in enumerate(csv.reader(lines, delimiter=file.delimiter)):
        if lines.taken > 1:
            lines.refuse_an_open_quote(file.delimiter)
        begun = lines.begin_row()
        if number >= skipped:
            yield begun, row


class _Lines:
    """Hands out lines and remembers those of the row that is being read."""

    def __init__(self, text: io.TextIOWrapper, before: int) -> None:
        self.taken = 0
        self._text, self._first, self._size = text, before + 1, 0
        self._row = io.StringIO(newline="")  # a list of short lines would take thirty times their length

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(_ROW_BYTES + 1)
        self.taken += 1  # the empty one at the end too: a row that asked for it was not complete
        self._size += self._row.write(line)
        if self._size > _ROW_BYTES:
            raise _too_long(self._first)
        if not line:
            raise StopIteration
        return line

    def begin_row(self) -> int:
        """Forgets the row that was read; gives the line it began on."""
        begun = self._first
        self._first, self.taken, self._size = begun + self.taken, 0, 0
        self._row.seek(0)
        self._row.truncate()
        return begun

    def refuse_an_open_quote(self, delimiter: str) -> None:
        """Else a quote left open would swallow the rows up to the next one, or up to the end."""
        self._row.seek(0)
        try:
            next(csv.reader(self._row, delimiter=delimiter, strict=True))
        except csv.Error:
            raise csv.Error(
                f"a quote in the row that begins in line {self._first} is not closed where its field ends:"
                " close it, or double a quote that belongs to the value"
            ) from None


def _too_long(line: int) -> csv.Error:
    return csv.Error(
        f"the row that begins in line {line} is longer than {_ROW_BYTES:,} bytes: is a quote left open there?"
    )


def _chunk(lines: list[int], rows: list[list[str]], rejects: list[Reject], names: list[str]) -> Chunk:
    if not _is_utf8(rows):
        good = [index for index, row in enumerate(rows) if _is_utf8([row])]
        spoiled = sorted(set(range(len(rows))) - set(good))
        for index in spoiled:
            row = dict(zip(names, rows[index], strict=True))
            field = next(name for name, value in row.items() if not _is_utf8([[value]]))
            told = f"line {lines[index]}, field {field}: not valid UTF-8: save the file as UTF-8 and load it again"
            rejects.append(
                Reject(lines[index], field, told, {name: clean(text) for name, text in row.items()})
            )
        lines, rows = [lines[index] for index in good], [rows[index] for index in good]
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in names]
    data = {name: pd.array(column, dtype="str") for name, column in zip(names, columns, strict=True)}
    return Chunk(pd.DataFrame(data, index=pd.Index(lines, dtype="int64")), rejects)


def _is_utf8(rows: list[list[str]]) -> bool:
    try:
        "".join("".join(row) for row in rows).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def clean(text: str) -> str:
    """The text as a database can hold it: what is no UTF-8, and NUL, becomes the replacement character."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\x00", "\ufffd")


def _parquet(path: Path) -> Iterator[Chunk]:
    import pyarrow as pa

    file = _parquet_file(path)
    line = 1
    try:
        for batch in file.iter_batches(CHUNK_ROWS):
            table = pa.table(
                [column.cast(pa.string()).fill_null("") for column in batch.columns], batch.schema.names
            )
            yield Chunk(table.to_pandas().set_axis(pd.RangeIndex(line, line + len(batch))), [])
            line += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise RefusedError(
            f"{path.name}, after row {line - 1}: a column cannot be read as text: {str(error).splitlines()[0]}"
        ) from None


def _parquet_file(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise RefusedError(
            f"{path.name} is no Parquet file or breaks off: {str(error).splitlines()[0]}"
        ) from None
