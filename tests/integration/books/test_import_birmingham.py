"""A year of a city's purchase cards: imported once, whatever of it comes again."""

from __future__ import annotations

import csv
import gzip
from decimal import Decimal
from pathlib import Path

import pytest

from kernel.books.ingest import mapping as mappings
from tests.integration.books.bookkeeping import Books
from tests.integration.books.importing import importer

MAPPING = Path(__file__).resolve().parents[2] / "fakes" / "statements" / "birmingham.yaml"


@pytest.mark.parametrize("year", [2020, pytest.param(2018, marks=pytest.mark.slow)])
def test_a_year_imported_twice_changes_nothing(
    books: Books, tmp_path: Path, real_data: Path, year: int
) -> None:
    path = real_data / "birmingham-pcard" / f"birmingham-pcard-{year}.csv.gz"
    mapping = mappings.load(MAPPING)
    into = importer(books, tmp_path, kind="card", currency="GBP")
    first = into.file(path, mapping=mapping)
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if any(row.values())]
    assert (first.new + first.rejected, first.known) == (len(rows), 0)
    (total,) = into.rows(
        "select -sum(amount_minor) as minor from books.transactions where tenant_id = :tenant_id"
    )
    amounts = [
        (row["BILLING GROSS AMT"] or row["ORIGINAL GROSS AMT"], row["BILLING GROSS AMT"] or row["ORIGINAL CUR"] == "GBP")
        for row in rows
    ]  # fmt: skip
    assert total.minor == sum(
        Decimal(amount) * 100
        for (amount, is_sterling), row in zip(amounts, rows, strict=True)
        if is_sterling and row["TRANS DATE"][:1].isdigit()
    )
    before = into.rows(
        "select count(*), max(created_at) from books.transactions where tenant_id = :tenant_id"
    )
    assert into.file(path, mapping=mapping).is_new is False
    # Other bytes that say the same.
    part = tmp_path / "part.csv"
    lines = gzip.decompress(path.read_bytes()).split(b"\n")
    part.write_bytes(b"\n".join([lines[0], *lines[:0:-1]]).strip(b"\n") + b"\n")
    again = into.file(part, mapping=mapping)
    assert (again.new, again.known, again.rejected) == (0, first.new, first.rejected)
    assert (
        into.rows("select count(*), max(created_at) from books.transactions where tenant_id = :tenant_id")
        == before
    )
