"""What the moment of sending asks: whether the account is still the approved one, and how often a person was contacted.

Each is one rule, asked by launches, previews and workers alike.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls
from models.migrations.rewriting import rewrite

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_CONTENT_HASH = """
create function delivery.content_hash(content delivery.contents, account delivery.provider_accounts) returns text
language sql immutable parallel safe
return delivery.item_key(
    content.channel, account.id::text, coalesce(account.sender, ''), coalesce(account.config ->> 'unsubscribe_base', ''),
    content.subject, content.body, coalesce(content.plain_body, '')
)
"""

# A message in doubt may have reached the person, and one in a call may do so any moment: both count whenever they began.
# One query that asks nothing else, so that it is planned within whatever asks it.
_CONTACTS = """
create function delivery.contacts(of_tenant uuid, on_channel text, to_address text, since timestamptz) returns setof uuid
language sql stable parallel safe as $$
    select id from delivery.channel_outbox
    where tenant_id = of_tenant and channel = on_channel and address = to_address and (
        status in ('sent', 'called', 'posted') and settled_at > since or status in ('dispatching', 'unknown')
    )
$$
"""

# What the functions said, and what they say now.
_REPLACED = {
    "delivery.audience(uuid, uuid, uuid, text, timestamptz)": {
        "select from delivery.channel_outbox as earlier\n"
        "                        where earlier.tenant_id = of_tenant and earlier.channel = on_channel\n"
        "                            and earlier.address = numbered.address and earlier.status in ('sent', 'called', 'posted')\n"
        "                            and earlier.settled_at > at - make_interval(days => policy.person_cap_days)\n": (
            "select from delivery.contacts(\n"
            "                            of_tenant, on_channel, numbered.address, at - make_interval(days => policy.person_cap_days)\n"
            "                        )\n"
        ),
    },
    "delivery.check_campaign_launch_prerequisites(uuid, uuid, text, integer, timestamptz)": {
        "delivery.item_key(\n"
        "            content.channel, content.account_id::text, coalesce(account.sender, ''), coalesce(account.config ->> 'unsubscribe_base', ''),\n"
        "            content.subject, content.body, coalesce(content.plain_body, ''))": (
            "delivery.content_hash(content, account)"
        ),
    },
    # Whatever failed a job, three attempts within three seconds outlast nothing.
    "delivery.complete_job(uuid, boolean, text, bigint, timestamptz)": {
        "least(power(2, attempts), 60)": "least(10 * power(6, attempts), 60)",
    },
}


def upgrade() -> None:
    op.create_index(
        "job_queue_dead_idx",
        "job_queue",
        ["tenant_id", "id"],
        unique=False,
        schema="delivery",
        postgresql_where=sa.text("status = 'dead'"),
    )
    op.execute(_CONTENT_HASH)
    op.execute(_CONTACTS)
    for name, replaced in _REPLACED.items():
        rewrite(name, replaced)
    op.execute("revoke execute on all functions in schema delivery from public")
    op.execute(f"grant execute on all functions in schema delivery to {rls.SERVICE}")
