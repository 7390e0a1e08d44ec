"""A bank account of a tenant, into which files are imported, and what its tests ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.books.ingest.importing import Imported, import_file
from kernel.books.ingest.mapping import Mapping
from models.books import bank_accounts
from tests.integration.books.bookkeeping import Books

IMPORTED = datetime(2026, 6, 1, tzinfo=UTC)
HEADER = "Date,Description,Amount\n"


@dataclass
class Importer:
    books: Books
    folder: Path
    account_id: UUID = field(default_factory=uuid4)
    _files: Any = field(default_factory=count)

    def text(self, text: str, **named: Any) -> Imported:
        return self.file(self.path(text), **named)

    def path(self, text: str) -> Path:
        path = self.folder / f"{self.account_id}-{next(self._files)}.csv"
        path.write_text(text)
        return path

    def lines(self, *lines: str, **named: Any) -> Imported:
        return self.text(HEADER + "".join(f"{line}\n" for line in lines), **named)

    def file(
        self, path: Path, *, mapping: Mapping | None = None, dry_run: bool = False, **named: Any
    ) -> Imported:
        return import_file(
            self.books.engine, self.books.tenant_id, self.account_id, path,
            actor="ann", at=IMPORTED, mapping=mapping, dry_run=dry_run, **named,
        )  # fmt: skip

    def stored(self) -> list[tuple[Any, ...]]:
        """Of each transaction of the account its id and what it says, in one order."""
        query = (
            "select id, post_date, amount_minor, description, occurrence from books.transactions"
            " where tenant_id = :tenant_id and bank_account_id = :account_id order by id"
        )
        return [tuple(row) for row in self.rows(query)]

    def rows(self, query: str) -> Sequence[sa.Row[Any]]:
        return self.books.pinned(query, account_id=self.account_id)


def importer(books: Books, folder: Path, *, kind: str = "checking", currency: str = "USD") -> Importer:
    made = Importer(books, folder)
    with books.engine.begin() as connection:
        tenancy.service(connection, books.tenant_id)
        connection.execute(
            bank_accounts.insert().values(
                tenant_id=books.tenant_id, id=made.account_id, name=str(made.account_id), kind=kind, currency=currency,
                account_code="2100" if kind == "card" else "1000",
            )
        )  # fmt: skip
    return made
