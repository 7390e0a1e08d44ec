-- Bank lines beside posted entries: what is still to be matched, what is, and whether statements agree with the books.

-- hold --
-- Of those who match a tenant's lines, one at a time.
select pg_advisory_xact_lock(hashtextextended(concat('books.reconciliation_matches:', cast(:tenant_id as uuid)), 0))

-- matches --
select txn_id, entry_id, kind, amount_minor, detail ->> 'allocation' as allocation from books.reconciliation_matches
where tenant_id = :tenant_id

-- lines --
-- Every bank line that nobody set aside, with the account that its bank account is in the chart.
select lines.id, lines.post_date, lines.amount_minor, lines.currency, bank.account_code as code,
    concat_ws(' ', lines.description, lines.counterparty, lines.reference) as text
from books.transactions as lines
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where lines.tenant_id = :tenant_id
    and not exists (
        select from books.set_aside_lines as aside where aside.tenant_id = lines.tenant_id and aside.txn_id = lines.id
    )

-- sides --
-- What every posted entry that stands says of each bank account, with the lines that it was made from.
select entries.id, entries.entry_date, entries.currency, own.account_code as code,
    sum(own.debit_minor - own.credit_minor)::bigint as amount_minor, entries.source_txn_id, (
        select txn_id from books.transfers as transfers
        where transfers.tenant_id = entries.tenant_id and transfers.entry_id = entries.id
    ) as other_txn_id,
    concat_ws(' ', entries.memo, string_agg(own.memo, ' ' order by own.line_no)) as text, (
        select string_agg(concat(others.account_code, ' ', others.debit_minor - others.credit_minor), ',' order by others.line_no)
        from books.journal_lines as others
        where others.tenant_id = entries.tenant_id and others.entry_id = entries.id
    ) as alike
from books.journal_entries as entries
inner join books.journal_lines as own on own.tenant_id = entries.tenant_id and own.entry_id = entries.id
where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.is_live and entries.reverses_id is null
    and own.account_code in (select account_code from books.bank_accounts where tenant_id = :tenant_id)
group by entries.tenant_id, entries.id, entries.entry_date, entries.currency, entries.memo, entries.source_txn_id, own.account_code
having sum(own.debit_minor) <> sum(own.credit_minor)

-- drop --
delete from books.reconciliation_matches as matches
using unnest(cast(:txns as uuid[]), cast(:entries as uuid[])) as given (txn_id, entry_id)
where matches.tenant_id = :tenant_id and matches.txn_id = given.txn_id and matches.entry_id = given.entry_id

-- add --
insert into books.reconciliation_matches (
    tenant_id, txn_id, entry_id, amount_minor, kind, score, matched_by, matched_at, detail
)
select :tenant_id, given.*, :actor, :at, cast(:detail as jsonb)
from unnest(
    cast(:txns as uuid[]), cast(:entries as uuid[]), cast(:amounts as bigint[]), cast(:kinds as text[]), cast(:scores as numeric[])
) as given

-- named_lines --
-- But those that were set aside, which stand for nothing.
select lines.id, lines.amount_minor, lines.currency, bank.account_code as code
from books.transactions as lines
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where lines.tenant_id = :tenant_id and lines.id = any(cast(:ids as uuid[]))
    and not exists (
        select from books.set_aside_lines as aside where aside.tenant_id = lines.tenant_id and aside.txn_id = lines.id
    )

-- named_entries --
-- What entries that stand say of one account.
select entries.id, entries.currency, sum(own.debit_minor - own.credit_minor)::bigint as amount_minor
from books.journal_entries as entries
inner join books.journal_lines as own on own.tenant_id = entries.tenant_id and own.entry_id = entries.id
where entries.tenant_id = :tenant_id and entries.id = any(cast(:ids as uuid[])) and own.account_code = :code
    and entries.status = 'posted' and entries.is_live and entries.reverses_id is null
group by entries.id, entries.currency

-- in_the_way --
-- Matches of these lines, and of these entries with other lines of the same account.
select matches.txn_id, matches.entry_id, matches.kind
from books.reconciliation_matches as matches
inner join books.transactions as lines on lines.tenant_id = matches.tenant_id and lines.id = matches.txn_id
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where matches.tenant_id = :tenant_id and (
        matches.txn_id = any(cast(:txns as uuid[]))
        or (matches.entry_id = any(cast(:entries as uuid[])) and bank.account_code = :code)
    )

-- take_back --
delete from books.reconciliation_matches
where tenant_id = :tenant_id and kind = 'allocation' and detail ->> 'allocation' = (
        select detail ->> 'allocation' from books.reconciliation_matches
        where tenant_id = :tenant_id and txn_id = :txn_id and kind = 'allocation'
        limit 1
    )
returning txn_id, entry_id

-- open_lines --
-- Bank lines that stand for no entry that stands, the largest first. Each is looked up, as what was matched just now is
-- taken for nothing, and a join with it would compare all with all.
select lines.id, lines.post_date as on_date, lines.amount_minor, lines.currency, bank.name as bank_account,
    lines.description as text
from books.transactions as lines
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where lines.tenant_id = :tenant_id and lines.post_date between :first and :last and (
        select count(*) from books.reconciliation_matches as matches
        inner join books.journal_entries as entries on entries.tenant_id = matches.tenant_id and entries.id = matches.entry_id
        where matches.tenant_id = lines.tenant_id and matches.txn_id = lines.id and entries.is_live and entries.status = 'posted'
    ) = 0
    and not exists (
        select from books.set_aside_lines as aside where aside.tenant_id = lines.tenant_id and aside.txn_id = lines.id
    )
order by abs(lines.amount_minor) desc, lines.post_date, lines.id

-- open_entries --
-- What posted entries say of a bank account and no line of it tells, the largest first.
select entries.id, entries.entry_date as on_date, sum(own.debit_minor - own.credit_minor)::bigint as amount_minor,
    entries.currency, bank.name as bank_account, entries.memo as text
from books.journal_entries as entries
inner join books.journal_lines as own on own.tenant_id = entries.tenant_id and own.entry_id = entries.id
inner join lateral (
    select string_agg(name, ', ' order by name) as name from books.bank_accounts
    where tenant_id = entries.tenant_id and account_code = own.account_code
) as bank on bank.name is not null
where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.is_live and entries.reverses_id is null
    and entries.entry_date between :first and :last and (
        select count(*) from books.reconciliation_matches as matches
        inner join books.transactions as lines on lines.tenant_id = matches.tenant_id and lines.id = matches.txn_id
        inner join books.bank_accounts as of_line on of_line.tenant_id = lines.tenant_id and of_line.id = lines.bank_account_id
        where matches.tenant_id = entries.tenant_id and matches.entry_id = entries.id and of_line.account_code = own.account_code
    ) = 0
group by entries.id, entries.entry_date, entries.currency, entries.memo, own.account_code, bank.name
having sum(own.debit_minor) <> sum(own.credit_minor)
order by abs(sum(own.debit_minor - own.credit_minor)) desc, entries.entry_date, entries.id

-- statements --
-- Statements of an account in order, each with its lines, the statement before it, and what the books hold at its end. Lines
-- came by a statement, or it told of them again. One whose lines were all set aside is none of the account.
with told as (
    select lines.first_file_id as file_id, lines.id as txn_id from books.transactions as lines
    where lines.tenant_id = :tenant_id and lines.bank_account_id = :bank_account_id
    union
    select sightings.file_id, sightings.txn_id from books.sightings as sightings
    where sightings.tenant_id = :tenant_id
)
select files.id, files.name, files.first_date, files.last_date, bank.currency, files.opening_minor, files.closing_minor,
    coalesce(added.lines_minor, 0) as lines_minor,
    lag(files.closing_minor) over ordered as closed_minor, lag(files.last_date) over ordered as closed_date, (
        select coalesce(sum(own.debit_minor - own.credit_minor), 0)::bigint
        from books.journal_entries as entries
        inner join books.journal_lines as own on own.tenant_id = entries.tenant_id and own.entry_id = entries.id
        where entries.tenant_id = files.tenant_id and entries.status = 'posted' and entries.currency = bank.currency
            and entries.entry_date <= files.last_date and own.account_code = bank.account_code
    ) as booked_minor
from books.statement_files as files
inner join books.bank_accounts as bank on bank.tenant_id = files.tenant_id and bank.id = files.bank_account_id
left join (
    select told.file_id, sum(lines.amount_minor)::bigint as lines_minor, count(*) > count(aside.txn_id) as has_any from told
    inner join books.transactions as lines on lines.tenant_id = :tenant_id and lines.id = told.txn_id
    left join books.set_aside_lines as aside on aside.tenant_id = lines.tenant_id and aside.txn_id = lines.id
    group by told.file_id
) as added on added.file_id = files.id
where files.tenant_id = :tenant_id and files.bank_account_id = :bank_account_id and coalesce(added.has_any, true)
window ordered as (order by files.first_date, files.last_date, files.imported_at)
order by files.first_date, files.last_date, files.imported_at

-- locked_months --
select year_month from books.periods
where tenant_id = :tenant_id and state = 'LOCKED'
order by year_month desc
limit :most
