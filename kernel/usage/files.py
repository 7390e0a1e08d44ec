"""Files of events, read in parts of bounded size: JSON lines, CSV and Parquet, and JSON lines or CSV within gzip.

A record is a payload as the HTTP door takes it, and may carry `received_at` beside: when a server took it. What becomes
of records stands in `kernel.usage.batch`.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from kernel.errors import RefusedError
from kernel.usage import payloads
from kernel.usage.keys.payload import InvalidPayloadError

MOST_EVENTS = 20_000  # of a part
_MOST_BYTES = 16 * 2**20
_LINE_BYTES = 256 * 1024  # as the body of a request
_BLOCK = 256 * 1024  # bytes
_KINDS = (".jsonl", ".ndjson", ".csv", ".parquet", ".jsonl.gz", ".ndjson.gz", ".csv.gz")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    except (OSError, EOFError, pa.ArrowException) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
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
                        raise _too_long()
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
    part = Part()
    with _opened(path) as raw:
        lines = _Lines(raw)
        rows = csv.reader(lines, strict=True)
        try:
            header = next(rows, [])
        except csv.Error as error:
            raise RefusedError(
                f"{path}, line 1: the header cannot be read ({error}): name each column once"
            ) from None
        if not header or not all(header) or len(set(header)) < len(header):
            raise RefusedError(
                f"{path}, line 1: a column has no name, or one that stands twice: name each column once"
            )
        while True:
            number = lines.number + 1
            try:
                row = next(rows, None)
                if row is None:
                    break
                if row:
                    part.add(number, _record(header, row), sum(map(len, row)))
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
    """Lines of text for the reader of CSV, counted; bytes that are no UTF-8 are U+FFFD, as browsers decode them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.number = file, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(_LINE_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > _LINE_BYTES:
            _skip(self._file, line)
            raise csv.Error(f"the line has more than {_LINE_BYTES} bytes")
        return line.decode("utf-8-sig" if self.number == 1 else "utf-8", "replace")


def _record(header: list[str], row: list[str]) -> dict[str, Any]:
    if len(row) != len(header):
        raise InvalidPayloadError(
            "csv_fields", f"The row has {len(row)} fields, and the header {len(header)}."
        )
    given = {name: text for name, text in zip(header, row, strict=True) if text != ""}
    for name in _NUMBERS & given.keys():
        if _NUMBER.fullmatch(given[name]):
            given[name] = payloads.decoded(given[name].encode())[0]
    return _nested(given)


def _parquet(path: Path) -> Iterator[Part]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=MOST_EVENTS):
            part, per_row = Part(), batch.nbytes // max(1, batch.num_rows)
            for row in batch.to_pylist():
                number += 1
                try:
                    record = _plain(row)
                except InvalidPayloadError as error:
                    part.refuse(number, error)
                    continue
                # A time that a server wrote is read as it is; text of it, like any other.
                if isinstance(told := row.get("received_at"), datetime):
                    # Of nanoseconds, pandas' own.
                    record["received_at"] = (
                        told.to_pydatetime(warn=False) if hasattr(told, "to_pydatetime") else told
                    )
                part.add(number, _nested(record), per_row)
                if part.is_full:
                    yield part
                    part = Part()
            yield part


def _plain(value: Any) -> Any:
    """As JSON has it; a field that is null is left out, because columns cannot be."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise InvalidPayloadError(
        "no_json_value", f"A field holds {type(value).__name__}, which JSON has not; write it as text."
    )


def _nested(given: dict[str, Any]) -> dict[str, Any]:
    """A column `meta.fp` is the field fp of meta."""
    if not any("." in name for name in given):
        return given
    made: dict[str, Any] = {}
    for name, value in given.items():
        *outer, last = name.split(".")
        inner = made
        for each in outer:
            inner = inner.setdefault(each, {})
            if not isinstance(inner, dict):
                raise InvalidPayloadError(
                    "column_twice", f"Column {name} stands beside one that is its beginning."
                )
        inner[last] = value
    return made


def _instant(told: Any) -> datetime:
    """An instant in ISO 8601, without an offset in UTC, or a number of milliseconds since 1970."""
    try:
        if isinstance(told, int | float) and not isinstance(told, bool):
            return _EPOCH + timedelta(milliseconds=told)
        found = told if isinstance(told, datetime) else datetime.fromisoformat(told)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise InvalidPayloadError(
            "received_at_no_instant", "received_at is no instant; write it as 2026-01-15T10:00:00.123Z."
        ) from None


def _skip(file: IO[bytes], line: bytes) -> None:
    """The rest of a line."""
    while line and not line.endswith(b"\n"):
        line = file.readline(_LINE_BYTES)


def _too_long() -> InvalidPayloadError:
    return InvalidPayloadError(
        "line_too_long", f"The line has more than {_LINE_BYTES} bytes; an event has less."
    )
