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
# What was kept stays: somebody may have it as a contact in the same way, and an item that was queued has it.
_ALSO = """
insert into delivery.suppressions (tenant_id, channel, address, reason, source)
select tenant_id, channel, delivery.normal_address(address), reason, source from delivery.suppressions
where delivery.normal_address(address) <> address
on conflict do nothing
"""


def upgrade() -> None:
    for statement in (_LETTERS, _ADDRESS, _IS_ADDRESS, _ALSO):
        op.execute(statement)
