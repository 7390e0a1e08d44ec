"""The guards of books and usage belong to nobody who writes and see every tenant; a reversal takes back all and nothing else."""

from __future__ import annotations

from alembic import op

from models import guards

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_OWNED = {
    "books": ("assert_balanced", "guard_batch", "guard_entry", "guard_line", "guard_tenant", "only_changes", "refuse_removal"),
    "usage": (
        "guard_adjustment", "guard_insert", "guard_invoice", "guard_invoice_line", "guard_ledger_delete", "guard_ledger_update",
        "guard_plan", "guard_plan_removal", "guard_snapshot", "guard_tenant", "refuse_removal",
    ),
}  # fmt: skip
_SEEN = (
    "spine.tenants", "books.journal_lines", "usage.ingest_idempotency", "usage.invoice_snapshot", "usage.site_plans",
    "usage.sites", "usage.usage_archives", "usage.usage_invoice_lines",
)  # fmt: skip
_HELD = ("books.journal_entries", "books.periods", "usage.usage_invoices", "usage.usage_periods")
# As whoever writes, and when a tenant goes as the owner of the tables: no operator of the session's own may run in them.
_OF_THE_OWNER = ("ops.refuse_change", "usage.guard_ledger_txid", "usage.guard_period")

# At the end of the transaction, whoever writes and whatever was written before.
_ASSERT_BALANCED = """
create or replace function books.assert_balanced() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    counted record;
    reversed books.journal_entries;
begin
    select count(*) as lines, coalesce(sum(debit_minor), 0) as debit, coalesce(sum(credit_minor), 0) as credit
    into counted
    from books.journal_lines as lines
    where lines.tenant_id = new.tenant_id and lines.entry_id = new.id;
    if counted.lines < 2 or counted.debit <> counted.credit then
        raise exception 'entry % does not balance: % lines, debit %, credit %', new.id, counted.lines, counted.debit, counted.credit
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.reverses_id is null then return null; end if;
    select * into reversed from books.journal_entries as entries
    where entries.tenant_id = new.tenant_id and entries.id = new.reverses_id;
    if reversed.status <> 'posted' or reversed.reverses_id is not null or reversed.currency <> new.currency then
        raise exception 'entry % cannot take back entry %: reverse one that is posted, in its own currency, and no reversal',
            new.id, new.reverses_id using errcode = 'integrity_constraint_violation';
    end if;
    if exists (
        select from (
            select account_code, debit_minor, credit_minor, 1 as times from books.journal_lines as lines
            where lines.tenant_id = new.tenant_id and lines.entry_id = new.id
            union all
            select account_code, credit_minor, debit_minor, -1 from books.journal_lines as lines
            where lines.tenant_id = new.tenant_id and lines.entry_id = new.reverses_id
        ) as both_entries
        group by account_code, debit_minor, credit_minor
        having sum(times) <> 0
    ) then
        raise exception 'entry % does not take back what it reverses, entry %, and nothing else', new.id, new.reverses_id
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$
"""

_GUARD_BATCH = """
create function books.guard_batch() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'export % was handed out on %: what was handed out stays so', old.id, old.exported_at
        using errcode = 'restrict_violation';
end $$
"""

_TRIGGERS = (
    "only_changes before update on books.periods"
    " for each row execute function books.only_changes('state', 'changed_by', 'updated_at')",
    "guard_batch before update on books.export_batches for each row"
    " when (old.status = 'exported' and new is distinct from old) execute function books.guard_batch()",
)


def upgrade() -> None:
    op.execute(_ASSERT_BALANCED)
    op.execute(_GUARD_BATCH)
    _give_away()
    for function in _OF_THE_OWNER:
        op.execute(f"alter function {function}() set search_path = pg_catalog, pg_temp")
    for trigger in _TRIGGERS:
        op.execute(f"create trigger {trigger}")
    # What was true when it was approved is looked at again after a quarter.
    op.create_check_constraint(
        op.f("books_stages_expires_at_check"), "books_stages", "expires_at - at <= interval '92 days'", schema="books"
    )  # fmt: skip


def _give_away() -> None:
    statements = [guards.create_role(), f"grant usage on schema spine to {guards.GUARD}"]
    for table in (*_SEEN, *_HELD):
        statements += guards.sees(table, holds=table in _HELD)
    for schema, functions in _OWNED.items():
        statements += guards.owns(schema, functions)
    for statement in statements:
        op.execute(statement)
