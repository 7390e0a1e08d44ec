"""One address for all ways to write it: without what nobody sees, without the nought that is dialled at home alone."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# What has no width and no ink goes first: between two letters it would keep them from becoming one. Almost all addresses
# are ASCII, and that is cheap to see.
_LETTERS = """
create or replace function delivery.plain_letters(written text) returns text
language sql immutable parallel safe as $$
    select case when octet_length(written) = length(written) then written
        else normalize(regexp_replace(written, '[\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]', '', 'g'), NFKC) end
$$
"""
# Small letters may go together where the capital ones did not. Italy (39) dials its noughts from abroad too.
_ADDRESS = """
create or replace function delivery.normal_address(address text) returns text
language sql immutable parallel safe as $$
    select nullif(delivery.plain_letters(case
        when position('@' in delivery.plain_letters(address)) > 0
            then lower(regexp_replace(delivery.plain_letters(address), '^\\s+|\\s+$', '', 'g'))
        else regexp_replace(regexp_replace(regexp_replace(
            regexp_replace(delivery.plain_letters(address), '[\\s.-]', '', 'g'),
            '^\\(?(\\+|00)\\(?(?!39)([1-9][0-9]{0,2})\\)?\\(0\\)', '\\1\\2'
        ), '[()]', '', 'g'), '^00', '+')
    end), '')
$$
"""
_IS_ADDRESS = """
create or replace function delivery.is_address(channel text, address text) returns boolean
language sql immutable parallel safe as $$
    select case channel
        when 'email' then length(address) <= 254 and address ~ '^[^\\u0001-\\u001f\\u007f-\\u009f\\s@<>,;:"()\\[\\]\\\\]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]([a-z0-9-]*[a-z0-9])$'
        else address ~ '^\\+[1-9][0-9]{6,14}$'
    end
$$
"""
# How contacts were known before. Of what is ASCII and has no bracket the rule is what it was.
_BEFORE = """
create temporary table before_0014 on commit drop as
select tenant_id, contacts.id as contact_id, is_email, written, delivery.normal_address(written) as address
from spine.spine_contacts as contacts
cross join lateral (values (true, contacts.email), (false, contacts.phone)) as ways(is_email, written)
where octet_length(written) <> length(written) or position('(' in written) > 0
"""
# What was kept as somebody's, and how they are known now: by the contact, and without one by what the address itself
# tells. A nought behind the code of a country was in brackets once, or is dialled by nobody; those of San Marino, Italy,
# the Congo and Ivory Coast are.
_KNOWN_AS = """
create temporary table known_as_0014 on commit drop as
with kept as (
    select tenant_id, address from delivery.suppressions
    union select tenant_id, address from delivery.consents
    union select tenant_id, address from delivery.seeds
),
renamed as (
    select kept.tenant_id, kept.address, delivery.normal_address(before.written) as becomes
    from kept inner join before_0014 as before on before.tenant_id = kept.tenant_id and before.address = kept.address
    union
    select tenant_id, address, regexp_replace(
        delivery.normal_address(address),
        '^(\\+(?:1|7|2[07]|3[0-46]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]'
        '|(?!2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|225|242|378)[2-9][0-9]{2}))0',
        '\\1'
    ) from kept
)
select * from renamed where becomes <> address
"""
# What was kept stays beside it: somebody may have it as a contact in the same way.
_ALSO = (
    """
insert into delivery.suppressions (tenant_id, channel, address, reason, source, created_at)
select tenant_id, channel, becomes, reason, source, created_at
from delivery.suppressions inner join known_as_0014 using (tenant_id, address)
order by created_at
on conflict do nothing
""",
    """
insert into delivery.consents (tenant_id, channel, address, basis, source, recorded_at)
select tenant_id, channel, becomes, basis, source, recorded_at
from delivery.consents inner join known_as_0014 using (tenant_id, address)
order by recorded_at desc
on conflict do nothing
""",
    """
insert into delivery.seeds (tenant_id, channel, address, added_by, created_at)
select tenant_id, channel, becomes, added_by, created_at
from delivery.seeds inner join known_as_0014 using (tenant_id, address)
order by created_at
on conflict do nothing
""",
)
# Items that may be sent yet follow their contact, so that whoever opts out from now on is found under the address of now.
# A call that went out under the old one is then not repeated by itself: it would be another one, and becomes a case.
_ITEMS = """
create temporary table items_0014 on commit drop as
with following as (
    select items.tenant_id, items.id, items.root_run_id, items.status, items.ordinal,
        delivery.normal_address(before.written) as becomes
    from delivery.channel_outbox as items
    inner join before_0014 as before on before.tenant_id = items.tenant_id and before.contact_id = items.recipient_id
        and before.address = items.address and before.is_email = (items.channel = 'email')
    where (items.status in ('queued', 'dispatching', 'unknown') or items.status = 'failed' and items.is_retryable)
        and delivery.normal_address(before.written) <> items.address
)
select following.*, exists (
    select from delivery.run_recipients as other
    where other.tenant_id = following.tenant_id and other.run_id = following.root_run_id
        and other.address = following.becomes and other.item_id is not null
) or 1 < row_number() over (
    partition by tenant_id, root_run_id, becomes order by status = 'queued', ordinal
) as is_twice
from following
"""
# Two of a run that are one person are sent to once.
_FOLLOW = (
    """
update delivery.channel_outbox as items
set status = 'skipped', skipped = true, skip_reason = 'duplicate_address', settled_at = now()
from items_0014 as following
where items.tenant_id = following.tenant_id and items.id = following.id
    and following.is_twice and following.status = 'queued'
""",
    """
update delivery.run_recipients as recipients set address = following.becomes
from items_0014 as following
where recipients.tenant_id = following.tenant_id and recipients.item_id = following.id and not following.is_twice
""",
    """
update delivery.channel_outbox as items set address = following.becomes
from items_0014 as following
where items.tenant_id = following.tenant_id and items.id = following.id and not following.is_twice
""",
)


def upgrade() -> None:
    op.execute(_BEFORE)
    for statement in (_LETTERS, _ADDRESS, _IS_ADDRESS):
        op.execute(statement)
    # Without a driver's parameters: the texts have colons that name none.
    for statement in (_KNOWN_AS, *_ALSO, _ITEMS, *_FOLLOW):
        op.get_bind().exec_driver_sql(statement)
