"""A tenant with a small chart of accounts, and what its tests ask of the journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import ledger
from kernel.books.ledger import Entry, Line
from models.books import accounts, bank_accounts
from models.books_lines import statement_files, transactions

AT = datetime(2026, 1, 15, 10, tzinfo=UTC)
ON = date(2026, 1, 15)
CHART = (("1000", "Checking", "Asset"), ("2100", "Card", "Liability"), ("4000", "Sales", "Revenue"), ("6300", "Supplies", "Expense"))  # fmt: skip
_slugs = count(1)


def entry(amount: str = "12.34", *, on: date = ON, currency: str = "USD", **given: Any) -> Entry:
    """Supplies that were paid from checking."""
    value = Decimal(amount)
    return Entry(on, currency, (Line("6300", debit=value), Line("1000", credit=value)), **given)


@dataclass
class Books:
    engine: sa.Engine
    tenant_id: UUID

    def do(self, step: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """A function of the ledger, in a transaction of its own."""
        with self.engine.begin() as connection:
            return step(connection, self.tenant_id, *given, **{"actor": "ann", "at": AT} | named)

    def bank_line(self, minor: int = -1234, *, on: date = ON, description: str = "Stapler") -> UUID:
        """A transaction of the tenant's checking account, as an import leaves it."""
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            of_tenant = {"tenant_id": self.tenant_id}
            account = bank_accounts.c.tenant_id == self.tenant_id
            account_id = connection.scalar(sa.select(bank_accounts.c.id).where(account))
            if account_id is None:
                made = of_tenant | {
                    "id": uuid4(),
                    "name": "Checking",
                    "kind": "checking",
                    "currency": "USD",
                    "account_code": "1000",
                }
                connection.execute(bank_accounts.insert().values(made))
                account_id = made["id"]
            file = of_tenant | {
                "id": uuid4(), "bank_account_id": account_id, "sha256": uuid4().hex, "name": "a.csv", "format": "csv",
                "size_bytes": 1, "imported_by": "ann", "imported_at": AT,
            }  # fmt: skip
            connection.execute(statement_files.insert().values(file))
            line = of_tenant | {
                "id": uuid4(), "bank_account_id": account_id, "content_hash": uuid4().bytes, "post_date": on,
                "amount_minor": minor, "currency": "USD", "description": description, "first_file_id": file["id"],
            }  # fmt: skip
            connection.execute(transactions.insert().values(line))
        return line["id"]

    def posted(self, *entries: Entry) -> list[UUID]:
        ids = [each.id for each in entries]
        self.do(ledger.propose, entries)
        self.do(ledger.approve, ids)
        self.do(ledger.post, ids)
        return ids

    def balances(self, until: date = date(2099, 1, 1)) -> dict[str, Decimal]:
        with self.engine.begin() as connection:
            found = ledger.trial_balance(connection, self.tenant_id, until)
        return {each.code: each.balance for each in found}

    def pinned(self, query: str, **given: Any) -> Sequence[sa.Row[Any]]:
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            result = connection.execute(sa.text(query), {"tenant_id": self.tenant_id} | given)
            return result.all() if result.returns_rows else []


def books(engine: sa.Engine) -> Books:
    slug = f"books-{next(_slugs)}"
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, slug, "USD")
        tenancy.service(connection, tenant_id)
        for code, name, kind in CHART:
            connection.execute(accounts.insert().values(tenant_id=tenant_id, code=code, name=name, type=kind))
    return Books(engine, tenant_id)
