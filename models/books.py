"""Books: a tenant's chart of accounts, its bank lines, and a journal in which every posted entry balances.

Money in the journal is in minor units of the entry's currency: whole numbers, so that a sum is equal or it is not.
"""

from __future__ import annotations

import sqlalchemy as sa

import models.books_lines  # noqa: F401 - an entry refers to the bank line that it books
from models.base import (
    Timestamp,
    Uuid,
    audit,
    check,
    created_at,
    currency,
    one_of,
    row_id,
    table,
    tenant_id,
    updated_at,
)

ACCOUNT_TYPES = ("Asset", "Liability", "Equity", "Revenue", "Expense")
BANK_ACCOUNT_KINDS = ("checking", "savings", "card", "trust", "cash")
# A proposal may still change; what was approved and posted does not: a posted entry is reversed, not edited.
ENTRY_STATUSES = ("proposed", "approved", "posted", "rejected")
PERIOD_STATES = ("OPEN", "LOCKED")
MONTH = r"'^\d{4}-(0[1-9]|1[0-2])$'"
CODE = "'^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$'"


def _account(column: str) -> list[sa.SchemaItem]:
    return [
        sa.Column(column, sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["tenant_id", column], ["books.accounts.tenant_id", "books.accounts.code"]),
    ]


# The chart of accounts. `category` is what rules and models mean by an account, whatever its code is here.
accounts = table(
    "books",
    "accounts",
    tenant_id(),
    sa.Column("code", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    one_of("type", ACCOUNT_TYPES, nullable=False),
    sa.Column("category", sa.Text),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    created_at(),
    check(f"code ~ {CODE}", "code"),
    check("btrim(name) <> ''", "name"),
)

# The accounts that statements come of. What a line's sign means follows from the account it is mapped to.
bank_accounts = table(
    "books",
    "bank_accounts",
    tenant_id(),
    row_id(),
    sa.Column("name", sa.Text, nullable=False),
    one_of("kind", BANK_ACCOUNT_KINDS, nullable=False),
    currency(default=None),
    _account("account_code"),
    created_at(),
    check("btrim(name) <> ''", "name"),
    sa.UniqueConstraint("tenant_id", "name"),
)

# Months that may be posted into. Whoever posts holds the month's row, whoever locks it waits for them.
periods = table(
    "books",
    "periods",
    tenant_id(),
    sa.Column("year_month", sa.Text, primary_key=True),
    one_of("state", PERIOD_STATES, default="OPEN", nullable=False),
    sa.Column("changed_by", sa.Text),
    updated_at(),
    check(f"year_month ~ {MONTH}", "year_month"),
)

journal_entries = table(
    "books",
    "journal_entries",
    tenant_id(),
    row_id(),
    sa.Column("entry_date", sa.Date, nullable=False),
    currency(default=None),
    sa.Column("memo", sa.Text, nullable=False, server_default=""),
    one_of("status", ENTRY_STATUSES, default="proposed", nullable=False),
    # The bank line that it books. Of a line one entry lives: neither rejected nor reversed.
    sa.Column("source_txn_id", Uuid),
    sa.Column("is_live", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("reverses_id", Uuid),
    sa.Column("proposed_by", sa.Text, nullable=False),
    sa.Column("approved_by", sa.Text),
    sa.Column("posted_by", sa.Text),
    sa.Column("posted_at", Timestamp),
    created_at(),
    updated_at(),
    sa.ForeignKeyConstraint(
        ["tenant_id", "reverses_id"], ["books.journal_entries.tenant_id", "books.journal_entries.id"]
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "source_txn_id"], ["books.transactions.tenant_id", "books.transactions.id"]
    ),
    check("(status = 'posted') = (posted_at is not null)", "posted_at"),
    check("status not in ('approved', 'posted') or approved_by is not null", "approved_by"),
    check("status <> 'rejected' or not is_live", "is_live"),
    sa.Index(
        "journal_entries_source_key", "source_txn_id", "tenant_id",
        unique=True, postgresql_where=sa.text("is_live and source_txn_id is not null"),
    ),
    sa.Index(
        "journal_entries_reverses_key", "reverses_id", "tenant_id",
        unique=True, postgresql_where=sa.text("reverses_id is not null and status <> 'rejected'"),
    ),
    sa.Index("journal_entries_date_idx", "tenant_id", "entry_date"),
)  # fmt: skip

journal_lines = table(
    "books",
    "journal_lines",
    tenant_id(),
    sa.Column("entry_id", Uuid, primary_key=True),
    sa.Column("line_no", sa.Integer, primary_key=True),
    _account("account_code"),
    sa.Column("debit_minor", sa.BigInteger, nullable=False),
    sa.Column("credit_minor", sa.BigInteger, nullable=False),
    sa.Column("memo", sa.Text),
    sa.ForeignKeyConstraint(
        ["tenant_id", "entry_id"], ["books.journal_entries.tenant_id", "books.journal_entries.id"], ondelete="CASCADE"
    ),
    check("line_no > 0", "line_no"),
    check("debit_minor >= 0 and credit_minor >= 0 and (debit_minor > 0) <> (credit_minor > 0)", "one_side"),
    sa.Index("journal_lines_account_idx", "tenant_id", "account_code"),
)  # fmt: skip

# The other bank line of an entry that moves money between two of the tenant's own accounts: it is booked by the entry as
# long as that lives, and is the source of none.
transfers = table(
    "books",
    "transfers",
    tenant_id(),
    sa.Column("entry_id", Uuid, primary_key=True),
    sa.Column("txn_id", Uuid, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "entry_id"], ["books.journal_entries.tenant_id", "books.journal_entries.id"], ondelete="CASCADE"
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "txn_id"], ["books.transactions.tenant_id", "books.transactions.id"], ondelete="CASCADE"
    ),
    sa.Index("transfers_txn_idx", "tenant_id", "txn_id"),
)  # fmt: skip

# Lines that stand for no movement of their account: told twice in other words, or imported into another account. A person
# says so, and may take it back; nothing books them as long as they are here.
set_aside_lines = table(
    "books",
    "set_aside_lines",
    tenant_id(),
    sa.Column("txn_id", Uuid, primary_key=True),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("set_aside_by", sa.Text, nullable=False),
    sa.Column("set_aside_at", Timestamp, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "txn_id"], ["books.transactions.tenant_id", "books.transactions.id"], ondelete="CASCADE"
    ),
    check("btrim(why) <> ''", "why"),
)

books_audit = audit("books")
