"""The table in a CSV file: its encoding, its delimiter, its header, and which column is which field.

What stands in the fields is the work of `csv_file`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, compress, count, islice, tee
from typing import NamedTuple

from kernel.books.ingest.mapping import Mapping
from kernel.books.ingest.statement import Limits, StatementError, refuse_too_many

_UNHELD = re.compile("[\0\ud800-\udfff]")  # what no database holds
_DELIMITERS = (",", ";", "\t", "|")
_HEADER_WITHIN = 40  # lines: banks write a few about the account above the table
_AT_ONCE = 1_000  # rows between two looks at how many there are
# Characters of a field. The library has a limit of its own, which other readers of the process raise.
_LONGEST_FIELD = 131_072
# By what banks call them, the likeliest first.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "post_date": (
        "post date", "posting date", "posted date", "posted", "date posted", "date", "booking date", "transaction date",
        "trans date", "trans. date", "datetime",
    ),
    "value_date": ("value date", "effective date", "settlement date"),
    "amount": ("amount", "transaction amount", "trans amount", "value", "sum"),
    "debit": (
        "debit", "debits", "debit amount", "withdrawal", "withdrawals", "payment", "payments", "money out", "paid out", "out",
    ),
    "credit": (
        "credit", "credits", "credit amount", "deposit", "deposits", "receipt", "receipts", "money in", "paid in", "in",
    ),
    "balance": ("balance", "running balance", "account balance", "balance amount", "ending balance", "current balance"),
    "bank_ref": ("fitid", "transaction id", "txn id", "bank id"),
    "counterparty": ("counterparty", "counter party", "payee", "merchant", "merchant name", "vendor", "name"),
    "description": (
        "description", "memo", "details", "transaction details", "transaction description", "narrative", "narration", "desc",
        "payee", "merchant", "merchant name", "vendor", "reference",
    ),
    "reference": (
        "reference", "ref", "check number", "cheque number", "confirmation", "conf number", "reference number",
    ),
    "direction": ("debit/credit", "credit/debit", "dr/cr", "cr/dr", "debit or credit", "type", "transaction type"),
    "category": ("category", "classification", "class", "type", "transaction type"),
    "card": ("card", "card number", "card no", "card no."),
    "currency": ("currency", "ccy", "currency code", "cur"),
    "account": ("account", "account number", "account no", "account #", "acct", "account id", "iban"),
}  # fmt: skip
# Fields that may share a column with another.
_SHARING = ("description", "category")
DIRECTIONS = {
    "credit": 1, "cr": 1, "c": 1, "in": 1, "crdt": 1, "deposit": 1,
    "debit": -1, "dr": -1, "d": -1, "out": -1, "dbit": -1, "withdrawal": -1,
}  # fmt: skip


class Row(NamedTuple):
    """A row with the line it begins on, and its text."""

    number: int
    cells: list[str]
    raw: str


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` are those with a cell that is filled; `columns` are the places of each field, the one that counts first;
    `others` are those that no field took.

    `is_clean`: no row is damaged, so that none has to be asked.
    """

    rows: list[Row]
    width: int
    columns: dict[str, list[int]]
    others: list[tuple[int, str]]
    is_clean: bool


def table(data: bytes, mapping: Mapping, limits: Limits) -> Table:
    """Raises StatementError for a file without a table, whose header lacks what a statement needs, or with far too many rows."""
    text = decoded(data, mapping.encoding)
    stream = io.StringIO(text, newline="")
    lines = list(islice(stream, _HEADER_WITHIN))
    every = chain(lines, stream)
    is_clean = not is_damaged(text)
    if mapping.are_numbers == {True}:
        return _without_header(lines, every, mapping, limits, is_clean)
    best: tuple[int, int, int, list[str], str] | None = None
    too_long = 0
    for delimiter in [mapping.delimiter] if mapping.delimiter else _DELIMITERS:
        reader, number = csv.reader(lines, delimiter=delimiter), 1
        try:
            for row in reader:
                if _has_too_long(row):
                    too_long = too_long or number
                    break
                found = len(_fields(row, mapping))
                if found > 1 and (best is None or (found, len(row)) > best[:2]):
                    best = (found, len(row), number, row, delimiter)
                number = reader.line_num + 1
        except csv.Error:
            too_long = too_long or number
    if best is None and too_long:
        raise _too_long(too_long, lines[too_long - 1])
    if best is None:
        raise StatementError(
            "422_TABLE_NOT_FOUND", f"none of the first {_HEADER_WITHIN} lines is a header with a date, a description and an amount",
            "put one above the rows, or name its columns in a mapping", evidence=lines[0] if lines else "",
        )  # fmt: skip
    _, _, number, header, delimiter = best
    columns = _fields(header, mapping)
    rows = _rows(every, delimiter, limits)
    at = next(at for at, row in enumerate(rows) if row.number == number)
    _refuse_missing(columns, header, rows[at], mapping)
    taken = {place for places in columns.values() for place in places}
    others = [
        (place, shown(name.strip()))
        for place, name in enumerate(header)
        if place not in taken and name.strip()
    ]
    return Table(rows[at + 1 :], len(header), columns, others, is_clean)


def _without_header(
    lines: list[str], every: Iterable[str], mapping: Mapping, limits: Limits, is_clean: bool
) -> Table:
    counts = {delimiter: lines[0].count(delimiter) if lines else 0 for delimiter in _DELIMITERS}
    delimiter = mapping.delimiter or max(counts, key=counts.__getitem__)
    rows = _rows(every, delimiter, limits)
    columns = {name: [int(each) - 1 for each in mapping.listed(name)] for name in mapping.columns}
    width = len(rows[0].cells) if rows else 0
    last = max(place for places in columns.values() for place in places)
    if last >= width:
        raise StatementError(
            "422_MISSING_REQUIRED_FIELD", f"the first line has {width} fields and the mapping names column {last + 1}",
            "correct the numbers of the columns, or the delimiter", where="line 1", evidence=lines[0] if lines else "",
        )  # fmt: skip
    taken = {place for places in columns.values() for place in places}
    others = [(at, str(at + 1)) for at in range(width) if at not in taken]
    return Table(rows, width, columns, others, is_clean)


def decoded(data: bytes, encoding: str | None) -> str:
    """Bytes that are no UTF-8 in a file that otherwise is become lone surrogates: their lines, and only they, are refused."""
    if encoding is not None:
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except UnicodeError as error:
            ends = data.count(b"\n", 0, error.start) if isinstance(error, UnicodeDecodeError) else 0
            raise StatementError(
                "422_PARSE_FAILED", f"is not written in {encoding}: {error}", "correct encoding in the mapping",
                where=f"line {ends + 1}",
            ) from None  # fmt: skip
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    zeros = data[:4000].count(b"\0")
    if zeros > len(data[:4000]) // 3:
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace")
    text = data.decode("utf-8-sig", "surrogateescape")
    if not text.isascii() and not re.search("[\x80-\ud7ff\ue000-\U0010ffff]", text):
        return data.decode("cp1252", "replace")
    return text


def is_damaged(text: str) -> bool:
    """Whether it holds NUL or bytes that are no UTF-8."""
    return "\0" in text or (not text.isascii() and _UNHELD.search(text) is not None)


def shown(text: str) -> str:
    """The text as a database can hold it: each byte that is no UTF-8, and NUL, becomes the replacement character."""
    return _UNHELD.sub("\ufffd", text)


def _rows(lines: Iterable[str], delimiter: str, limits: Limits) -> list[Row]:
    """Those with a cell that is filled: of the others, which end many a file, nothing is kept.

    Raises StatementError for a quote that is left open, a field of a length that none has, and as soon as there are too many.
    """
    to_read, to_tell = tee(lines)
    reader = csv.reader(to_read, delimiter=delimiter)
    rows: list[Row] = []
    last: Row | None = None
    is_read = False
    while not is_read:
        begun = reader.line_num
        try:
            read = list(islice(reader, _AT_ONCE))
        except csv.Error:
            read = []
        raws = list(islice(to_tell, reader.line_num - begun))
        is_read = not raws
        # Some row has several lines, or cannot be read.
        if len(read) < len(raws) or max(map(len, raws), default=0) > _LONGEST_FIELD:
            those = list(_one_by_one(raws, delimiter, begun))
            rows += (row for row in those if any(row.cells))
            last = those[-1]
        elif raws:
            filled = list(map(any, read))
            rows += map(
                Row, compress(count(begun + 1), filled), compress(read, filled), compress(raws, filled)
            )
            last = Row(reader.line_num, read[-1], raws[-1])
        # Not to the row: the header is one of them, and what stands above it.
        refuse_too_many(len(rows) - _HEADER_WITHIN, limits)
    if last is not None:
        _refuse_open_quote(last, delimiter)
    return rows


def _one_by_one(lines: list[str], delimiter: str, begun: int) -> Iterator[Row]:
    """The rows of whole lines, with `begun` lines before them."""
    reader = csv.reader(lines, delimiter=delimiter)
    end = 0
    while True:
        begin = end
        try:
            cells = next(reader, None)
        except csv.Error:
            raise _too_long(begun + begin + 1, lines[begin]) from None
        if cells is None:
            return
        end = reader.line_num
        row = Row(begun + begin + 1, cells, "".join(lines[begin:end]))
        if len(row.raw) > _LONGEST_FIELD and _has_too_long(cells):
            raise _too_long(row.number, lines[begin])
        if end - begin > 1:
            _refuse_open_quote(row, delimiter)
        yield row


def _refuse_open_quote(row: Row, delimiter: str) -> None:
    """Else a quote left open would swallow the rows up to the next one, or up to the end."""
    lines = list(io.StringIO(row.raw, newline=""))
    try:
        next(csv.reader(lines, delimiter=delimiter, strict=True), None)
    except csv.Error:
        raise StatementError(
            "422_PARSE_FAILED", "a quote is not closed where its field ends",
            "close the quote, or double a quote that belongs to the value",
            where=f"line {row.number}", evidence=shown(lines[0][:1_000]),
        ) from None  # fmt: skip


def _has_too_long(cells: list[str]) -> bool:
    return max(map(len, cells), default=0) > _LONGEST_FIELD


def _too_long(number: int, line: str) -> StatementError:
    return StatementError(
        "422_PARSE_FAILED", f"a field has more than {_LONGEST_FIELD:,} characters",
        "close the quote where the field ends, or correct the delimiter", where=f"line {number}", evidence=shown(line[:1_000]),
    )  # fmt: skip


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def _fields(header: list[str], mapping: Mapping) -> dict[str, list[int]]:
    """Which fields a row names, if it is a header."""
    places: dict[str, int] = {}
    for at, name in enumerate(header):
        places.setdefault(_plain(name), at)
    if mapping.columns:
        named = {name: [_plain(str(each)) for each in mapping.listed(name)] for name in mapping.columns}
        found = {name: [places[each] for each in names if each in places] for name, names in named.items()}
        return {name: at for name, at in found.items() if at}
    columns: dict[str, list[int]] = {}
    taken: set[int] = set()
    for name, synonyms in _SYNONYMS.items():
        for word in synonyms:
            at = places.get(word)
            if at is not None and (at not in taken or name in _SHARING):
                columns[name] = [at]
                taken.add(at)
                break
    return columns


def _refuse_missing(columns: dict[str, list[int]], header: list[str], row: Row, mapping: Mapping) -> None:
    missing = next((name for name in mapping.columns if name not in columns), None)
    if missing is None and "post_date" not in columns:
        missing = "post_date"
    if missing is None and not {"description", "counterparty"} & columns.keys():
        missing = "description"
    if (
        missing is None
        and "amount" not in columns
        and not {"debit", "credit"} <= columns.keys()
        and not mapping.columns
    ):
        missing = "amount"
    if missing is not None:
        wanted = (
            " or ".join(map(str, mapping.listed(missing))) if mapping.columns else missing.replace("_", " ")
        )
        raise StatementError(
            "422_MISSING_REQUIRED_FIELD", f"the header has no column for {missing}, looked for as {wanted}",
            f"name it in the mapping, columns: {{{missing}: ...}}; the file has {', '.join(filter(None, map(str.strip, header)))}",
            where=f"line {row.number}", evidence=shown(row.raw),
        )  # fmt: skip


def evidence(rows: list[Row], places: list[int]) -> list[str]:
    """What stands in these columns, each text once, of every row that has them."""
    told = dict.fromkeys([row.cells[place] for place in places for row in rows if place < len(row.cells)])
    return [text.strip() for text in told if text]
