-- Statements of banks: files, the lines that are new, and those that may be known ones told otherwise.

-- account --
select kind, currency from books.bank_accounts where tenant_id = :tenant_id and id = :id

-- hold_account --
-- Who imports into an account waits for whoever does already; whoever refers to it does not wait.
select kind, currency from books.bank_accounts where tenant_id = :tenant_id and id = :id for no key update

-- known_file --
select id, format, first_date, last_date, new_count, known_count, rejected_count, tie_out, off_minor
from books.statement_files
where tenant_id = :tenant_id and bank_account_id = :bank_account_id and sha256 = :sha256 and mapping_sha256 = :mapping_sha256

-- elsewhere --
-- The name of another account into which the same bytes were imported, with a line that nobody set aside.
select bank.name from books.statement_files as files
inner join books.bank_accounts as bank on bank.tenant_id = files.tenant_id and bank.id = files.bank_account_id
where files.tenant_id = :tenant_id and files.sha256 = :sha256 and files.bank_account_id <> :bank_account_id and exists (
        select from books.transactions as known
        where known.tenant_id = files.tenant_id and known.bank_account_id = files.bank_account_id
            and known.post_date between files.first_date and files.last_date and known.first_file_id = files.id
            and not exists (
                select from books.set_aside_lines as aside where aside.tenant_id = known.tenant_id and aside.txn_id = known.id
            )
    )
order by files.imported_at
limit 1

-- read_before --
-- Files of the same bytes that were imported into the account and read in another way.
select id from books.statement_files
where tenant_id = :tenant_id and bank_account_id = :bank_account_id and sha256 = :sha256 and mapping_sha256 <> :mapping_sha256

-- not_told_again --
-- Of these files the newest with a line that still stands and that neither other bytes told of nor the file that comes in.
select files.name, files.imported_at, bank.name as bank_account
from books.statement_files as files
inner join books.bank_accounts as bank on bank.tenant_id = files.tenant_id and bank.id = files.bank_account_id
inner join books.transactions as known
    on known.tenant_id = files.tenant_id and known.bank_account_id = files.bank_account_id and known.first_file_id = files.id
    and known.post_date between files.first_date and files.last_date
where files.tenant_id = :tenant_id and files.id = any(cast(:before as uuid[]))
    and not exists (
        select from books.set_aside_lines as aside where aside.tenant_id = known.tenant_id and aside.txn_id = known.id
    )
    and not exists (
        select from books.sightings as seen
        where seen.tenant_id = known.tenant_id and seen.txn_id = known.id and seen.file_id <> all(cast(:before as uuid[]))
    )
order by files.imported_at desc
limit 1

-- set_aside_before --
-- Lines that come in and are set aside.
select aside.txn_id from books.set_aside_lines as aside
where aside.tenant_id = :tenant_id and exists (select from incoming where incoming.id = aside.txn_id)
order by aside.txn_id

-- add_file --
insert into books.statement_files (
    tenant_id, id, bank_account_id, sha256, mapping, mapping_sha256, name, format, size_bytes, first_date, last_date,
    line_count, rejected_count, opening_minor, closing_minor, tie_out, off_minor, imported_by, imported_at
)
values (
    :tenant_id, :id, :bank_account_id, :sha256, cast(:mapping as jsonb), :mapping_sha256, :name, :format, :size_bytes,
    :first_date, :last_date, :line_count, :rejected_count, :opening_minor, :closing_minor, :tie_out, :off_minor, :actor, :at
)

-- stage --
-- What the bank does not give, an id of its own or a value date, is empty.
create temp table incoming (
    line_no int, id uuid, is_repeated boolean, content_hash bytea, occurrence int, bank_ref text, post_date date, value_date text,
    amount_minor bigint, currency text, description text, counterparty text, vendor text, reference text,
    bank_category text, card text, raw jsonb, suspected_of uuid
) on commit drop

-- copy --
copy incoming (
    line_no, id, is_repeated, content_hash, occurrence, bank_ref, post_date, value_date, amount_minor, currency, description,
    counterparty, vendor, reference, bank_category, card, raw
) from stdin

-- stage_rejected --
create temp table refused (line_no int, code text, reason text, raw text) on commit drop

-- copy_rejected --
copy refused (line_no, code, reason, raw) from stdin

-- add_rejected --
insert into books.rejected_lines (tenant_id, file_id, line_no, code, reason, raw)
select :tenant_id, :file_id, line_no, code, reason, raw from refused

-- suspect_same_id --
-- What the bank gives an id to that another line has: one of the two is a correction.
update incoming set suspected_of = found.id
from (
    select distinct on (incoming.id) incoming.id as later, earlier.id
    from incoming
    inner join books.transactions as earlier
        on earlier.tenant_id = :tenant_id and earlier.bank_account_id = :bank_account_id
        and earlier.bank_ref = incoming.bank_ref and earlier.id <> incoming.id
    order by incoming.id, earlier.created_at, earlier.first_line_no, earlier.id
) as found
where incoming.id = found.later

-- suspect_same_id_here --
-- As before, within the file.
update incoming set suspected_of = found.id
from (
    select line_no, first_value(id) over (partition by bank_ref order by line_no) as id from incoming
    where bank_ref <> ''
) as found
where incoming.line_no = found.line_no and incoming.id <> found.id and incoming.suspected_of is null

-- suspect_alike --
-- The same amount within a day, from another file, with a text that begins alike. What this file tells of too is another
-- line, and so is what has another id of the bank or another card. One of each kind is enough to suspect.
with elsewhere as (
    select distinct on (post_date, amount_minor, left(vendor, 6), card, bank_ref is null)
        id, post_date, amount_minor, left(vendor, 6) as begins, card, bank_ref is null as is_without_id
    from books.transactions as known
    where tenant_id = :tenant_id and bank_account_id = :bank_account_id
        and post_date between cast(:first_date as date) - 1 and cast(:last_date as date) + 1 and vendor <> ''
        and not exists (select from incoming where incoming.id = known.id)
    order by post_date, amount_minor, left(vendor, 6), card, bank_ref is null, id
),
found as (
    select distinct on (incoming.id) incoming.id as later, elsewhere.id
    from incoming
    inner join elsewhere
        on elsewhere.amount_minor = incoming.amount_minor and elsewhere.begins = left(incoming.vendor, 6)
    where abs(elsewhere.post_date - incoming.post_date) <= 1
        and (elsewhere.is_without_id or incoming.bank_ref = '')
        and (elsewhere.card = incoming.card or elsewhere.card = '' or incoming.card = '')
    order by incoming.id, abs(elsewhere.post_date - incoming.post_date), elsewhere.id
)
update incoming set suspected_of = found.id from found where incoming.id = found.later and incoming.suspected_of is null

-- add_transactions --
-- Whoever writes into the account waits, so nothing has to be asked twice.
with added as (
    insert into books.transactions (
        tenant_id, id, bank_account_id, content_hash, occurrence, bank_ref, post_date, value_date, amount_minor, currency,
        description, counterparty, vendor, reference, bank_category, card, raw, first_file_id, first_line_no, suspected_of,
        created_at
    )
    select :tenant_id, id, :bank_account_id, content_hash, occurrence, nullif(bank_ref, ''), post_date,
        cast(nullif(value_date, '') as date), amount_minor, currency, description, counterparty, vendor, reference,
        bank_category, card, raw, :file_id, line_no, suspected_of, :at
    from incoming
    where not is_repeated and not exists (
        select from books.transactions as known where known.tenant_id = :tenant_id and known.id = incoming.id
    )
    returning suspected_of
)
select count(*), count(suspected_of) from added

-- add_sightings --
insert into books.sightings (tenant_id, file_id, line_no, txn_id)
select :tenant_id, :file_id, incoming.line_no, incoming.id
from incoming
inner join books.transactions as known on known.tenant_id = :tenant_id and known.id = incoming.id
where (known.first_file_id, known.first_line_no) is distinct from (cast(:file_id as uuid), incoming.line_no)

-- count --
update books.statement_files set new_count = :new_count, known_count = :known_count where tenant_id = :tenant_id and id = :id
