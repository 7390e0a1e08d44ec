"""Xero's file: eleven fields, day before month, descriptions that are not too long."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import date
from uuid import UUID

from kernel.books.export_formats import xero
from kernel.books.export_formats.entry import Line, Posted

ENTRY = Posted(
    UUID(int=1), UUID(int=2 << 64), date(2024, 10, 9), "GBP", "Paper",
    (Line("6000", "Supplies", 23456, 0), Line("1000", "Checking", 0, 23456)),
)  # fmt: skip


def rows(*entries: Posted) -> list[list[str]]:
    return list(csv.reader(io.StringIO(xero.content(entries).decode(), newline="")))


def test_an_entry_is_a_row_for_each_line_under_eleven_columns() -> None:
    header, first, second = rows(ENTRY)
    assert ",".join(header) == (
        "*JournalNumber,*Date,*AccountCode,AccountName,*Description,Debit,Credit,TaxType,TaxAmount,TrackingName1,TrackingOption1"
    )
    assert first == ["JE-0000000000000002", "09/10/2024", "6000", "Supplies", "Paper", "234.56", "0.00", "Tax Exempt", "0.00", "", ""]  # fmt: skip
    assert second[2:7] == ["1000", "Checking", "Paper", "0.00", "234.56"]


def test_a_description_is_never_empty_nor_longer_than_the_receiver_takes() -> None:
    assert rows(replace(ENTRY, memo=""))[1][4] == "JE-0000000000000002"
    told = rows(replace(ENTRY, memo="x" * 300, reverses=UUID(int=3 << 64)))[1][4]
    assert len(told) == 200
    assert told.startswith("[reverses JE-0000000000000003] xxx")


def test_what_a_spreadsheet_would_calculate_is_text() -> None:
    assert rows(replace(ENTRY, memo="=1+1"))[1][4] == "'=1+1"
