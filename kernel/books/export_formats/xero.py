"""Xero: manual journals as a CSV file, a row for each line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernel.books.export_formats import cells
from kernel.books.export_formats.entry import Posted

# Those with a star are required by the receiver.
COLUMNS = (
    "*JournalNumber", "*Date", "*AccountCode", "AccountName", "*Description", "Debit", "Credit", "TaxType", "TaxAmount",
    "TrackingName1", "TrackingOption1",
)  # fmt: skip
_LONGEST_DESCRIPTION = 200


def content(entries: Sequence[Posted]) -> bytes:
    return cells.file(COLUMNS, _rows(entries))


def _rows(entries: Sequence[Posted]) -> Iterator[tuple[str, ...]]:
    for entry in entries:
        # A description is required; a link to another entry stands first, so that it is not cut off.
        description = cells.text(entry.told_memo)[:_LONGEST_DESCRIPTION] or entry.number
        for line in entry.lines:
            yield (
                entry.number,
                f"{entry.on:%d/%m/%Y}",
                line.account,
                cells.text(line.account_name),
                description,
                cells.amount(entry.value(line.debit_minor)),
                cells.amount(entry.value(line.credit_minor)),
                "Tax Exempt",
                "0.00",
                "",
                "",
            )
