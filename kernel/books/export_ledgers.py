"""Whole ledgers as files: the general ledger, the trial balance, and a Beancount ledger. Each says the same at any time of
the same entries; nothing is marked as handed out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import chain, groupby
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.books import ledger
from kernel.books.export_formats import beancount, cells
from kernel.books.export_formats.entry import Line, Posted, number
from kernel.money import major
from models.spine import tenants
from models.statements import statements

LEDGER_COLUMNS = (
    "Account", "AccountName", "Date", "JournalNumber", "Memo", "Debit", "Credit", "Balance", "Currency",
)  # fmt: skip
TRIAL_COLUMNS = ("Account", "AccountName", "Type", "Currency", "TotalDebits", "TotalCredits", "Balance")
_AT_A_TIME = 10_000  # rows that are held in memory


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What an entry says of an account, and what the account holds after it: debit less credit."""

    entry_id: UUID
    on: date
    memo: str
    debit: Decimal
    credit: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class LedgerAccount:
    """An account in one currency: what it held before the days, and its lines in them, to be read once and in order."""

    code: str
    name: str
    currency: str
    opening: Decimal
    lines: Iterator[LedgerLine]


def ledger_accounts(
    connection: sa.Connection, tenant_id: UUID, first: date, last: date, *, code: str | None = None
) -> Iterator[LedgerAccount]:
    """Every account and currency to which anything was posted until the last day, or only the account of a code."""
    tenancy.service(connection, tenant_id)
    rows = _streamed(connection, "lines_by_account", tenant_id, first=first, last=last, code=code)
    for (of_code, currency), lines in groupby(rows, lambda row: (row.code, row.currency)):
        head = next(lines)
        opening = major(head.opening, currency)
        rest = _running(opening, chain([head], lines))  # noqa: B031 - one group at a time
        yield LedgerAccount(of_code, head.name, currency, opening, rest)


def _running(opening: Decimal, rows: Iterable[sa.Row[Any]]) -> Iterator[LedgerLine]:
    balance = opening
    for row in rows:
        if row.id is None:
            continue
        debit, credit = major(row.debit_minor, row.currency), major(row.credit_minor, row.currency)
        balance += debit - credit
        yield LedgerLine(row.id, row.entry_date, row.line_memo or row.memo, debit, credit, balance)


def general_ledger(
    connection: sa.Connection, tenant_id: UUID, first: date, last: date, *, code: str | None = None
) -> Iterator[str]:
    """CSV: of each account and currency what it held before the days, every line in them, and the balance after it.

    The balance is debit less credit. Pieces of text, to be written one after the other.
    """
    yield _csv([LEDGER_COLUMNS])
    for account in ledger_accounts(connection, tenant_id, first, last, code=code):
        yield _csv(_rows(account))


def trial_balance(connection: sa.Connection, tenant_id: UUID, until: date) -> str:
    """CSV: what was posted to each account up to a day and on it, and for each currency a row TOTALS."""
    found = ledger.trial_balance(connection, tenant_id, until)
    rows: list[Sequence[str]] = [
        (cells.text(each.code), cells.text(each.name), each.type, each.currency, *_amounts(each.debit, each.credit))
        for each in found
    ]  # fmt: skip
    for currency in sorted({each.currency for each in found}):
        of_currency = [each for each in found if each.currency == currency]
        debit, credit = sum(each.debit for each in of_currency), sum(each.credit for each in of_currency)
        rows.append(("TOTALS", "", "", currency, *_amounts(debit, credit)))
    return _csv([TRIAL_COLUMNS, *rows])


def beancount_ledger(connection: sa.Connection, tenant_id: UUID, last: date) -> Iterator[str]:
    """All that was posted up to a day and on it, as Beancount reads it. Pieces of text."""
    tenancy.service(connection, tenant_id)
    tenant = connection.execute(
        sa.select(tenants.c.name, tenants.c.default_currency).where(tenants.c.id == tenant_id)
    ).one()
    given = {"tenant_id": tenant_id, "last": last}
    # Without entries there is no day to open accounts on.
    opened = connection.execute(_sql("first_date"), given).scalar_one() or date.min
    found = connection.execute(_sql("accounts"), given) if opened > date.min else ()
    chart = [beancount.Account(*row) for row in found]
    names = beancount.named(chart)
    yield beancount.header(tenant.name, tenant.default_currency, names, chart, opened)
    replaced = dict(map(tuple, connection.execute(_sql("replaced"), given)))
    rows = _streamed(connection, "posted_lines", tenant_id, last=last)
    yield from beancount.transactions(_entries(tenant_id, rows, replaced), names)


def _rows(account: LedgerAccount) -> Iterator[Sequence[str]]:
    name, currency = cells.text(account.name), account.currency
    if account.opening:
        yield (account.code, name, "", "", "Opening balance", "", "", cells.amount(account.opening), currency)
    for line in account.lines:
        amounts = map(cells.amount, (line.debit, line.credit, line.balance))
        yield (
            account.code, name, line.on.isoformat(), number(line.entry_id), cells.text(line.memo), *amounts, currency,
        )  # fmt: skip


def _entries(tenant_id: UUID, rows: Iterator[sa.Row[Any]], replaced: Mapping[UUID, UUID]) -> Iterator[Posted]:
    for _, of_entry in groupby(rows, lambda row: row.id):
        first, *others = of_entry
        lines = tuple(
            Line(row.account_code, "", row.debit_minor, row.credit_minor, row.line_memo)
            for row in (first, *others)
        )
        yield Posted(
            tenant_id, first.id, first.entry_date, first.currency, first.memo, lines,
            first.reverses_id, replaced.get(first.id),
        )  # fmt: skip


def _amounts(debit: Decimal, credit: Decimal) -> tuple[str, str, str]:
    return cells.amount(debit), cells.amount(credit), cells.amount(debit - credit)


def _csv(rows: Any) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerows(rows)
    return written.getvalue()


def _streamed(connection: sa.Connection, name: str, tenant_id: UUID, **given: Any) -> Iterator[sa.Row[Any]]:
    options = {"yield_per": _AT_A_TIME}
    with connection.execute(_sql(name), {"tenant_id": tenant_id} | given, execution_options=options) as found:
        yield from found


def _sql(name: str) -> sa.TextClause:
    return statements("books_export")[name]
