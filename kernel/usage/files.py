"""Files of events, read in parts of bounded size: JSON lines, CSV and Parquet, and JSON lines or CSV within gzip.

A record is a payload as the HTTP door takes it, and may carry `received_at` beside: when a server took it. Whatever a
file holds, no more of it is in memory than a part. How rows of Parquet are had stands in `arrow`, what becomes of records in
`batch`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pyarrow.parquet as pq

from kernel.errors import RefusedError
from kernel.usage import arrow, payloads
from kernel.usage.keys.payload import InvalidPayloadError

MOST_EVENTS = 20_000  # of a part
_MOST_BYTES = 16 * 2**20
_LINE_BYTES = 256 * 1024  # of a record: as the body of a request
_BLOCK = 256 * 1024  # bytes
_MOST_COLUMNS = 1_000
_NAME_CHARACTERS = 200  # of a column: its name stands in every record
_MOST_LEVELS = 8  # that the name of a column makes
# Of a group of rows of Parquet, which is had whole where a column says the same in all of it.
_GROUP_BYTES = 512 * 2**20
_GROUP_VALUES = 2**24  # of a column of lists
_FIXED_BYTES = 64  # of a value that is no text
_FOOTER_ITEMS = 100_000
_FOOTER_BYTES = 16 * 2**20
_KINDS = (".jsonl", ".ndjson", ".csv", ".parquet", ".jsonl.gz", ".ndjson.gz", ".csv.gz")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # seconds that are taken for milliseconds lie in 1970
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# Of CSV, where everything is text: these are numbers where they look like one.
_NUMBERS = frozenset(("ts", "timestamp", "created_at", "meta.ts", "ev"))


@dataclass(slots=True)
class Part:
    """Records of a file that stand together: their line numbers from 1, payloads, and when a server took each.

    `refused` are those that cannot be read: line and reason. Of Parquet, a line is a row.
    """

    lines: list[int] = field(default_factory=list)
    payloads: list[Any] = field(default_factory=list)
    received_at: list[datetime | None] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    size: int = 0

    def add(self, line: int, payload: Any, size: int) -> None:
        instant = None
        if isinstance(payload, dict) and (told := payload.pop("received_at", None)) is not None:
            try:
                instant = _instant(told)
            except InvalidPayloadError as error:
                self.refuse(line, error)
                return
        self.size += size
        self.lines.append(line)
        self.payloads.append(payload)
        self.received_at.append(instant)

    def refuse(self, line: int, error: InvalidPayloadError) -> None:
        self.refused.append((line, f"{error.code}: {error}"))

    @property
    def is_full(self) -> bool:
        return len(self.lines) + len(self.refused) >= MOST_EVENTS or self.size >= _MOST_BYTES


def kind(path: Path) -> str:
    """The ending that says how a file is read. Raises RefusedError for any other, and for what is no file."""
    if not path.is_file():
        raise RefusedError(f"{path} is no file: name one that is there")
    found = [ending for ending in _KINDS if path.name.lower().endswith(ending)]
    if not found:
        raise RefusedError(f"{path} is of no kind that is read: let it end with {', '.join(_KINDS)}")
    return found[-1]


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts(path: Path) -> Iterator[Part]:
    """The file from its beginning. Raises RefusedError when it is not what its name says."""
    read = {".parquet": _parquet, ".csv": _csv, ".csv.gz": _csv}.get(kind(path), _json_lines)
    try:
        yield from read(path)
    except RefusedError:
        raise
    # What libraries raise of a damaged file is on no list: zlib.error, KeyError for a time zone.
    except Exception as error:
        told = next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
        raise RefusedError(f"{path} cannot be read ({told}): hand it over again, whole") from error


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _json_lines(path: Path) -> Iterator[Part]:
    part, numbers = Part(), itertools.count(1)
    with _opened(path) as file:
        for lines in _cut(file):
            for line, number in zip(lines, numbers, strict=False):
                try:
                    if len(line) > _LINE_BYTES:
                        raise arrow.too_long(_LINE_BYTES)
                    if line and not line.isspace():
                        part.add(number, payloads.decoded(line)[0], len(line))
                except InvalidPayloadError as error:
                    part.refuse(number, error)
                if part.is_full:
                    yield part
                    part = Part()
    yield part


def _cut(file: IO[bytes]) -> Iterator[list[bytes]]:
    """The lines of a file, as many at a time as a block has; of one that is too long, only so much that this is seen."""
    rest = b""
    while block := file.read(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        rest = rest[: _LINE_BYTES + 1]
        yield lines
    yield [rest]


def _csv(path: Path) -> Iterator[Part]:
    # Of all of this process, whose other readers may need more.
    csv.field_size_limit(max(csv.field_size_limit(), _LINE_BYTES))
    part = Part()
    with _opened(path) as raw:
        lines = _Lines(raw)
        rows = csv.reader(lines, strict=True)
        try:
            names = next(rows, [])
        except (csv.Error, InvalidPayloadError) as error:
            raise RefusedError(
                f"{path}, line 1: the header cannot be read ({error}): name each column once"
            ) from None
        header = _header(f"{path}, line 1", names)
        while True:
            number = lines.begin()
            try:
                row = next(rows, None)
                if row is None:
                    break
                if row:
                    record = _record(header, row)
                    part.add(number, record, _size(record))
            except csv.Error as error:
                part.refuse(
                    number, InvalidPayloadError("csv_unreadable", f"The row cannot be read ({error}).")
                )
            except InvalidPayloadError as error:
                part.refuse(number, error)
            if part.is_full:
                yield part
                part = Part()
    yield part


class _Lines:
    """Lines of text for the reader of CSV, counted; bytes that are no UTF-8 are U+FFFD, as browsers decode them.

    Raises InvalidPayloadError for a record that is too long, and goes on behind it.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._number, self._size, self._quotes = file, 0, 0, 0

    def begin(self) -> int:
        """The number of the line on which the next record begins."""
        self._size = self._quotes = 0
        return self._number + 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(_LINE_BYTES + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self._size += len(line)
        self._quotes += line.count(b'"')
        if self._size > _LINE_BYTES:
            self._skip(line)
            raise arrow.too_long(_LINE_BYTES)
        return line.decode("utf-8-sig" if self._number == 1 else "utf-8", "replace")

    def _skip(self, line: bytes) -> None:
        """To the end of the record: at the end of a line, unless that is within quotes."""
        is_ended = line.endswith(b"\n")
        if is_ended and self._quotes % 2 == 0:
            return
        self._number -= not is_ended
        while block := self._file.peek(_BLOCK):
            # Every second one stands outside of quotes.
            pieces, first = block.split(b'"'), self._quotes % 2
            ends = (place for place in range(first, len(pieces), 2) if b"\n" in pieces[place])
            if (last := next(ends, None)) is not None:
                before = b'"'.join([*pieces[:last], b""])
                block = before + pieces[last].partition(b"\n")[0] + b"\n"
            self._file.read(len(block))
            self._number += block.count(b"\n")
            self._quotes += block.count(b'"')
            if last is not None:
                return


def _header(where: str, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Columns: their names, and where in a record their fields stand. Raises RefusedError for what makes no record."""
    if not names or not all(names) or len(set(names)) < len(names):
        raise RefusedError(f"{where}: a column has no name, or one that stands twice: name each column once")
    if len(names) > _MOST_COLUMNS:
        raise RefusedError(f"{where}: there are {len(names)} columns: write at most {_MOST_COLUMNS}")
    header, known = [(name, name.split(".")) for name in names], set(names)
    for name, levels in header:
        if len(name) > _NAME_CHARACTERS or len(levels) > _MOST_LEVELS:
            raise RefusedError(
                f"{where}: the name of column {name[:40]} is too long: write at most {_NAME_CHARACTERS}"
                f" characters and {_MOST_LEVELS} levels"
            )
        for end in range(1, len(levels)):
            if (outer := ".".join(levels[:end])) in known:
                raise RefusedError(
                    f"{where}: columns {outer} and {name} would be one field: write only one of them"
                )
    return header


def _record(header: list[tuple[str, list[str]]], row: list[str]) -> dict[str, Any]:
    if len(row) != len(header):
        raise InvalidPayloadError(
            "csv_fields", f"The row has {len(row)} fields, and the header {len(header)}."
        )
    given = {name: text for (name, _), text in zip(header, row, strict=True) if text != ""}
    for name in _NUMBERS & given.keys():
        if _NUMBER.fullmatch(given[name]):
            given[name] = payloads.decoded(given[name].encode())[0]
    return _nested(header, given)


def _parquet(path: Path) -> Iterator[Part]:
    part = Part()
    limits = {
        "thrift_container_size_limit": _FOOTER_ITEMS, "thrift_string_size_limit": _FOOTER_BYTES,
    }  # fmt: skip
    with pq.ParquetFile(path, **limits) as file:
        header = _header(str(path), file.schema_arrow.names)
        texts = _texts(path, file.metadata)
    # By their dictionaries, in which a text stands once for all rows that have it.
    with pq.ParquetFile(path, **limits, read_dictionary=texts, buffer_size=_BLOCK) as file:
        # Group by group: what is nested is not read over the end of a dictionary.
        every = (
            row
            for group in range(file.num_row_groups)
            for batch in file.iter_batches(batch_size=MOST_EVENTS, row_groups=[group])
            for row in arrow.rows(batch, _LINE_BYTES)
        )
        for number, row in enumerate(every, 1):
            try:
                record = arrow.plain(row)
                # A time that a server wrote is read as it is; text of it, like any other.
                if isinstance(told := row.get("received_at"), datetime):
                    # Of nanoseconds, pandas' own.
                    record["received_at"] = (
                        told.to_pydatetime(warn=False) if hasattr(told, "to_pydatetime") else told
                    )
                record = _nested(header, record)
                part.add(number, record, _size(record))
            except InvalidPayloadError as error:
                part.refuse(number, error)
            if part.is_full:
                yield part
                part = Part()
    yield part


def _texts(path: Path, told: pq.FileMetaData) -> list[str]:
    """The columns of texts. Raises RefusedError for a file of which a part could be of any size."""
    columns = [told.schema.column(place) for place in range(told.num_columns)]
    if len(columns) > _MOST_COLUMNS:
        raise RefusedError(f"{path}: there are {len(columns)} columns: write at most {_MOST_COLUMNS}")
    if any(each.physical_type == "FIXED_LEN_BYTE_ARRAY" and each.length > _FIXED_BYTES for each in columns):
        raise RefusedError(f"{path}: a column holds bytes of a fixed length, which JSON has not: write texts")
    for place in range(told.num_row_groups):
        group = told.row_group(place)
        chunks = [group.column(number) for number in range(len(columns))]
        values = max(
            (chunk.num_values for chunk, each in zip(chunks, columns, strict=True) if each.max_repetition_level),
            default=0,
        )  # fmt: skip
        if sum(chunk.total_uncompressed_size for chunk in chunks) > _GROUP_BYTES or values > _GROUP_VALUES:
            raise RefusedError(
                f"{path}: row group {place + 1} is larger than is read: write groups of fewer rows, of at most"
                f" {_GROUP_BYTES} bytes"
            )
    return [each.path for each in columns if each.physical_type == "BYTE_ARRAY"]


def _nested(header: list[tuple[str, list[str]]], given: dict[str, Any]) -> dict[str, Any]:
    """A column `meta.fp` is the field fp of meta."""
    made: dict[str, Any] = {}
    for name, (*outer, last) in header:
        if name in given:
            inner = made
            for each in outer:
                inner = inner.setdefault(each, {})
            inner[last] = given[name]
    return made


def _size(record: dict[str, Any]) -> int:
    """The bytes of a record's JSON. Raises InvalidPayloadError for more than a record has."""
    size = len(payloads.canonical(record))
    if size > _LINE_BYTES:
        raise arrow.too_long(_LINE_BYTES)
    return size


def _instant(told: Any) -> datetime:
    """An instant in ISO 8601, without an offset in UTC, or a number of milliseconds since 1970, also as text.

    Raises InvalidPayloadError for what is none, and for one before 2000.
    """
    found = _read(told)
    if found < _EARLIEST:
        raise InvalidPayloadError(
            "received_at_before_2000",
            "received_at lies before 2000; a number is milliseconds since 1970: write seconds times 1000.",
        )
    return found


def _read(told: Any) -> datetime:
    try:
        # Eight digits are a date.
        if isinstance(told, str) and len(told) != 8 and _NUMBER.fullmatch(told):
            told = float(told)
        if isinstance(told, int | float) and not isinstance(told, bool):
            return _EPOCH + timedelta(milliseconds=told)
        found = told if isinstance(told, datetime) else datetime.fromisoformat(told)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise InvalidPayloadError(
            "received_at_no_instant", "received_at is no instant; write it as 2026-01-15T10:00:00.123Z."
        ) from None
