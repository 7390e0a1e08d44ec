"""The role that owns the guards of books and usage: trigger functions that nobody who writes may change or drop.

`revenue_guard` logs in nowhere and has no members but who migrates. It sees every tenant's rows, whatever a session has
pinned, and can change none. What tenants and the pipeline see and do stands in `rls`.
"""

from __future__ import annotations

from collections.abc import Iterable

GUARD = "revenue_guard"

_CREATE_ROLE = f"""
do $$ begin
    if not exists (select from pg_roles where rolname = '{GUARD}') then create role {GUARD} nologin; end if;
    -- Owning functions of the role needs membership, where whoever migrates is no superuser.
    if not pg_has_role(current_user, '{GUARD}', 'usage') then execute format('grant {GUARD} to %I', current_user); end if;
end $$
"""


def create_role() -> str:
    return _CREATE_ROLE


def sees(table: str, *, holds: bool = False) -> list[str]:
    """Statements that let guards read the rows of a schema-qualified table; `holds`: and lock them against a change."""
    name = table.replace(".", "_")
    statements = [
        f"create policy {name}_guard on {table} for select to {GUARD} using (true)",
        f"grant select on {table} to {GUARD}",
    ]
    if holds:
        # Holding a row asks for the right to change a column of it, and which one does not matter.
        statements += [
            f"create policy {name}_guard_holds on {table} for update to {GUARD} using (true) with check (false)",
            f"grant update (tenant_id) on {table} to {GUARD}",
        ]
    return statements


def owns(schema: str, functions: Iterable[str]) -> list[str]:
    """Statements that give trigger functions of a schema to the role, and let nobody else call them."""
    return [
        # Owning needs the right to create, for a moment.
        f"grant usage, create on schema {schema} to {GUARD}",
        *(f"alter function {schema}.{name}() owner to {GUARD}" for name in functions),
        *(f"revoke execute on function {schema}.{name}() from public" for name in functions),
        f"revoke create on schema {schema} from {GUARD}",
    ]
