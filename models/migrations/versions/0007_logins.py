"""Whom a login speaks for is recorded, and neither the tenant nor the person is what a session says of itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls
from models.migrations.rewriting import rewrite

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# A superuser is a member of every role. session_user is who logged in: `set role` leaves it as it is.
_OF_SESSION = """
create function spine.{name}() returns uuid
language sql stable parallel safe security definer set search_path = pg_catalog, pg_temp
as $$
    select case
        when pg_has_role(session_user, '{service}', 'member')
            then nullif(current_setting('{setting}', true), '')::uuid
        else (select {column} from spine.logins where login = session_user::text)
    end
$$
"""
_FUNCTIONS = {
    "session_tenant": ("app.tenant_id", "tenant_id"),
    "session_user_id": ("app.user_id", "user_id"),
}

# Inside these functions the service looks up the login, which it must find under whatever tenant the session has set.
_OWN_LOGIN = f"""
create policy logins_session on spine.logins for select to {rls.SERVICE} using (login = session_user::text)
"""

# What the functions of 0005 said, and what they say now.
_REPLACED = {
    "nullif(current_setting('app.user_id', true), '')::uuid": "spine.session_user_id()",
    "nullif(current_setting('app.tenant_id', true), '')::uuid": "spine.session_tenant()",
    "'no tenant is pinned: name the tenant'": "'no tenant is known: pin one, or record the login with revenue-os tenant login'",
}
# Told the right hash, people would approve what they have not seen.
_NO_HASH_TOLD = {
    "show it again and acknowledge hash %',\n            found_action.payload_hash using": "show it again and approve what you see then'\n            using",
}

# The clock is read when the row is held: now() is when the transaction began, and whoever waits for the row may wait
# past its end.
_MEMBER = """
create or replace function spine.{name}_action(action uuid, {second} text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    select from spine.optimization_actions where tenant_id = spine.session_tenant() and id = action for update;
    select spine.{name}_action(action, {second}, clock_timestamp());
$$
"""

_MEMBER_POLICIES = """
    select format('%I on %I.%I', policyname, schemaname, tablename) as place, schemaname, tablename
    from pg_policies where roles = array[:member]::name[]
"""

# Whoever may take these could hold the locks that the pipeline waits for. Only their owner, a superuser, can take them
# from public; a managed server warns or refuses, and the pipeline's own limits of waiting remain.
_LOCKS = """
do $$
declare
    lock regprocedure;
begin
    for lock in
        select oid from pg_proc
        where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^pg_(try_)?advisory_(xact_)?lock'
    loop
        execute format('grant execute on function %s to {service}', lock);
        execute format('revoke execute on function %s from public', lock);
    end loop;
exception when insufficient_privilege then
    raise notice 'advisory locks stay open to every login: only a superuser can take them from public';
end $$
"""


def upgrade() -> None:
    op.create_table(
        "logins",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["spine.user_tenants.tenant_id", "spine.user_tenants.user_id"],
            name=op.f("logins_tenant_id_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("logins_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "login", name=op.f("logins_pkey")),
        schema="spine",
    )
    op.create_index("logins_login_key", "logins", ["login"], unique=True, schema="spine")
    _make_functions()
    for statement in rls.protect("spine.logins"):
        op.execute(statement)
    op.execute(_OWN_LOGIN)
    _ask_the_login()
    op.execute(_LOCKS.format(service=rls.SERVICE))


def _make_functions() -> None:
    # The service owns them, so that its policies hold inside; owning needs the right to create, for a moment.
    op.execute(f"grant create on schema spine to {rls.SERVICE}")
    for name, (setting, column) in _FUNCTIONS.items():
        op.execute(_OF_SESSION.format(name=name, service=rls.SERVICE, setting=setting, column=column))
        op.execute(f"alter function spine.{name}() owner to {rls.SERVICE}")
        op.execute(f"revoke all on function spine.{name}() from public")
        op.execute(f"grant execute on function spine.{name}() to {rls.MEMBER}")
    op.execute(f"revoke create on schema spine from {rls.SERVICE}")


def _ask_the_login() -> None:
    """Policies and functions that took the session's word for it, also on what dbt has built."""
    bind = op.get_bind()
    for found in bind.execute(sa.text(_MEMBER_POLICIES), {"member": rls.MEMBER}).all():
        key = "id" if (found.schemaname, found.tablename) == ("spine", "tenants") else "tenant_id"
        op.execute(f"alter policy {found.place} using ({key} = {rls.OF_SESSION})")
    for name, second in (("acknowledge", "hash"), ("reject", "why")):
        replaced = _REPLACED | (_NO_HASH_TOLD if name == "acknowledge" else {})
        rewrite(f"spine.{name}_action(uuid, text, timestamptz)", replaced)
        op.execute(_MEMBER.format(name=name, second=second))
