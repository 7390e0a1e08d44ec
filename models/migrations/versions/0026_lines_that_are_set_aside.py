"""Bank lines may be set aside by a person: they are settled as those are that an entry books."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls
from models.base import Timestamp, Uuid

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

# A proposal settles nothing yet, and what was reversed no longer. As whoever asks: the rows they may see.
_SETTLED_LINES = """
create view books.settled_lines with (security_invoker = true) as
select entries.tenant_id, entries.source_txn_id as txn_id, entries.id as entry_id
from books.journal_entries as entries
where entries.source_txn_id is not null and entries.is_live and entries.status in ('approved', 'posted')
union all
select transfers.tenant_id, transfers.txn_id, entries.id
from books.transfers as transfers
inner join books.journal_entries as entries
    on entries.tenant_id = transfers.tenant_id and entries.id = transfers.entry_id
where entries.is_live and entries.status in ('approved', 'posted')
union all
select aside.tenant_id, aside.txn_id, null
from books.set_aside_lines as aside
"""


def upgrade() -> None:
    op.create_table(
        "set_aside_lines",
        sa.Column("tenant_id", Uuid, nullable=False),
        sa.Column("txn_id", Uuid, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("set_aside_by", sa.Text, nullable=False),
        sa.Column("set_aside_at", Timestamp, nullable=False),
        sa.CheckConstraint("btrim(why) <> ''", name=op.f("set_aside_lines_why_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "txn_id"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("set_aside_lines_tenant_id_txn_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("set_aside_lines_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "txn_id", name=op.f("set_aside_lines_pkey")),
        schema="books",
    )
    for statement in rls.protect("books.set_aside_lines"):
        op.execute(statement)
    op.execute("drop view books.booked_lines")
    op.execute(_SETTLED_LINES)
    op.execute(f"grant select on books.settled_lines to {', '.join(rls.ROLES)}")
