"""What the close of a month rests on: recounts that miss nothing, snapshots of that moment alone, invoices that stay."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from models import rls

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# Asked for by one and approved by another. Which month pays is settled when it is approved: one that takes usage still.
_GUARD_ADJUSTMENT = """
create or replace function usage.guard_adjustment() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    approved usage.usage_adjustments;
begin
    if tg_op = 'INSERT' then
        if new.approved_by is not null or new.approved_at is not null then
            raise exception 'an adjustment is asked for first and approved by somebody else afterwards'
                using errcode = 'restrict_violation';
        end if;
        return new;
    elsif tg_op = 'UPDATE' then
        approved := old;
        approved.approved_by := new.approved_by;
        approved.approved_at := new.approved_at;
        approved.year_month := new.year_month;
        if old.approved_by is null and old.approved_at is null and approved is not distinct from new
            and new.approved_by is not null and new.approved_at is not null and new.year_month >= new.of_year_month
        then
            perform from usage.usage_periods as periods
            where periods.tenant_id = new.tenant_id and periods.year_month = new.year_month
            for share;
            if exists (
                select from usage.usage_periods as periods
                where periods.tenant_id = new.tenant_id and periods.year_month = new.year_month
                    and periods.state in ('CLOSED', 'ADJUSTED')
            ) then
                raise exception 'month % is closed: an adjustment is paid by one that is open', new.year_month
                    using errcode = 'object_not_in_prerequisite_state';
            end if;
            return new;
        end if;
    elsif not exists (select from spine.tenants where id = old.tenant_id) then
        return old;
    end if;
    raise exception '% on usage.usage_adjustments is refused: the table is append-only, add a correcting row instead', tg_op
        using errcode = 'restrict_violation';
end $$
"""

# Nothing is added to what was frozen. Whoever closes a month holds it, so that two closes follow one another.
_GUARD_SNAPSHOT = """
create function usage.guard_snapshot() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (
        select from usage.usage_periods as periods
        where periods.tenant_id = new.tenant_id and periods.year_month = new.year_month
            and periods.state in ('CLOSED', 'ADJUSTED')
    ) then
        raise exception 'month % is closed: its snapshots are those of the close', new.year_month
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end $$
"""

_GUARD_INVOICE = """
create function usage.guard_invoice() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    final usage.usage_invoices;
begin
    if tg_op = 'INSERT' then
        if new.state = 'draft' then return new; end if;
        raise exception 'an invoice begins as a draft' using errcode = 'restrict_violation';
    elsif tg_op = 'UPDATE' then
        final := old;
        final.state := 'final';
        final.final_at := new.final_at;
        final.final_by := new.final_by;
        if old.state = 'draft' and final is not distinct from new and new.final_by is not null then
            if new.total is distinct from (
                select coalesce(sum(amount), 0) from usage.usage_invoice_lines as lines
                where lines.tenant_id = new.tenant_id and lines.invoice_id = new.id
            ) then
                raise exception 'invoice % does not add up: its total is not the sum of its lines', new.id
                    using errcode = 'integrity_constraint_violation';
            end if;
            return new;
        end if;
    elsif not exists (select from spine.tenants where id = old.tenant_id) then
        return old;
    end if;
    raise exception '% on usage.usage_invoices is refused: what was invoiced is corrected by an adjustment', tg_op
        using errcode = 'restrict_violation';
end $$
"""

# Lines are made with their draft and stay as they are. The draft is held: nobody makes it final while one is added.
_GUARD_LINE = """
create function usage.guard_invoice_line() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        perform from usage.usage_invoices as invoices
        where invoices.tenant_id = new.tenant_id and invoices.id = new.invoice_id and invoices.state = 'draft'
        for share;
        if found then return new; end if;
        raise exception 'invoice % is final or unknown: it takes no lines', new.invoice_id
            using errcode = 'object_not_in_prerequisite_state';
    elsif tg_op = 'DELETE' and not exists (select from spine.tenants where id = old.tenant_id) then
        return old;
    end if;
    raise exception '% on usage.usage_invoice_lines is refused: what was invoiced is corrected by an adjustment', tg_op
        using errcode = 'restrict_violation';
end $$
"""

_NEW = ("guard_snapshot", "guard_invoice", "guard_invoice_line")
_TRIGGERS = (
    "guard_asked before insert on usage.usage_adjustments for each row execute function usage.guard_adjustment()",
    "guard_snapshot before insert on usage.invoice_snapshot for each row execute function usage.guard_snapshot()",
    "guard_invoice before insert or update or delete on usage.usage_invoices"
    " for each row execute function usage.guard_invoice()",
    "guard_line before update or delete on usage.usage_invoice_lines"
    " for each row execute function usage.guard_invoice_line()",
    # Afterwards, so that whose row it is was asked before.
    "guard_draft after insert on usage.usage_invoice_lines for each row execute function usage.guard_invoice_line()",
    "refuse_truncate before truncate on usage.usage_invoices"
    " for each statement execute function usage.refuse_removal()",
    "refuse_truncate before truncate on usage.usage_invoice_lines"
    " for each statement execute function usage.refuse_removal()",
)


def upgrade() -> None:
    op.add_column(
        "billing_reconciliation_jobs",
        sa.Column("changed_to", sa.BigInteger(), server_default="0", nullable=False),
        schema="usage",
    )
    # Owning needs the right to create, for a moment.
    op.execute(f"grant create on schema usage to {rls.SERVICE}")
    for function in (_GUARD_ADJUSTMENT, _GUARD_SNAPSHOT, _GUARD_INVOICE, _GUARD_LINE):
        op.execute(function)
    for name in _NEW:
        op.execute(f"alter function usage.{name}() owner to {rls.SERVICE}")
        op.execute(f"revoke execute on function usage.{name}() from public")
    op.execute(f"revoke create on schema usage from {rls.SERVICE}")
    for trigger in _TRIGGERS:
        op.execute(f"create trigger {trigger}")
    for statement in (
        f"grant update (year_month) on usage.usage_adjustments to {rls.SERVICE}",
        f"revoke update, delete on usage.usage_invoices, usage.usage_invoice_lines from {rls.SERVICE}",
        f"grant update (state, final_at, final_by) on usage.usage_invoices to {rls.SERVICE}",
    ):
        op.execute(statement)
