-- Evidence for stages and canaries, from what is stored.

-- set_up --
select
    (select count(*) from books.accounts where tenant_id = :tenant_id and is_active) as accounts,
    (select count(*) from books.bank_accounts where tenant_id = :tenant_id) as bank_accounts,
    (select count(*) from books.transactions where tenant_id = :tenant_id) as lines,
    (select count(*) from spine.user_tenants where tenant_id = :tenant_id) as people,
    (select count(*) from books.calibrators where tenant_id = :tenant_id and method <> 'none') as calibrators

-- audited --
-- Of what was posted under an approval, the lines that were drawn and looked at, the newest first.
select decisions.proposed_account = label.account_code as is_right
from books.decisions as decisions
cross join lateral (
    select labels.account_code, labels.labelled_at from books.labels as labels
    where labels.tenant_id = decisions.tenant_id and labels.txn_id = decisions.txn_id and labels.labelled_at > decisions.decided_at
    order by labels.number desc
    limit 1
) as label
where decisions.tenant_id = :tenant_id and decisions.is_audited and decisions.decided_at >= cast(:since as timestamptz)
order by label.labelled_at desc
limit :most

-- passed --
-- Lines that passed every gate since an instant, and what people said of them afterwards. Of what was posted only the
-- part that was drawn is told: the rest has a label where somebody found it wrong.
select decisions.proposed_account = label.account_code as is_right
from books.decisions as decisions
cross join lateral (
    select labels.account_code from books.labels as labels
    where labels.tenant_id = decisions.tenant_id and labels.txn_id = decisions.txn_id and labels.labelled_at > decisions.decided_at
    order by labels.number desc
    limit 1
) as label
where decisions.tenant_id = :tenant_id and decisions.decided_at >= cast(:since as timestamptz)
    and (decisions.verdict = 'would_post' or decisions.is_audited)

-- compared --
-- What two versions said of the same lines since an instant, beside what people said: decided by one, noted from the other.
select decisions.model_version, decisions.ruleset_version, decisions.calibrator_version, decisions.verdict,
    decisions.not_auto_post_reason, decisions.raw_p, decisions.proposed_account = label.account_code as is_right,
    (decisions.explain -> 'shadow' ->> 'account') is not distinct from label.account_code as is_other_right,
    label.account_code is not null as is_labelled, (decisions.explain -> 'shadow' ->> 'p')::float8 as other_p
from books.decisions as decisions
left join lateral (
    select labels.account_code from books.labels as labels
    where labels.tenant_id = decisions.tenant_id and labels.txn_id = decisions.txn_id and labels.labelled_at > decisions.decided_at
    order by labels.number desc
    limit 1
) as label on true
where decisions.tenant_id = :tenant_id and decisions.decided_at >= cast(:since as timestamptz)
    and decisions.explain ? 'shadow' and not decisions.explain ? 'transfer'
