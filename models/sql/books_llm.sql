-- What language models may cost: reservations before calls, what the calls were, and months in which a cap was hit.

-- decided --
-- Transactions decided about since an instant.
select count(distinct txn_id) from books.decisions
where tenant_id = :tenant_id and decided_at >= cast(:since as timestamptz) and decided_at <= cast(:at as timestamptz)

-- hold_all --
-- Of those who reserve, of whatever tenant, one at a time: what all have spent is a sum over their months.
select pg_advisory_xact_lock(hashtextextended('books.llm_months', 0))

-- spent_by_all --
select coalesce(sum(reserved_micros + spent_micros), 0)::bigint from books.llm_months where year_month = :month

-- begin_month --
insert into books.llm_months (tenant_id, year_month) values (:tenant_id, :month) on conflict do nothing

-- hold_month --
select reserved_micros, spent_micros, fallback_reason, fallback_since, fallback_cap from books.llm_months
where tenant_id = :tenant_id and year_month = :month
for update

-- calls --
select count(*) from books.llm_calls
where tenant_id = :tenant_id and status <> 'released'
    and reserved_at >= cast(:since as timestamptz) and reserved_at <= cast(:at as timestamptz)

-- reserve --
update books.llm_months set reserved_micros = reserved_micros + :micros
where tenant_id = :tenant_id and year_month = :month

-- add_call --
insert into books.llm_calls (tenant_id, id, txn_id, year_month, model, cache_key, reserved_micros, reserved_at)
values (:tenant_id, :id, :txn_id, :month, :model, :cache_key, :micros, :at)

-- settle --
-- The call and its month in one statement: a call is settled or released once.
with settled as (
    update books.llm_calls
    set status = :status, spent_micros = :spent, prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens,
        answer = cast(:answer as jsonb), settled_at = :at
    where tenant_id = :tenant_id and id = :id and status = 'reserved'
    returning year_month, reserved_micros, coalesce(spent_micros, 0) as spent_micros
)
update books.llm_months as months
set reserved_micros = months.reserved_micros - settled.reserved_micros, spent_micros = months.spent_micros + settled.spent_micros
from settled
where months.tenant_id = :tenant_id and months.year_month = settled.year_month
returning settled.spent_micros

-- forgotten --
-- Calls that nobody settled since an instant, with what they may have cost.
select id, reserved_micros from books.llm_calls
where tenant_id = :tenant_id and status = 'reserved' and reserved_at < cast(:before as timestamptz)
order by reserved_at, id
for update skip locked

-- fall_back --
update books.llm_months set fallback_reason = :reason, fallback_since = :at, fallback_cap = :cap
where tenant_id = :tenant_id and year_month = :month

-- fallen_back --
-- Months in which a cap was hit and whose fallback was not taken back yet.
select year_month, fallback_reason, fallback_since, fallback_cap from books.llm_months
where tenant_id = :tenant_id and fallback_reason is not null
order by year_month
for update

-- month --
select reserved_micros + spent_micros as micros, spent_micros, fallback_reason, fallback_since from books.llm_months
where tenant_id = :tenant_id and year_month = :month

-- answers --
-- What was answered before to the same question.
select distinct on (cache_key) cache_key, answer from books.llm_calls
where tenant_id = :tenant_id and status = 'settled' and answer is not null and cache_key = any(cast(:keys as text[]))
order by cache_key, settled_at desc

-- unknown --
-- Lines that wait and of whose vendor nobody said anything, those of the most frequent vendors first.
with labelled as materialized (
    select distinct lines.vendor
    from books.labels as labels
    inner join books.transactions as lines on lines.tenant_id = labels.tenant_id and lines.id = labels.txn_id
    where labels.tenant_id = :tenant_id and lines.vendor <> ''
)
select lines.id, lines.bank_account_id, lines.post_date, lines.amount_minor, lines.currency, lines.description,
    lines.counterparty, lines.vendor, lines.card, lines.bank_category
from books.transactions as lines
where lines.tenant_id = :tenant_id
    and not exists (select from labelled where labelled.vendor = lines.vendor)
    and not exists (
        select from books.labels as labels where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id
    )
    and not exists (
        select from books.settled_lines as settled
        where settled.tenant_id = lines.tenant_id and settled.txn_id = lines.id
    )
order by lines.vendor = '', count(*) over (partition by lines.vendor, lines.amount_minor < 0) desc, lines.vendor,
    lines.post_date, lines.id

-- noted --
-- What the newest decisions of lines note of a language model.
select distinct on (txn_id) txn_id, explain -> 'llm' ->> 'model' as model, explain -> 'llm' ->> 'account' as account
from books.decisions
where tenant_id = :tenant_id and txn_id = any(cast(:ids as uuid[]))
order by txn_id, number desc

-- accounts --
-- What a line may be booked to: not what lines come of.
select accounts.code, accounts.name, accounts.type from books.accounts as accounts
where accounts.tenant_id = :tenant_id and accounts.is_active and not exists (
        select from books.bank_accounts as bank
        where bank.tenant_id = accounts.tenant_id and bank.account_code = accounts.code
    )
order by accounts.code
