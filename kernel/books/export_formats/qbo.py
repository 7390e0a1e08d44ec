"""QuickBooks Online: journal entries as a CSV file, a row for each line, with the id that tells one entry from another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernel.books.export_formats import cells
from kernel.books.export_formats.entry import Posted

COLUMNS = (
    "Date", "JournalNumber", "AccountName", "Debit", "Credit", "Currency", "Memo", "Entity", "Class", "Location", "ExternalId",
)  # fmt: skip


def content(entries: Sequence[Posted]) -> bytes:
    return cells.file(COLUMNS, _rows(entries))


def _rows(entries: Sequence[Posted]) -> Iterator[tuple[str, ...]]:
    for entry in entries:
        memo = cells.text(entry.told_memo)
        for line in entry.lines:
            yield (
                entry.on.isoformat(),
                entry.number,
                cells.text(f"{line.account} {line.account_name}"),
                cells.amount(entry.value(line.debit_minor)),
                cells.amount(entry.value(line.credit_minor)),
                entry.currency,
                memo,
                "",
                "",
                "",
                entry.external_id,
            )
