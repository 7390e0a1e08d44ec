-- What the metrics of the books are made of: decisions of a window, each transaction by its newest one, and what people said.

-- decided --
-- A row for each transaction decided in the window and not set aside, with the newest label that a person gave after the decision.
select distinct on (decisions.txn_id)
    decisions.txn_id, decisions.number, decisions.decided_at, decisions.vendor, decisions.proposed_account, decisions.raw_p,
    decisions.calibrated_p, decisions.threshold, decisions.verdict, decisions.not_auto_post_reason, decisions.failures,
    decisions.is_audited, decisions.is_new_vendor, decisions.ruleset_version, decisions.model_version,
    decisions.calibrator_version, decisions.config_version, transactions.amount_minor, transactions.currency,
    transactions.post_date, transactions.card, label.account_code as label, label.source as label_source, label.labelled_at,
    exists (
        select from books.journal_entries as entries
        where entries.tenant_id = decisions.tenant_id and entries.source_txn_id = decisions.txn_id
            and entries.is_live and entries.status = 'posted'
    ) or exists (
        select from books.transfers as transfers
        inner join books.journal_entries as entries
            on entries.tenant_id = transfers.tenant_id and entries.id = transfers.entry_id
        where transfers.tenant_id = decisions.tenant_id and transfers.txn_id = decisions.txn_id
            and entries.is_live and entries.status = 'posted'
    ) as is_posted
from books.decisions as decisions
inner join books.transactions as transactions
    on transactions.tenant_id = decisions.tenant_id and transactions.id = decisions.txn_id
left join lateral (
    select account_code, source, labelled_at from books.labels as labels
    where labels.tenant_id = decisions.tenant_id and labels.txn_id = decisions.txn_id
        and labels.labelled_at > decisions.decided_at and labels.labelled_at <= cast(:at as timestamptz)
    order by labels.number desc
    limit 1
) as label on true
where decisions.tenant_id = :tenant_id
    and decisions.decided_at >= cast(:starts as timestamptz) and decisions.decided_at < cast(:ends as timestamptz)
    and not exists (
        select from books.set_aside_lines as aside
        where aside.tenant_id = decisions.tenant_id and aside.txn_id = decisions.txn_id
    )
order by decisions.txn_id, decisions.number desc

-- imbalanced --
-- Posted entries that do not balance to the minor unit: none, or a guard of the database was taken off.
select count(*) from (
    select entries.id
    from books.journal_entries as entries
    left join books.journal_lines as lines on lines.tenant_id = entries.tenant_id and lines.entry_id = entries.id
    where entries.tenant_id = :tenant_id and entries.status = 'posted'
    group by entries.id
    having count(lines.line_no) < 2 or sum(lines.debit_minor) <> sum(lines.credit_minor)
) as found

-- reconciled --
-- Bank lines of the window's days that nobody set aside and no entry was made from, and how many of them stand for a posted entry.
select count(*) as lines, count(*) filter (where matched.is_matched) as matched
from books.transactions as transactions
cross join lateral (
    select exists (
        select from books.reconciliation_matches as matches
        inner join books.journal_entries as entries on entries.tenant_id = matches.tenant_id and entries.id = matches.entry_id
        where matches.tenant_id = transactions.tenant_id and matches.txn_id = transactions.id
            and entries.status = 'posted' and entries.is_live and entries.source_txn_id is distinct from transactions.id
    ) as is_matched
) as matched
where transactions.tenant_id = :tenant_id and transactions.post_date >= :first_date and transactions.post_date < :end_date
    and not exists (
        select from books.journal_entries as own
        where own.tenant_id = transactions.tenant_id and own.source_txn_id = transactions.id and own.is_live
            and own.status = 'posted'
    )
    and not exists (
        select from books.set_aside_lines as aside
        where aside.tenant_id = transactions.tenant_id and aside.txn_id = transactions.id
    )
    and not exists (
        select from books.transfers as transfers
        inner join books.journal_entries as own on own.tenant_id = transfers.tenant_id and own.id = transfers.entry_id
        where transfers.tenant_id = transactions.tenant_id and transfers.txn_id = transactions.id and own.is_live
            and own.status = 'posted'
    )

-- called --
-- Calls to a language model in the window, and what they cost in millionths of a US dollar; of those not settled, the worst.
select count(*) as calls, coalesce(sum(coalesce(spent_micros, reserved_micros)), 0)::bigint as micros
from books.llm_calls
where tenant_id = :tenant_id and status <> 'released'
    and reserved_at >= cast(:starts as timestamptz) and reserved_at < cast(:ends as timestamptz)

-- posted_by_itself --
select count(*) from books.journal_entries
where tenant_id = :tenant_id and status = 'posted' and is_live and posted_by like :machine
