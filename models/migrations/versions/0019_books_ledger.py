"""Books: the chart of accounts, the journal, and what keeps it true whoever writes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from models import rls

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_TABLES = ("accounts", "bank_accounts", "periods", "journal_entries", "journal_lines", "books_audit")

# An entry goes from a proposal to what was approved to what is posted, and then stays: it is reversed by another one.
# The month is held: whoever locks one waits for those who post into it, and whoever posts waits and then is refused.
_GUARD_ENTRY = """
create function books.guard_entry() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    allowed books.journal_entries;
    month text;
begin
    if tg_op = 'INSERT' then
        if new.status = 'proposed' and new.is_live then return new; end if;
        raise exception 'an entry begins as a proposal: add its lines, then have it approved and posted'
            using errcode = 'restrict_violation';
    elsif tg_op = 'DELETE' then
        if not exists (select from spine.tenants where id = old.tenant_id) then return old; end if;
        raise exception 'DELETE on books.journal_entries is refused: reject a proposal, reverse what is posted'
            using errcode = 'restrict_violation';
    end if;
    allowed := old;
    allowed.updated_at := new.updated_at;
    if old.status = 'proposed' then
        allowed.entry_date := new.entry_date;
        allowed.memo := new.memo;
    end if;
    if old.status = 'proposed' and new.status = 'approved' then
        allowed.status := 'approved';
        allowed.approved_by := new.approved_by;
    elsif old.status in ('proposed', 'approved') and new.status = 'rejected' then
        allowed.status := 'rejected';
        allowed.is_live := false;
    elsif old.status = 'approved' and new.status = 'posted' then
        allowed.status := 'posted';
        allowed.posted_at := new.posted_at;
        allowed.posted_by := new.posted_by;
        month := to_char(new.entry_date, 'YYYY-MM');
        perform from books.periods
        where periods.tenant_id = new.tenant_id and periods.year_month = month and periods.state = 'OPEN'
        for share;
        if not found then
            raise exception 'month % is locked or was never opened: post into one that is open', month
                using errcode = 'object_not_in_prerequisite_state';
        end if;
    elsif old.status = 'posted' and old.is_live and not new.is_live and exists (
        select from books.journal_entries as reversal
        where reversal.tenant_id = old.tenant_id and reversal.reverses_id = old.id and reversal.status = 'posted'
    ) then
        allowed.is_live := false;
    end if;
    if allowed is distinct from new then
        raise exception 'entry % is %: it becomes nothing else than approved, posted or rejected in turn, and what is posted'
            ' is reversed by another entry', old.id, old.status using errcode = 'restrict_violation';
    end if;
    return new;
end $$
"""

# Lines are those of a proposal. Its row is held: nobody approves it while they change.
_GUARD_LINE = """
create function books.guard_line() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    line books.journal_lines;
    held text;
begin
    line := case when tg_op = 'DELETE' then old else new end;
    if tg_op = 'UPDATE' and (old.tenant_id, old.entry_id) is distinct from (new.tenant_id, new.entry_id) then
        raise exception 'a line stays with its entry: add one to the other entry' using errcode = 'restrict_violation';
    end if;
    select status into held from books.journal_entries as entries
    where entries.tenant_id = line.tenant_id and entries.id = line.entry_id
    for share;
    if held = 'proposed' then return line; end if;
    if tg_op = 'DELETE' and not exists (select from spine.tenants where id = old.tenant_id) then return old; end if;
    raise exception '% on books.journal_lines is refused: entry % is %, and its lines are as they were approved',
        tg_op, line.entry_id, coalesce(held, 'unknown') using errcode = 'restrict_violation';
end $$
"""

# At the end of the transaction, whoever writes and whatever was written before.
_ASSERT_BALANCED = """
create function books.assert_balanced() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    counted record;
begin
    select count(*) as lines, coalesce(sum(debit_minor), 0) as debit, coalesce(sum(credit_minor), 0) as credit
    into counted
    from books.journal_lines as lines
    where lines.tenant_id = new.tenant_id and lines.entry_id = new.id;
    if counted.lines < 2 or counted.debit <> counted.credit then
        raise exception 'entry % does not balance: % lines, debit %, credit %', new.id, counted.lines, counted.debit, counted.credit
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.reverses_id is not null and exists (
        (select account_code, credit_minor, debit_minor, count(*) from books.journal_lines as lines
         where lines.tenant_id = new.tenant_id and lines.entry_id = new.reverses_id group by 1, 2, 3)
        except
        (select account_code, debit_minor, credit_minor, count(*) from books.journal_lines as lines
         where lines.tenant_id = new.tenant_id and lines.entry_id = new.id group by 1, 2, 3)
    ) then
        raise exception 'entry % does not take back what it reverses, entry %', new.id, new.reverses_id
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$
"""

# A month is locked for good or reopened by somebody; its row is never lost.
_REFUSE_REMOVAL = """
create function books.refuse_removal() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'DELETE' and not exists (select from spine.tenants where id = old.tenant_id) then
        return old;
    end if;
    raise exception '% on books.% is refused: what was booked stays', tg_op, tg_table_name using errcode = 'restrict_violation';
end $$
"""

# The row of a tenant would take its books along. Whichever tenant is pinned, its own are looked at.
_GUARD_TENANT = """
create function books.guard_tenant() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    pinned constant text := coalesce(current_setting('app.tenant_id', true), '');
begin
    perform set_config('app.tenant_id', old.id::text, true);
    if exists (select from books.journal_entries where tenant_id = old.id and status = 'posted') then
        raise exception 'tenant % has entries that were posted, which the law keeps: disable it instead', old.slug
            using errcode = 'restrict_violation';
    end if;
    perform set_config('app.tenant_id', pinned, true);
    return old;
end $$
"""

_GUARDS = {
    "guard_entry": _GUARD_ENTRY, "guard_line": _GUARD_LINE, "assert_balanced": _ASSERT_BALANCED,
    "refuse_removal": _REFUSE_REMOVAL, "guard_tenant": _GUARD_TENANT,
}  # fmt: skip
_TRIGGERS = (
    "trigger guard_entry before insert or update or delete on books.journal_entries"
    " for each row execute function books.guard_entry()",
    "trigger guard_line before update or delete on books.journal_lines"
    " for each row execute function books.guard_line()",
    # Afterwards, so that whose row it is was asked before.
    "trigger guard_new_line after insert on books.journal_lines for each row execute function books.guard_line()",
    "constraint trigger assert_balanced after update on books.journal_entries deferrable initially deferred"
    " for each row when (new.status = 'posted' and old.status <> 'posted') execute function books.assert_balanced()",
    "trigger refuse_removal before delete on books.periods for each row execute function books.refuse_removal()",
    "trigger keep_books before delete on spine.tenants for each row execute function books.guard_tenant()",
)
_KEPT = ("accounts", "bank_accounts", "periods", "journal_entries", "journal_lines")


def upgrade() -> None:
    op.execute("create schema books")
    for statement in rls.grant_usage(["books"]):
        op.execute(statement)
    _create_tables()
    for name in _TABLES:
        for statement in rls.protect(f"books.{name}", append_only=name == "books_audit"):
            op.execute(statement)
    # Owning needs the right to create, for a moment.
    op.execute(f"grant create on schema books to {rls.SERVICE}")
    for name, function in _GUARDS.items():
        op.execute(function)
        op.execute(f"alter function books.{name}() owner to {rls.SERVICE}")
        op.execute(f"revoke execute on function books.{name}() from public")
    op.execute(f"revoke create on schema books from {rls.SERVICE}")
    for trigger in _TRIGGERS:
        op.execute(f"create {trigger}")
    for name in _KEPT:
        op.execute(
            f"create trigger refuse_truncate before truncate on books.{name}"
            " for each statement execute function books.refuse_removal()"
        )


def _create_tables() -> None:
    op.create_table(
        "accounts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("btrim(name) <> ''", name=op.f("accounts_name_check")),
        sa.CheckConstraint("code ~ '^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$'", name=op.f("accounts_code_check")),
        sa.CheckConstraint(
            "type in ('Asset', 'Liability', 'Equity', 'Revenue', 'Expense')", name=op.f("accounts_type_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("accounts_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "code", name=op.f("accounts_pkey")),
        schema="books",
    )
    op.create_table(
        "books_audit",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("detail", pg.JSONB(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("books_audit_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("books_audit_pkey")),
        schema="books",
    )
    op.create_table(
        "journal_entries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("entry_date", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("memo", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="proposed", nullable=False),
        sa.Column("source_txn_id", sa.Uuid(), nullable=True),
        sa.Column("is_live", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("reverses_id", sa.Uuid(), nullable=True),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("posted_by", sa.Text(), nullable=True),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'posted') = (posted_at is not null)", name=op.f("journal_entries_posted_at_check")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("journal_entries_currency_check")),
        sa.CheckConstraint("status <> 'rejected' or not is_live", name=op.f("journal_entries_is_live_check")),
        sa.CheckConstraint(
            "status in ('proposed', 'approved', 'posted', 'rejected')",
            name=op.f("journal_entries_status_check"),
        ),
        sa.CheckConstraint(
            "status not in ('approved', 'posted') or approved_by is not null",
            name=op.f("journal_entries_approved_by_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "reverses_id"],
            ["books.journal_entries.tenant_id", "books.journal_entries.id"],
            name=op.f("journal_entries_tenant_id_reverses_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("journal_entries_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("journal_entries_pkey")),
        schema="books",
    )
    op.create_index(
        "journal_entries_date_idx",
        "journal_entries",
        ["tenant_id", "entry_date"],
        unique=False,
        schema="books",
    )
    op.create_index(
        "journal_entries_reverses_key",
        "journal_entries",
        ["reverses_id", "tenant_id"],
        unique=True,
        schema="books",
        postgresql_where=sa.text("reverses_id is not null and status <> 'rejected'"),
    )
    op.create_index(
        "journal_entries_source_key",
        "journal_entries",
        ["source_txn_id", "tenant_id"],
        unique=True,
        schema="books",
        postgresql_where=sa.text("is_live and source_txn_id is not null"),
    )
    op.create_table(
        "periods",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="OPEN", nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state in ('OPEN', 'LOCKED')", name=op.f("periods_state_check")),
        sa.CheckConstraint("year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("periods_year_month_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("periods_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "year_month", name=op.f("periods_pkey")),
        schema="books",
    )
    op.create_table(
        "bank_accounts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("account_code", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("btrim(name) <> ''", name=op.f("bank_accounts_name_check")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("bank_accounts_currency_check")),
        sa.CheckConstraint(
            "kind in ('checking', 'savings', 'card', 'trust', 'cash')", name=op.f("bank_accounts_kind_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_code"],
            ["books.accounts.tenant_id", "books.accounts.code"],
            name=op.f("bank_accounts_tenant_id_account_code_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("bank_accounts_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("bank_accounts_pkey")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("bank_accounts_tenant_id_name_key")),
        schema="books",
    )
    op.create_table(
        "journal_lines",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("line_no", sa.Integer(), nullable=False),
        sa.Column("account_code", sa.Text(), nullable=False),
        sa.Column("debit_minor", sa.BigInteger(), nullable=False),
        sa.Column("credit_minor", sa.BigInteger(), nullable=False),
        sa.Column("memo", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "debit_minor >= 0 and credit_minor >= 0 and (debit_minor > 0) <> (credit_minor > 0)",
            name=op.f("journal_lines_one_side_check"),
        ),
        sa.CheckConstraint("line_no > 0", name=op.f("journal_lines_line_no_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_code"],
            ["books.accounts.tenant_id", "books.accounts.code"],
            name=op.f("journal_lines_tenant_id_account_code_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "entry_id"],
            ["books.journal_entries.tenant_id", "books.journal_entries.id"],
            name=op.f("journal_lines_tenant_id_entry_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("journal_lines_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "entry_id", "line_no", name=op.f("journal_lines_pkey")),
        schema="books",
    )
    op.create_index(
        "journal_lines_account_idx",
        "journal_lines",
        ["tenant_id", "account_code"],
        unique=False,
        schema="books",
    )
