-- Posted entries on their way to other programs: what a target has not got yet, batches, and whole ledgers.

-- hold_target --
-- Of those who reserve for a target, one at a time.
select pg_advisory_xact_lock(hashtextextended(concat('books.export_log:', cast(:tenant_id as uuid), ':', cast(:target as text)), 0))

-- waiting --
-- Posted entries that the target has not got, the oldest first. Each is looked up: a log that has just grown is taken for
-- an empty one, and a join with it would compare all with all.
select entries.id, entries.entry_date, entries.currency, entries.memo, entries.reverses_id
from books.journal_entries as entries
where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.entry_date <= :through
    and (cast(:currency as text) is null or entries.currency = :currency)
    and (
        select log.place from books.export_log as log
        where log.tenant_id = entries.tenant_id and log.target = :target and log.entry_id = entries.id
    ) is null
order by entries.entry_date, entries.id
limit :most

-- replaced --
-- Entries that book a bank line anew, each with the one that was reversed before it.
with reversed as materialized (
    select id, source_txn_id, posted_at from books.journal_entries
    where tenant_id = :tenant_id and status = 'posted' and not is_live and source_txn_id is not null
)
select distinct on (entries.id) entries.id, reversed.id as replaces_id
from books.journal_entries as entries
inner join reversed using (source_txn_id)
where entries.tenant_id = :tenant_id and entries.status = 'posted' and reversed.id <> entries.id
    and (entries.is_live or reversed.posted_at < entries.posted_at)
order by entries.id, reversed.posted_at desc, reversed.id

-- lines --
select lines.entry_id, lines.account_code, accounts.name, lines.debit_minor, lines.credit_minor, lines.memo
from books.journal_lines as lines
inner join books.accounts as accounts on accounts.tenant_id = lines.tenant_id and accounts.code = lines.account_code
where lines.tenant_id = :tenant_id and lines.entry_id = any(cast(:ids as uuid[]))
order by lines.entry_id, lines.line_no

-- add_batch --
insert into books.export_batches (
    tenant_id, id, target, file_name, sha256, entry_count, skipped_count, line_count, requested_by, requested_at
) values (
    :tenant_id, :id, :target, :file_name, :sha256, :entry_count, :skipped_count, :line_count, :actor, :at
)

-- add_file --
insert into books.export_files (tenant_id, batch_id, content) values (:tenant_id, :id, :content)

-- add_log --
insert into books.export_log (tenant_id, target, batch_id, entry_id, external_id, place)
select :tenant_id, :target, :id, given.entry_id, given.external_id, given.place
from unnest(cast(:entries as uuid[]), cast(:external_ids as text[])) with ordinality as given (entry_id, external_id, place)

-- counts --
-- What the target got, and what it cannot take.
select count(place) as logged, count(*) filter (where place is null and currency <> cast(:currency as text)) as left_out
from (
    select entries.currency, (
            select log.place from books.export_log as log
            where log.tenant_id = entries.tenant_id and log.target = :target and log.entry_id = entries.id
        ) as place
    from books.journal_entries as entries
    where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.entry_date <= :through
) as told

-- pending --
select id from books.export_batches
where tenant_id = :tenant_id and target = :target and status = 'pending'
order by requested_at, id

-- hold_batch --
-- Whoever puts the file in its place holds the batch: the others find it done.
select batches.*, files.content from books.export_batches as batches
inner join books.export_files as files on files.tenant_id = batches.tenant_id and files.batch_id = batches.id
where batches.tenant_id = :tenant_id and batches.id = :id
for update of batches

-- confirm --
update books.export_batches set status = 'exported', exported_at = :at
where tenant_id = :tenant_id and id = :id and status = 'pending'

-- batches --
select * from books.export_batches
where tenant_id = :tenant_id
order by requested_at desc, id

-- content --
select batches.sha256, files.content from books.export_batches as batches
inner join books.export_files as files on files.tenant_id = batches.tenant_id and files.batch_id = batches.id
where batches.tenant_id = :tenant_id and batches.id = :id

-- posted_lines --
-- Every line that was posted up to a day, entry by entry.
select entries.id, entries.entry_date, entries.currency, entries.memo, entries.reverses_id,
    lines.account_code, lines.debit_minor, lines.credit_minor, lines.memo as line_memo
from books.journal_entries as entries
inner join books.journal_lines as lines on lines.tenant_id = entries.tenant_id and lines.entry_id = entries.id
where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.entry_date <= :last
order by entries.entry_date, entries.id, lines.line_no

-- lines_by_account --
-- As posted_lines, account by account, each with what it held before the days and an account of which nothing was posted
-- in them too: one row without an entry.
with before as (
    select lines.account_code, entries.currency, sum(lines.debit_minor - lines.credit_minor)::bigint as opening
    from books.journal_entries as entries
    inner join books.journal_lines as lines on lines.tenant_id = entries.tenant_id and lines.entry_id = entries.id
    where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.entry_date < :first
    group by lines.account_code, entries.currency
), within as (
    select lines.account_code, entries.currency, entries.id, entries.entry_date, entries.memo, lines.line_no,
        lines.debit_minor, lines.credit_minor, lines.memo as line_memo
    from books.journal_entries as entries
    inner join books.journal_lines as lines on lines.tenant_id = entries.tenant_id and lines.entry_id = entries.id
    where entries.tenant_id = :tenant_id and entries.status = 'posted' and entries.entry_date between :first and :last
)
select accounts.code, accounts.name, currency, coalesce(before.opening, 0) as opening, within.id, within.entry_date, within.memo,
    within.debit_minor, within.credit_minor, within.line_memo
from before
full join within using (account_code, currency)
inner join books.accounts as accounts on accounts.tenant_id = :tenant_id and accounts.code = account_code
where cast(:code as text) is null or accounts.code = :code
order by accounts.code, currency, within.entry_date, within.id, within.line_no

-- accounts --
select code, name, type from books.accounts where tenant_id = :tenant_id order by code

-- first_date --
select min(entry_date) from books.journal_entries where tenant_id = :tenant_id and status = 'posted' and entry_date <= :last
