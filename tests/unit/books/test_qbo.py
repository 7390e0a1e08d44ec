"""QuickBooks' file: eleven fields, an id that tells entries apart, and nothing that a spreadsheet calculates."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.books.export_formats import cells, qbo
from kernel.books.export_formats.entry import Line, Posted

ENTRY = Posted(
    UUID(int=1), UUID(int=2 << 64), date(2024, 10, 10), "USD", "Paper",
    (Line("6000", "Supplies", 23456, 0), Line("1000", "Checking", 0, 23456)),
)  # fmt: skip


def rows(*entries: Posted) -> list[list[str]]:
    return list(csv.reader(io.StringIO(qbo.content(entries).decode(), newline="")))


def test_an_entry_is_a_row_for_each_line_under_eleven_columns() -> None:
    header, first, second = rows(ENTRY)
    assert (
        ",".join(header)
        == "Date,JournalNumber,AccountName,Debit,Credit,Currency,Memo,Entity,Class,Location,ExternalId"
    )
    assert first[:10] == ["2024-10-10", "JE-0000000000000002", "6000 Supplies", "234.56", "0.00", "USD", "Paper", "", "", ""]  # fmt: skip
    assert second[2:5] == ["1000 Checking", "0.00", "234.56"]
    assert first[10] == second[10] == ENTRY.external_id


def test_a_row_of_another_length_is_no_file() -> None:
    with pytest.raises(ValueError, match="line 3 has 12 fields, not 11"):
        cells.file(qbo.COLUMNS, [[""] * 11, [""] * 12])


def test_the_external_id_is_what_it_was_yesterday() -> None:
    """As `sha256sum` makes it of the bytes that its description names."""
    assert ENTRY.external_id == "269af47288468ce902fe3ffa3617be791cdbe22bc63e37989577316d6a7f1265"


def test_the_order_of_lines_is_not_in_the_external_id() -> None:
    assert replace(ENTRY, lines=ENTRY.lines[::-1]).external_id == ENTRY.external_id


@pytest.mark.parametrize(
    "other",
    [{"tenant_id": UUID(int=9)}, {"id": UUID(int=9)}, {"on": date(2024, 10, 11)}, {"currency": "EUR"},
     {"lines": (replace(ENTRY.lines[0], debit_minor=23457), ENTRY.lines[1])},
     {"lines": (replace(ENTRY.lines[0], account="6001"), ENTRY.lines[1])}],
)  # fmt: skip
def test_whatever_an_entry_says_is_in_the_external_id(other: dict) -> None:
    assert replace(ENTRY, **other).external_id != ENTRY.external_id


def test_words_are_not_in_the_external_id() -> None:
    """A memo and a name may be written otherwise tomorrow; the entry is the same."""
    named = replace(ENTRY, memo="x", lines=tuple(replace(line, account_name="y") for line in ENTRY.lines))
    assert named.external_id == ENTRY.external_id


@pytest.mark.parametrize(
    "memo", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\n=1", "＝1", "\u200e=1", "\x00=1"]
)
def test_what_a_spreadsheet_would_calculate_is_text(memo: str) -> None:
    shown = rows(replace(ENTRY, memo=memo))[1][6]
    assert shown.startswith("'")


@given(st.text())
def test_no_text_begins_as_a_formula_or_ends_a_row(memo: str) -> None:
    _, first, second = rows(replace(ENTRY, memo=memo))
    assert len(first) == len(second) == 11
    assert first[6].lstrip()[:1] not in list("=+-@\t\r")


def test_the_decimals_are_those_of_the_currency() -> None:
    assert rows(replace(ENTRY, currency="JPY"))[1][3:5] == ["23456", "0"]
    assert rows(replace(ENTRY, currency="KWD"))[1][3:5] == ["23.456", "0.000"]


def test_what_takes_back_or_stands_for_an_entry_says_which() -> None:
    back, anew = replace(ENTRY, reverses=UUID(int=3 << 64)), replace(ENTRY, replaces=UUID(int=3 << 64))
    assert rows(back)[1][6] == "[reverses JE-0000000000000003] Paper"
    assert rows(anew)[1][6] == "[replaces JE-0000000000000003] Paper"
