-- Bank lines that a person set aside: which, why, and which a file told of.

-- standing --
select txn_id, why, set_aside_by, set_aside_at from books.set_aside_lines
where tenant_id = :tenant_id and txn_id = any(cast(:ids as uuid[]))

-- listed --
-- The newest first.
select aside.txn_id, lines.post_date, lines.amount_minor, lines.currency, lines.description, bank.name as bank_account,
    aside.why, aside.set_aside_by, aside.set_aside_at
from books.set_aside_lines as aside
inner join books.transactions as lines on lines.tenant_id = aside.tenant_id and lines.id = aside.txn_id
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where aside.tenant_id = :tenant_id
order by aside.set_aside_at desc, lines.post_date desc, aside.txn_id
limit :most

-- files --
-- Statements of an account by their name.
select id, name from books.statement_files
where tenant_id = :tenant_id and bank_account_id = :bank_account_id and name = any(cast(:names as text[]))

-- told_by --
-- Lines that these statements told of, and whether no other one did.
with told as (
    select lines.first_file_id as file_id, lines.id as txn_id from books.transactions as lines
    where lines.tenant_id = :tenant_id and lines.bank_account_id = :bank_account_id
    union
    select sightings.file_id, sightings.txn_id from books.sightings as sightings
    where sightings.tenant_id = :tenant_id
)
select txn_id, bool_and(file_id = any(cast(:files as uuid[]))) as by_no_other from told
group by txn_id
having bool_or(file_id = any(cast(:files as uuid[])))

-- matched_by_people --
select txn_id from books.reconciliation_matches
where tenant_id = :tenant_id and txn_id = any(cast(:ids as uuid[])) and kind = 'allocation'
order by txn_id
limit 1

-- unmatch --
delete from books.reconciliation_matches where tenant_id = :tenant_id and txn_id = any(cast(:ids as uuid[]))

-- set_aside --
insert into books.set_aside_lines (tenant_id, txn_id, why, set_aside_by, set_aside_at)
select :tenant_id, unnest(cast(:ids as uuid[])), :why, :by, :at

-- take_back --
delete from books.set_aside_lines where tenant_id = :tenant_id and txn_id = any(cast(:ids as uuid[]))
