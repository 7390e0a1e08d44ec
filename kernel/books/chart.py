"""Charts of accounts that a tenant begins with, and what rules and models mean by each account.

A category names one account at most of a chart; what a category is found by stands in the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from kernel import tenancy
from kernel.errors import RefusedError
from models.books import accounts, bank_accounts

Type = Literal["Asset", "Liability", "Equity", "Revenue", "Expense"]


@dataclass(frozen=True, slots=True)
class Account:
    code: str
    name: str
    type: Type
    category: str


@dataclass(frozen=True, slots=True)
class Bank:
    """An account that statements come of, and which account of the chart it is."""

    name: str
    kind: Literal["checking", "card", "trust"]
    code: str


@dataclass(frozen=True, slots=True)
class Preset:
    accounts: tuple[Account, ...]
    banks: tuple[Bank, ...]


# Every chart has them: what is on its way between own accounts, what nobody can tell yet, and what nobody has sorted.
MANDATORY = (
    Account("1900", "Clearing", "Asset", "transfer"),
    Account("1990", "Suspense", "Asset", "suspense"),
    Account("9000", "Uncategorized", "Expense", "uncategorized"),
)

PRESETS = {
    "standard_small_business": Preset(
        (
            Account("1000", "Checking Account", "Asset", "bank"),
            Account("1200", "Accounts Receivable", "Asset", "accounts_receivable"),
            Account("1500", "Inventory", "Asset", "inventory"),
            Account("2000", "Accounts Payable", "Liability", "accounts_payable"),
            Account("2100", "Credit Card", "Liability", "credit_card"),
            Account("3000", "Owner's Equity", "Equity", "equity"),
            Account("4000", "Sales Revenue", "Revenue", "sales"),
            Account("5000", "Cost of Goods Sold", "Expense", "cost_of_goods"),
            Account("6000", "Operating Expenses", "Expense", "operating_expenses"),
            Account("6100", "Rent", "Expense", "rent"),
            Account("6200", "Utilities", "Expense", "utilities"),
            Account("6300", "Office Supplies", "Expense", "office_supplies"),
            Account("7000", "Other Income", "Revenue", "other_income"),
            Account("8000", "Other Expenses", "Expense", "other_expenses"),
        ),
        (Bank("Checking Account", "checking", "1000"), Bank("Credit Card", "card", "2100")),
    ),
    "standard_professional_services": Preset(
        (
            Account("1000", "Operating Account", "Asset", "bank"),
            Account("1050", "Payroll Account", "Asset", "payroll_bank"),
            Account("1200", "Accounts Receivable", "Asset", "accounts_receivable"),
            Account("1300", "Unbilled Receivables", "Asset", "unbilled_receivables"),
            Account("2000", "Accounts Payable", "Liability", "accounts_payable"),
            Account("2100", "Accrued Expenses", "Liability", "accrued_expenses"),
            Account("3000", "Partner Capital", "Equity", "equity"),
            Account("4000", "Professional Fees", "Revenue", "sales"),
            Account("4100", "Consulting Revenue", "Revenue", "consulting"),
            Account("5000", "Subcontractor Costs", "Expense", "contractors"),
            Account("6000", "Salaries & Wages", "Expense", "payroll"),
            Account("6100", "Payroll Taxes", "Expense", "taxes"),
            Account("6200", "Professional Development", "Expense", "training"),
            Account("6300", "Technology & Software", "Expense", "software"),
        ),
        (Bank("Operating Account", "checking", "1000"), Bank("Payroll Account", "checking", "1050")),
    ),
    "gaap_accounting_firm": Preset(
        (
            Account("1010", "Operating Cash", "Asset", "bank"),
            Account("1020", "Client Trust Account", "Asset", "trust"),
            Account("1200", "Accounts Receivable", "Asset", "accounts_receivable"),
            Account("1210", "Unbilled Time & Expenses", "Asset", "unbilled_receivables"),
            Account("1500", "Prepaid Expenses", "Asset", "prepaid_expenses"),
            Account("1700", "Fixed Assets", "Asset", "fixed_assets"),
            Account("2000", "Accounts Payable", "Liability", "accounts_payable"),
            Account("2100", "Accrued Liabilities", "Liability", "accrued_expenses"),
            Account("2200", "Deferred Revenue", "Liability", "deferred_revenue"),
            Account("3000", "Partner Equity", "Equity", "equity"),
            Account("3100", "Retained Earnings", "Equity", "retained_earnings"),
            Account("4000", "Audit & Assurance Fees", "Revenue", "sales"),
            Account("4100", "Tax Services", "Revenue", "tax_services"),
            Account("4200", "Advisory Services", "Revenue", "consulting"),
            Account("5000", "Professional Staff Costs", "Expense", "payroll"),
            Account("6000", "Partner Compensation", "Expense", "partner_compensation"),
            Account("6100", "Occupancy Costs", "Expense", "rent"),
            Account("6200", "Professional Liability Insurance", "Expense", "insurance"),
            Account("6300", "Continuing Education", "Expense", "training"),
        ),
        (Bank("Operating Cash", "checking", "1010"), Bank("Client Trust Account", "trust", "1020")),
    ),
}  # fmt: skip


def load(connection: sa.Connection, tenant_id: UUID, preset: str, currency: str) -> int:
    """Gives a tenant the preset's accounts, the mandatory ones and bank accounts; how many accounts there are then.

    What it has stays as it is. Raises RefusedError for an unknown preset.
    """
    if preset not in PRESETS:
        raise RefusedError(f"chart of accounts {preset!r} is unknown: use {', '.join(PRESETS)}")
    tenancy.service(connection, tenant_id)
    chosen = PRESETS[preset]
    rows = [
        {"tenant_id": tenant_id, "code": each.code, "name": each.name, "type": each.type, "category": each.category}
        for each in (*chosen.accounts, *MANDATORY)
    ]  # fmt: skip
    connection.execute(pg.insert(accounts).on_conflict_do_nothing(), rows)
    banks = [
        {"tenant_id": tenant_id, "name": each.name, "kind": each.kind, "currency": currency, "account_code": each.code}
        for each in chosen.banks
    ]  # fmt: skip
    connection.execute(pg.insert(bank_accounts).on_conflict_do_nothing(), banks)
    counted = sa.select(sa.func.count()).select_from(accounts).where(accounts.c.tenant_id == tenant_id)
    return connection.execute(counted).scalar_one()
