"""Who closed a ticket or dropped a rejected row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rejected_rows", sa.Column("resolved_by", sa.Text()), schema="ops")
    op.add_column("action_tickets", sa.Column("resolved_by", sa.Text()), schema="spine")
    op.add_column("action_tickets", sa.Column("resolved_at", sa.DateTime(timezone=True)), schema="spine")
    op.add_column("action_tickets", sa.Column("resolution", sa.Text()), schema="spine")
