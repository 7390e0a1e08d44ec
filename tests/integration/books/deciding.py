"""A tenant whose bank lines are decided about: people, lines of vendors, what they said, a certificate, and P3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from kernel import members, tenancy
from kernel.books import canary, decide, journal, labels, settings, transfers
from kernel.books.contract import BankLine, Scored, Sure
from kernel.books.labels import Label
from models.books import accounts, bank_accounts
from models.books_learning import certificates
from models.books_lines import statement_files, transactions
from models.books_release import books_stages, canaries
from tests.integration.books import bookkeeping
from tests.integration.books.bookkeeping import Books

AT = datetime(2026, 3, 1, 10, tzinfo=UTC)
ON = date(2026, 2, 10)
PEOPLE = {"ann": "approver", "bob": "owner", "carl": "member"}


def as_it_is(lines: Sequence[BankLine], scored: Sequence[Scored]) -> list[Sure]:
    """A calibrator that finds raw probabilities right, and stands behind no second stage."""
    return [Sure(each.raw_p) for each in scored]


@dataclass
class Deciding(Books):
    people: dict[str, UUID]
    bank_ids: dict[str, UUID]

    def run(self, step: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """A function of the books, in a transaction of its own."""
        with self.engine.begin() as connection:
            return step(connection, self.tenant_id, *given, **named)

    def lines(
        self, *amounts: int, vendor: str = "acme", on: date = ON, code: str = "1000", text: str | None = None,
        currency: str = "USD",
    ) -> list[UUID]:  # fmt: skip
        """Bank lines of a vendor as an import leaves them, by amounts in minor units."""
        file_id = uuid4()
        ids = [uuid4() for _ in amounts]
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            of_tenant = {"tenant_id": self.tenant_id, "bank_account_id": self.bank_ids[code]}
            connection.execute(
                statement_files.insert().values(
                    of_tenant
                    | {
                        "id": file_id,
                        "sha256": file_id.hex,
                        "name": "a.csv",
                        "format": "csv",
                        "size_bytes": 1,
                        "imported_by": "ann",
                        "imported_at": AT,
                    }
                )
            )
            connection.execute(
                transactions.insert(),
                [
                    of_tenant
                    | {"id": each, "content_hash": each.bytes, "post_date": on, "amount_minor": minor,
                       "currency": currency, "description": text or vendor, "vendor": vendor, "first_file_id": file_id}
                    for each, minor in zip(ids, amounts, strict=True)
                ],
            )  # fmt: skip
        return ids

    def said(
        self, ids: Sequence[UUID], account: str = "6300", *, by: str = "ann", at: datetime = AT - timedelta(days=30)
    ) -> None:  # fmt: skip
        self.run(labels.write, [Label(each, account) for each in ids], source="booked", by=by, at=at)

    def known(
        self, account: str = "6300", *, vendor: str = "acme", minor: int = -1000, times: int = 6
    ) -> None:
        """A vendor whose earlier lines people gave to an account."""
        self.said(self.lines(*[minor] * times, vendor=vendor, on=ON - timedelta(days=40)), account)

    def read(self, ids: Sequence[UUID]) -> list[BankLine]:
        return self.run(transfers.read, ids)

    def decide(
        self, ids: Sequence[UUID], account: str | None = "6300", p: float = 0.97, **given: Any
    ) -> decide.Decided:  # fmt: skip
        """Decides about lines of which a model says the same."""
        given = {"run_id": "run", "at": AT, "surety": as_it_is, "calibrator_version": "c1"} | given
        found = self.read(ids)
        modelled = given.pop("modelled", None) or [scored(line.id, account, p) for line in found]
        return self.run(decide.decide, found, modelled, **given)

    def book(self, at: datetime = AT) -> journal.Booked:
        return self.run(journal.book, at=at)

    def decision(self, txn_id: UUID) -> Any:
        query = "select * from books.decisions where txn_id = :id order by number desc limit 1"
        (row,) = self.pinned(query, id=txn_id)
        return row

    def certify(self, threshold: str | None = "0.95", at: datetime = AT - timedelta(days=1)) -> None:
        self._insert(
            certificates, number=self._count(certificates) + 1, certified_at=at, expires_at=at + timedelta(days=40),
            threshold=threshold and Decimal(threshold), target=Decimal("0.94"), checked_count=300, right_count=290,
            reason=None if threshold else "too few were checked",
        )  # fmt: skip

    def enable(self, percent: int = 100, at: datetime = AT - timedelta(hours=1), days: int = 30) -> None:
        """P3 as an approval leaves it, with so large a part of lines posted."""
        self.run(settings.change, {"autopost_requested": True}, author="bob", reason="asked", at=at)
        self._insert(
            books_stages, number=self._count(books_stages) + 1, stage="P3", at=at, actor=str(self.people["bob"]),
            reason="earned", evidence_hash="0", approved_by=str(self.people["bob"]), expires_at=at + timedelta(days=days),
        )  # fmt: skip
        self.run(
            canary.start, "autopost", champion="review", challenger="stage", by=str(self.people["bob"]), at=at
        )
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            connection.execute(canaries.update().values(percent=percent))

    def entries(self) -> list[Any]:
        return list(
            self.pinned(
                "select status, is_live, approved_by, source_txn_id, id from books.journal_entries order by created_at, id"
            )
        )

    def _count(self, table: sa.Table) -> int:
        return self.pinned(f"select count(*) as n from {table.fullname}")[0].n

    def _insert(self, table: sa.Table, **row: Any) -> None:
        with self.engine.begin() as connection:
            tenancy.service(connection, self.tenant_id)
            connection.execute(table.insert().values(row | {"tenant_id": self.tenant_id}))


def scored(txn_id: UUID, account: str | None, p: float) -> Scored:
    top = ((account, p), ("4000", 1 - p)) if account else ()
    return Scored(txn_id, account, p if account else 0.0, top, False, "f" * 16, "m1", {"memory": 0.123456789})


def deciding(engine: sa.Engine) -> Deciding:
    made = bookkeeping.books(engine)
    people = {name: uuid4() for name in PEOPLE}
    bank_ids = {"1000": uuid4(), "2100": uuid4(), "1010": uuid4()}
    with engine.begin() as connection:
        tenancy.service(connection, made.tenant_id)
        for code, name, kind in (("1010", "Savings", "Asset"), ("6400", "Meals", "Expense")):
            connection.execute(
                accounts.insert().values(tenant_id=made.tenant_id, code=code, name=name, type=kind)
            )
        for name, role in PEOPLE.items():
            members.add(connection, made.tenant_id, people[name], name, role)
        for code, kind in (("1000", "checking"), ("2100", "card"), ("1010", "savings")):
            row = {
                "tenant_id": made.tenant_id, "id": bank_ids[code], "name": code, "kind": kind, "currency": "USD",
                "account_code": code,
            }  # fmt: skip
            connection.execute(bank_accounts.insert().values(row))
    return Deciding(engine, made.tenant_id, people, bank_ids)


def certified(engine: sa.Engine) -> Deciding:
    """One whose vendor people have answered for before, under a certificate that holds."""
    made = deciding(engine)
    made.known()
    made.certify()
    return made
