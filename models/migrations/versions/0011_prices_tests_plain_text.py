"""What a message costs, addresses that tests go to, the plain text beside HTML, and one rule for what an address is.

A content that was written before is another one by its new hash: it is written and approved anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls
from models.migrations.rewriting import rewrite

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# What a keyboard for wide letters writes is the same address, and so is what was copied with a space of no width.
# Almost all are ASCII, and that is cheap to see.
_LETTERS = """
create function delivery.plain_letters(written text) returns text
language sql immutable parallel safe as $$
    select case when octet_length(written) = length(written) then written
        else regexp_replace(normalize(written, NFKC), '[\\u200b\\u2060\\ufeff]', '', 'g') end
$$
"""
_ADDRESS = """
create function delivery.normal_address(address text) returns text
language sql immutable parallel safe as $$
    select nullif(case
        when position('@' in delivery.plain_letters(address)) > 0
            then lower(regexp_replace(delivery.plain_letters(address), '^\\s+|\\s+$', '', 'g'))
        else regexp_replace(regexp_replace(delivery.plain_letters(address), '[\\s().-]', '', 'g'), '^00', '+')
    end, '')
$$
"""

# What the functions of 0008 said, and what they say now. Materialized, an address is worked out once and not wherever
# it is asked for.
_REPLACED = {
    "delivery.audience(uuid, uuid, uuid, text, timestamptz)": {
        "people as (\n": "people as materialized (\n",
        "delivery.normal_address(on_channel, contacts.email, contacts.phone)": (
            "delivery.normal_address(case on_channel when 'email' then contacts.email else contacts.phone end)"
        ),
    },
    "delivery.check_campaign_launch_prerequisites(uuid, uuid, text, integer, timestamptz)": {
        "or position('{{unsubscribe_url}}' in content.body) > 0 and coalesce": (
            "or position('{{unsubscribe_url}}' in content.body) > 0\n"
            "            and position('{{unsubscribe_url}}' in coalesce(content.plain_body, content.body)) > 0\n"
            "            and coalesce"
        ),
        "'the content lacks {{unsubscribe_url}}, or its account unsubscribe_base: the rules of the channel ask for both'": (
            "'the content or its plain text lacks {{unsubscribe_url}}, or its account unsubscribe_base: "
            "the rules of the channel ask for them'"
        ),
        "content.subject, content.body)": "content.subject, content.body, coalesce(content.plain_body, ''))",
    },
}


def upgrade() -> None:
    _add_columns()
    op.create_table(
        "seeds",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("channel in ('email', 'sms', 'voice')", name=op.f("seeds_channel_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("seeds_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "channel", "address", name=op.f("seeds_pkey")),
        schema="delivery",
    )
    for statement in rls.protect("delivery.seeds"):
        op.execute(statement)
    op.execute("drop function delivery.normal_address(text, text, text)")
    op.execute(_LETTERS)
    op.execute(_ADDRESS)
    for name, replaced in _REPLACED.items():
        rewrite(name, replaced)
    op.execute("revoke execute on all functions in schema delivery from public")
    op.execute(f"grant execute on all functions in schema delivery to {rls.SERVICE}")


def _add_columns() -> None:
    for column in (sa.Column("unit_price", sa.Numeric()), sa.Column("price_currency", sa.Text())):
        op.add_column("provider_accounts", column, schema="delivery")
    op.create_check_constraint(
        op.f("provider_accounts_unit_price_check"), "provider_accounts", "unit_price >= 0", schema="delivery"
    )
    op.create_check_constraint(
        op.f("provider_accounts_price_currency_check"),
        "provider_accounts",
        "(unit_price is null) = (price_currency is null) and price_currency ~ '^[A-Z]{3}$'",
        schema="delivery",
    )
    op.add_column("contents", sa.Column("plain_body", sa.Text()), schema="delivery")
