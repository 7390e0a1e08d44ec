-- Rules of a tenant: those that are active, and what people's labels say for one.

-- active --
select id, match, pattern, conditions, account_code, category, priority from books.rules
where tenant_id = :tenant_id and status = 'active'
order by id

-- hold --
select id, match, pattern, conditions, account_code, category, priority, status, proposed_by, evidence from books.rules
where tenant_id = :tenant_id and id = :id
for update

-- listed --
select id, match, pattern, conditions, account_code, category, priority, status, evidence, proposed_by, decided_by, decided_at, created_at
from books.rules
where tenant_id = :tenant_id and (cast(:status as text) is null or status = :status)
order by created_at, id

-- chart --
-- Accounts in use, and what each means.
select code, name, type, category from books.accounts where tenant_id = :tenant_id and is_active order by code

-- propose --
insert into books.rules (
    tenant_id, id, match, pattern, conditions, account_code, category, priority, evidence, proposed_by, created_at
)
values (
    :tenant_id, :id, :match, :pattern, cast(:conditions as jsonb), :account_code, :category, :priority,
    cast(:evidence as jsonb), :by, :at
)

-- settle --
update books.rules set status = :status, decided_by = :by, decided_at = :at, evidence = cast(:evidence as jsonb)
where tenant_id = :tenant_id and id = :id

-- labelled_history --
-- Lines with the newest thing that a person said of each.
select lines.id, lines.bank_account_id, lines.post_date, lines.amount_minor, lines.currency, lines.description,
    lines.counterparty, lines.vendor, lines.card, lines.bank_category, label.account_code
from books.transactions as lines
cross join lateral (
    select labels.account_code from books.labels as labels
    where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id
    order by labels.number desc
    limit 1
) as label
where lines.tenant_id = :tenant_id
order by lines.post_date, lines.id

-- vendors_that_agree --
-- Vendors whose labels nearly always name one account, and that no rule is about: what may become a rule.
select vendor, (array_agg(account_code order by times desc, account_code))[1] as account_code, sum(times)::int as times
from (
    select lines.vendor, label.account_code, count(*) as times
    from books.transactions as lines
    cross join lateral (
        select labels.account_code from books.labels as labels
        where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id
        order by labels.number desc
        limit 1
    ) as label
    where lines.tenant_id = :tenant_id and lines.vendor <> ''
    group by lines.vendor, label.account_code
) as counted
where not exists (
    select from books.rules
    where rules.tenant_id = :tenant_id and rules.match = 'exact_vendor' and rules.pattern = counted.vendor
        and rules.status in ('candidate', 'active')
)
group by vendor
having sum(times) >= :least
order by times desc, vendor
