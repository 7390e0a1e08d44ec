"""What it means that a line is booked is said once: a person approved the entry of it, or of the transfer it is a side of."""

from __future__ import annotations

from alembic import op

from models import rls

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# A proposal books nothing yet, and what was reversed no longer. As whoever asks: the rows they may see.
_BOOKED_LINES = """
create view books.booked_lines with (security_invoker = true) as
select entries.tenant_id, entries.source_txn_id as txn_id, entries.id as entry_id
from books.journal_entries as entries
where entries.source_txn_id is not null and entries.is_live and entries.status in ('approved', 'posted')
union all
select transfers.tenant_id, transfers.txn_id, entries.id
from books.transfers as transfers
inner join books.journal_entries as entries
    on entries.tenant_id = transfers.tenant_id and entries.id = transfers.entry_id
where entries.is_live and entries.status in ('approved', 'posted')
"""


def upgrade() -> None:
    op.execute(_BOOKED_LINES)
    op.execute(f"grant select on books.booked_lines to {', '.join(rls.ROLES)}")
