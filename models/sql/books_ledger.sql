-- The journal: proposals, what became of them, and what the posted ones add up to.

-- open_months --
insert into books.periods (tenant_id, year_month, updated_at)
select :tenant_id, unnest(cast(:months as text[])), :at on conflict do nothing

-- propose --
insert into books.journal_entries (
    tenant_id, id, entry_date, currency, memo, source_txn_id, reverses_id, proposed_by, created_at, updated_at
)
select :tenant_id, given.*, :actor, :at, :at
from unnest(
    cast(:ids as uuid[]), cast(:dates as date[]), cast(:currencies as text[]), cast(:memos as text[]), cast(:sources as uuid[]),
    cast(:reversed as uuid[])
) as given

-- add_lines --
insert into books.journal_lines (tenant_id, entry_id, line_no, account_code, debit_minor, credit_minor, memo)
select :tenant_id, given.*
from unnest(
    cast(:entries as uuid[]), cast(:numbers as int[]), cast(:accounts as text[]), cast(:debits as bigint[]),
    cast(:credits as bigint[]), cast(:memos as text[])
) as given

-- hold --
-- In the order of their ids: two who settle the same entries do not wait for each other.
select id, status, is_live, entry_date, currency, memo, source_txn_id, reverses_id from books.journal_entries
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[]))
order by id
for update

-- approve --
update books.journal_entries set status = 'approved', approved_by = :actor, updated_at = :at
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[])) and status = 'proposed'

-- reject --
update books.journal_entries set status = 'rejected', is_live = false, updated_at = :at
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[])) and status in ('proposed', 'approved')

-- post --
update books.journal_entries set status = 'posted', posted_by = :actor, posted_at = :at, updated_at = :at
where tenant_id = :tenant_id and id = any(cast(:ids as uuid[])) and status = 'approved'

-- unbalanced --
-- Before they are posted, so that a sentence names them; the database asks again at the end of the transaction.
select entries.id, count(lines.line_no) as lines, coalesce(sum(debit_minor), 0) as debit, coalesce(sum(credit_minor), 0) as credit
from books.journal_entries as entries
left join books.journal_lines as lines on lines.tenant_id = entries.tenant_id and lines.entry_id = entries.id
where entries.tenant_id = :tenant_id and entries.id = any(cast(:ids as uuid[]))
group by entries.id
having count(lines.line_no) < 2 or sum(debit_minor) <> sum(credit_minor)
order by entries.id

-- lines --
select line_no, account_code, debit_minor, credit_minor, memo from books.journal_lines
where tenant_id = :tenant_id and entry_id = :id
order by line_no

-- beginning --
select id from books.journal_entries
where tenant_id = :tenant_id and id between :low and :high
order by id
limit 2

-- no_longer_live --
update books.journal_entries set is_live = false, updated_at = :at
where tenant_id = :tenant_id and id = :id and status = 'posted'

-- trial_balance --
select accounts.code, accounts.name, accounts.type, entries.currency,
    sum(lines.debit_minor)::bigint as debit_minor, sum(lines.credit_minor)::bigint as credit_minor
from books.journal_entries as entries
inner join books.journal_lines as lines on lines.tenant_id = entries.tenant_id and lines.entry_id = entries.id
inner join books.accounts as accounts on accounts.tenant_id = lines.tenant_id and accounts.code = lines.account_code
where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.entry_date <= :until
group by accounts.code, accounts.name, accounts.type, entries.currency
order by accounts.code, entries.currency

-- unposted --
-- Bank lines of some days that no posted entry books, and that nobody set aside.
select count(*) from books.transactions as lines
where lines.tenant_id = :tenant_id and lines.post_date between :first_on and :last_on
    and not exists (
        select from books.settled_lines as settled
        left join books.journal_entries as entries
            on entries.tenant_id = settled.tenant_id and entries.id = settled.entry_id
        where settled.tenant_id = lines.tenant_id and settled.txn_id = lines.id
            and (settled.entry_id is null or entries.status = 'posted')
    )

-- hold_month --
select state from books.periods where tenant_id = :tenant_id and year_month = :month for update

-- set_month --
update books.periods set state = :state, changed_by = :actor, updated_at = :at
where tenant_id = :tenant_id and year_month = :month
