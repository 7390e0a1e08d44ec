-- From decisions to the journal: which lines are to have a proposal, and which one they have.

-- to_book --
-- Newest decisions of lines that nobody answered and that are not booked, with the proposal that stands for each.
select newest.number, newest.txn_id, newest.proposed_account, newest.calibrated_p, newest.verdict, newest.decided_at,
    newest.proposed_account is not null and not 'imbalance' = any(newest.failures) as is_bookable,
    (newest.explain -> 'transfer' ->> 'with')::uuid as other_id, (newest.explain -> 'transfer' ->> 'is_out')::boolean as is_out,
    lines.post_date, lines.amount_minor, lines.currency, lines.description, lines.vendor, bank.account_code as bank_code,
    proposal.id as entry_id, side.account_code as entry_account, other.txn_id as entry_other_id
from (
    select distinct on (decisions.txn_id) decisions.* from books.decisions as decisions
    where decisions.tenant_id = :tenant_id
        and (cast(:ids as uuid[]) is null or decisions.txn_id = any(cast(:ids as uuid[])))
    order by decisions.txn_id, decisions.number desc
) as newest
inner join books.transactions as lines on lines.tenant_id = newest.tenant_id and lines.id = newest.txn_id
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
left join books.journal_entries as proposal
    on proposal.tenant_id = newest.tenant_id and proposal.source_txn_id = newest.txn_id and proposal.is_live
    and proposal.status = 'proposed'
left join books.transfers as other on other.tenant_id = proposal.tenant_id and other.entry_id = proposal.id
-- Of a line that pays the first side is the account that it was decided for, else the second.
left join books.journal_lines as side
    on side.tenant_id = proposal.tenant_id and side.entry_id = proposal.id
    and side.line_no = case when lines.amount_minor < 0 then 1 else 2 end
where (proposal.id is not null or newest.proposed_account is not null)
    and not exists (
        select from books.labels as labels where labels.tenant_id = newest.tenant_id and labels.txn_id = newest.txn_id
    )
    and not exists (
        select from books.settled_lines as settled
        where settled.tenant_id = newest.tenant_id and settled.txn_id = newest.txn_id
    )
order by lines.post_date, newest.txn_id

-- pair --
insert into books.transfers (tenant_id, entry_id, txn_id)
select :tenant_id, given.* from unnest(cast(:entries as uuid[]), cast(:others as uuid[])) as given

-- hold_months --
-- Whoever locks one waits; in order, so that of two who post neither waits for the other.
select year_month, state from books.periods
where tenant_id = :tenant_id and year_month = any(cast(:months as text[]))
order by year_month
for share

-- live_entries --
-- The entries that book lines, whichever side of a transfer a line is. `txn_id` is the line that was asked for.
select found.txn_id, entries.id, entries.status, entries.source_txn_id, entries.approved_by, entries.entry_date,
    transfers.txn_id as other_id
from (
    select source_txn_id as txn_id, id from books.journal_entries
    where tenant_id = :tenant_id and is_live and source_txn_id = any(cast(:ids as uuid[]))
    union all
    select txn_id, entry_id from books.transfers
    where tenant_id = :tenant_id and txn_id = any(cast(:ids as uuid[]))
) as found
inner join books.journal_entries as entries on entries.tenant_id = :tenant_id and entries.id = found.id and entries.is_live
left join books.transfers as transfers on transfers.tenant_id = entries.tenant_id and transfers.entry_id = entries.id

-- booked_twice --
-- Lines that two live entries book, one of them as the other side of a transfer: none.
select transfers.txn_id
from books.transfers as transfers
inner join books.journal_entries as entries
    on entries.tenant_id = transfers.tenant_id and entries.id = transfers.entry_id and entries.is_live
where transfers.tenant_id = :tenant_id and exists (
    select from books.journal_entries as other
    where other.tenant_id = transfers.tenant_id and other.id <> entries.id and other.is_live
        and (other.source_txn_id = transfers.txn_id or exists (
            select from books.transfers as again
            where again.tenant_id = other.tenant_id and again.entry_id = other.id and again.txn_id = transfers.txn_id
        ))
)
order by transfers.txn_id

-- decisions_of --
-- The newest decision of each line.
select distinct on (decisions.txn_id) decisions.txn_id, decisions.number, decisions.proposed_account, decisions.verdict,
    decisions.is_audited, decisions.explain -> 'transfer' ->> 'with' as other_id
from books.decisions as decisions
where decisions.tenant_id = :tenant_id and decisions.txn_id = any(cast(:ids as uuid[]))
order by decisions.txn_id, decisions.number desc
