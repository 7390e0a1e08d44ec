-- What people say of bank lines: labels, and the queues of lines that wait for a person.

-- hold_lines --
-- In the order of their ids: of two who settle the same lines one waits for the other.
select lines.id, lines.post_date, lines.amount_minor, lines.currency, lines.description, lines.vendor, bank.account_code as bank_code,
    exists (
        select from books.set_aside_lines as aside where aside.tenant_id = lines.tenant_id and aside.txn_id = lines.id
    ) as is_set_aside
from books.transactions as lines
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where lines.tenant_id = :tenant_id and lines.id = any(cast(:ids as uuid[]))
order by lines.id
for no key update of lines

-- unknown_accounts --
select asked.code from unnest(cast(:codes as text[])) as asked (code)
where not exists (
    select from books.accounts
    where accounts.tenant_id = :tenant_id and accounts.code = asked.code and accounts.is_active
)
order by asked.code

-- write_labels --
insert into books.labels (tenant_id, txn_id, number, account_code, source, decision_number, labelled_by, labelled_at)
select :tenant_id, given.txn_id, coalesce(newest.number, 0) + 1, given.account_code, :source, given.decision_number, :by, :at
from unnest(cast(:ids as uuid[]), cast(:codes as text[]), cast(:numbers as bigint[]))
    as given (txn_id, account_code, decision_number)
left join lateral (
    select max(labels.number) as number from books.labels as labels
    where labels.tenant_id = :tenant_id and labels.txn_id = given.txn_id
) as newest on true

-- newest_labels --
select distinct on (labels.txn_id) labels.txn_id, labels.account_code, labels.source, labels.labelled_by, labels.labelled_at
from books.labels as labels
where labels.tenant_id = :tenant_id and labels.txn_id = any(cast(:ids as uuid[]))
order by labels.txn_id, labels.number desc

-- waiting --
-- Lines whose newest decision nobody answered, and that are not booked: the most money at risk first, each with how many
-- there are in all by their first reason; of one that nobody calibrated all of it is at risk. A line that passed its gates waits too until something may post it.
with waiting as (
    select newest.*, lines.post_date, lines.amount_minor, lines.currency, lines.description,
        (abs(lines.amount_minor) * (1 - coalesce(newest.calibrated_p, 0)))::bigint as at_risk_minor
    from (
        select distinct on (decisions.txn_id) decisions.* from books.decisions as decisions
        where decisions.tenant_id = :tenant_id
        order by decisions.txn_id, decisions.number desc
    ) as newest
    inner join books.transactions as lines on lines.tenant_id = newest.tenant_id and lines.id = newest.txn_id
    where (cast(:reason as text) is null or :reason = any(newest.failures))
        and (cast(:vendor as text) is null or newest.vendor = :vendor)
        and (not cast(:only_passed as boolean) or newest.verdict <> 'review')
        and not exists (
            select from books.labels as labels where labels.tenant_id = newest.tenant_id and labels.txn_id = newest.txn_id
        )
        and not exists (
            select from books.settled_lines as settled
            where settled.tenant_id = newest.tenant_id and settled.txn_id = newest.txn_id
        )
)
select number, txn_id, vendor, proposed_account, calibrated_p, verdict, not_auto_post_reason, failures, post_date, amount_minor,
    currency, description, at_risk_minor, (
        select jsonb_object_agg(reason, counted)
        from (
            select coalesce(not_auto_post_reason, 'passed') as reason, count(*) as counted from waiting
            group by reason
        ) as by_reason
    ) as counted
from waiting
order by at_risk_minor desc, txn_id
limit :most

-- waiting_for_audit --
-- Lines that were drawn from those that were posted, and that no person looked at or set aside since.
select newest.number, newest.txn_id, newest.vendor, newest.proposed_account, newest.calibrated_p, newest.verdict,
    newest.not_auto_post_reason, newest.failures, lines.post_date, lines.amount_minor, lines.currency, lines.description,
    (abs(lines.amount_minor) * (1 - coalesce(newest.calibrated_p, 0)))::bigint as at_risk_minor,
    jsonb_build_object('passed', count(*) over ()) as counted
from (
    select distinct on (decisions.txn_id) decisions.* from books.decisions as decisions
    where decisions.tenant_id = :tenant_id
    order by decisions.txn_id, decisions.number desc
) as newest
inner join books.transactions as lines on lines.tenant_id = newest.tenant_id and lines.id = newest.txn_id
where newest.is_audited
    and not exists (
        select from books.labels as labels where labels.tenant_id = newest.tenant_id and labels.txn_id = newest.txn_id
    )
    and not exists (
        select from books.set_aside_lines as aside where aside.tenant_id = newest.tenant_id and aside.txn_id = newest.txn_id
    )
order by at_risk_minor desc, newest.txn_id
limit :most

-- waiting_for_another --
-- Approved by one person, above the amount for which two are needed.
select entries.id as entry_id, entries.source_txn_id as txn_id, entries.approved_by, entries.entry_date, lines.post_date, lines.amount_minor,
    lines.currency, lines.description, lines.vendor
from books.journal_entries as entries
inner join books.transactions as lines on lines.tenant_id = entries.tenant_id and lines.id = entries.source_txn_id
where entries.tenant_id = :tenant_id and entries.status = 'approved'
order by abs(lines.amount_minor) desc, entries.id

-- explained --
-- Decisions of a line, the newest first, with the line itself.
select decisions.*, lines.post_date, lines.amount_minor, lines.currency, lines.description, lines.counterparty, lines.suspected_of
from books.decisions as decisions
inner join books.transactions as lines on lines.tenant_id = decisions.tenant_id and lines.id = decisions.txn_id
where decisions.tenant_id = :tenant_id and decisions.txn_id = :id
order by decisions.number desc
limit 1
