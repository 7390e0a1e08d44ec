"""Roles, grants and row-level security: who may see and change which rows.

`revenue_service` runs the pipeline: it sees every tenant until a transaction pins it to one.
`revenue_member` is a tenant's own user: it sees the tenant its login is recorded for in `spine.logins`, and nothing
when it is recorded for none. What it sets in its session changes nothing.
`revenue_analyst` reads every tenant and writes nothing.
The owner of the tables is forced under the same policies; migrations alone step around them.
"""

from __future__ import annotations

from collections.abc import Iterable

SERVICE, MEMBER, ANALYST = "revenue_service", "revenue_member", "revenue_analyst"
ROLES = (SERVICE, MEMBER, ANALYST)

# Set with `set local` in each transaction; an unset or emptied setting reads as null.
PINNED = "nullif(current_setting('app.tenant_id', true), '')::uuid"
# The pinned tenant for the pipeline's own logins, the recorded one for all others. A subquery, so that it is asked once
# a statement.
OF_SESSION = "(select spine.session_tenant())"

_CREATE_ROLE = """
do $$ begin
    if not exists (select from pg_roles where rolname = '{role}') then create role {role} nologin; end if;
    -- Whoever migrates may act as the role, also on a managed server where nobody is superuser.
    execute format('grant {role} to %I', current_user);
end $$
"""


def create_roles() -> list[str]:
    return [_CREATE_ROLE.format(role=role) for role in ROLES]


def service_rules(key: str) -> str:
    """What the service may read and write: every row until a tenant is pinned, then that tenant's.

    A case and not an or: the planner takes half of the rows for such a condition, but one in 200 for the or, and
    then joins large tables in nested loops. A subquery reads the setting once a statement instead of once a row, which
    was most of what reading a large table cost.
    """
    pinned = f"(select {PINNED})"
    rule = f"case when {pinned} is null then true else {key} = {pinned} end"
    return f"using ({rule}) with check ({rule})"


def protect(
    table: str, *, key: str = "tenant_id", append_only: bool = False, tenant: str = OF_SESSION
) -> list[str]:
    """Statements that force row-level security on `table` and grant each role its part.

    `table` is schema-qualified and comes from our own metadata, never from input. `tenant` is what a member's rows are
    compared with: migrations before 0007 name what stood there then.
    """
    writes = "select, insert" if append_only else "select, insert, update, delete"
    name = table.replace(".", "_")
    statements = [
        f"alter table {table} enable row level security",
        f"alter table {table} force row level security",
        f"create policy {name}_service on {table} to {SERVICE} {service_rules(key)}",
        f"create policy {name}_member on {table} for select to {MEMBER} using ({key} = {tenant})",
        f"create policy {name}_analyst on {table} for select to {ANALYST} using (true)",
        f"grant {writes} on {table} to {SERVICE}",
        f"grant select on {table} to {MEMBER}, {ANALYST}",
    ]
    if append_only:
        statements += [
            f"create trigger refuse_change before update or delete on {table}"
            " for each row execute function ops.refuse_change()",
            f"create trigger refuse_truncate before truncate on {table}"
            " for each statement execute function ops.refuse_change()",
        ]
    return statements


def grant_usage(schemas: Iterable[str]) -> list[str]:
    return [f"grant usage on schema {schema} to {', '.join(ROLES)}" for schema in schemas]
