"""Cells of CSV files that people open in spreadsheets and programs read: what all formats have in common."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from kernel.text import printable

# What a spreadsheet would calculate, after spaces too, and as it is written in full width.
_FORMULA = re.compile("\\s*[=+@\uff1d\uff0b\uff20\uff0d-]")


def text(value: str) -> str:
    """One line that no terminal obeys, with an apostrophe before what a spreadsheet would calculate."""
    shown = printable(value)
    # A tab or a line end at the beginning hides a formula from whoever only looks at the first letter.
    return f"'{shown}" if _FORMULA.match(shown) or value[:1] in ("\t", "\r") else shown


def amount(value: Decimal) -> str:
    """Plain digits with the decimals that the value has."""
    return f"{value:f}"


def file(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV file (RFC 4180, UTF-8). Raises ValueError for a row that has other than one field for each column."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(columns)
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns):
            raise ValueError(f"line {number} has {len(row)} fields, not {len(columns)}")
        writer.writerow(row)
    return written.getvalue().encode()
