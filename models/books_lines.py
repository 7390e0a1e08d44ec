"""Bank lines: statements as they came, the transactions they tell of, what was refused, and what was matched.

Amounts are in minor units of the line's currency, as the holder of the account sees them: what leaves it is negative,
a card's charges too.
"""

from __future__ import annotations

import sqlalchemy as sa

from models.base import (
    Timestamp,
    Uuid,
    check,
    created_at,
    currency,
    empty_json,
    one_of,
    reference,
    row_id,
    table,
    tenant_id,
)

FILE_FORMATS = ("csv", "ofx", "camt053", "mt940")
# Whether opening balance, lines and closing balance of a statement agree to the cent; it may name no balances.
TIE_OUTS = ("tied", "off", "unknown")
MATCH_KINDS = ("link", "exact", "heuristic", "allocation")

# A file of one bank account; the same bytes, read in the same way, change nothing again. `mapping` says how they were
# read, and its hash is empty where the file said it by itself.
statement_files = table(
    "books",
    "statement_files",
    tenant_id(),
    row_id(),
    reference("bank_account_id", "books.bank_accounts", required=True),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    one_of("format", FILE_FORMATS, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    empty_json("mapping"),
    sa.Column("mapping_sha256", sa.Text, nullable=False, server_default=""),
    sa.Column("first_date", sa.Date),
    sa.Column("last_date", sa.Date),
    sa.Column("line_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("new_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("known_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("rejected_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("opening_minor", sa.BigInteger),
    sa.Column("closing_minor", sa.BigInteger),
    one_of("tie_out", TIE_OUTS, default="unknown", nullable=False),
    sa.Column("off_minor", sa.BigInteger),
    sa.Column("imported_by", sa.Text, nullable=False),
    sa.Column("imported_at", Timestamp, nullable=False),
    sa.UniqueConstraint("tenant_id", "bank_account_id", "sha256", "mapping_sha256"),
    sa.UniqueConstraint("tenant_id", "id", "bank_account_id"),
    check("(tie_out = 'off') = (off_minor is not null)", "off_minor"),
)

# A line of an account, once, however many files tell of it. `content_hash` is over what the bank says of it, its own id
# included; of lines that are equal in one file, `occurrence` counts. The id follows from these and the account, so that
# the key keeps a line from being stored twice. `vendor` is the counterparty's normal form.
transactions = table(
    "books",
    "transactions",
    sa.Column("tenant_id", Uuid, primary_key=True),
    row_id(),
    sa.Column("bank_account_id", Uuid, nullable=False),
    sa.Column("content_hash", sa.LargeBinary, nullable=False),
    sa.Column("occurrence", sa.Integer, nullable=False, server_default="1"),
    sa.Column("bank_ref", sa.Text),
    sa.Column("post_date", sa.Date, nullable=False),
    sa.Column("value_date", sa.Date),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    currency(default=None),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("counterparty", sa.Text, nullable=False, server_default=""),
    sa.Column("vendor", sa.Text, nullable=False, server_default=""),
    sa.Column("reference", sa.Text, nullable=False, server_default=""),
    sa.Column("bank_category", sa.Text, nullable=False, server_default=""),
    sa.Column("card", sa.Text, nullable=False, server_default=""),
    empty_json("raw"),
    sa.Column("first_file_id", Uuid, nullable=False),
    sa.Column("first_line_no", sa.Integer),
    # Another line that it may be, told otherwise: a person says whether it is.
    sa.Column("suspected_of", Uuid),
    created_at(),
    # The one look-up that a row costs; the file is of the tenant and the account.
    sa.ForeignKeyConstraint(
        ["tenant_id", "first_file_id", "bank_account_id"],
        [f"books.statement_files.{name}" for name in ("tenant_id", "id", "bank_account_id")], ondelete="CASCADE",
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "suspected_of"], ["books.transactions.tenant_id", "books.transactions.id"]
    ),
    check("amount_minor <> 0", "amount_minor"),
    check("occurrence > 0", "occurrence"),
    sa.Index("transactions_date_idx", "tenant_id", "bank_account_id", "post_date"),
    sa.Index("transactions_vendor_idx", "tenant_id", "vendor", "post_date"),
    sa.Index(
        "transactions_bank_ref_idx", "tenant_id", "bank_account_id", "bank_ref",
        postgresql_where=sa.text("bank_ref is not null"),
    ),
)  # fmt: skip

# Which lines told of a transaction again, after the one by which it came.
sightings = table(
    "books",
    "sightings",
    sa.Column("tenant_id", Uuid, primary_key=True),
    sa.Column("file_id", Uuid, primary_key=True),
    sa.Column("line_no", sa.Integer, primary_key=True),
    sa.Column("txn_id", Uuid, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "file_id"], ["books.statement_files.tenant_id", "books.statement_files.id"], ondelete="CASCADE"
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "txn_id"], ["books.transactions.tenant_id", "books.transactions.id"], ondelete="CASCADE"
    ),
    sa.Index("sightings_txn_idx", "tenant_id", "txn_id"),
)  # fmt: skip

# Lines that are no transaction, with the reason, as they came: to be repaired and handed over again.
rejected_lines = table(
    "books",
    "rejected_lines",
    tenant_id(),
    sa.Column("file_id", Uuid, primary_key=True),
    sa.Column("line_no", sa.Integer, primary_key=True),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("raw", sa.Text, nullable=False),
    sa.ForeignKeyConstraint(
        ["tenant_id", "file_id"], ["books.statement_files.tenant_id", "books.statement_files.id"], ondelete="CASCADE"
    ),
)  # fmt: skip

# What of a bank line stands for what of an entry: one to one, or several lines of one kind with what each pays.
reconciliation_matches = table(
    "books",
    "reconciliation_matches",
    tenant_id(),
    sa.Column("txn_id", Uuid, primary_key=True),
    sa.Column("entry_id", Uuid, primary_key=True),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    one_of("kind", MATCH_KINDS, nullable=False),
    sa.Column("score", sa.Numeric(4, 3), nullable=False),
    sa.Column("matched_by", sa.Text, nullable=False),
    sa.Column("matched_at", Timestamp, nullable=False),
    empty_json("detail"),
    sa.ForeignKeyConstraint(
        ["tenant_id", "txn_id"], ["books.transactions.tenant_id", "books.transactions.id"], ondelete="CASCADE"
    ),
    sa.ForeignKeyConstraint(
        ["tenant_id", "entry_id"], ["books.journal_entries.tenant_id", "books.journal_entries.id"], ondelete="CASCADE"
    ),
    check("amount_minor <> 0", "amount_minor"),
    check("score > 0 and score <= 1", "score"),
    sa.Index("reconciliation_matches_entry_idx", "tenant_id", "entry_id"),
)  # fmt: skip
