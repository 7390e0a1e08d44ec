-- Decisions: what is known of lines when they are decided about, and the log of what was decided.

-- lines --
select lines.id, lines.bank_account_id, lines.post_date, lines.amount_minor, lines.currency, lines.description,
    lines.counterparty, lines.vendor, lines.card, lines.bank_category
from books.transactions as lines
where lines.tenant_id = :tenant_id and lines.id = any(cast(:ids as uuid[]))
order by lines.post_date, lines.id

-- about_lines --
select lines.id, bank.account_code as bank_code, lines.suspected_of is not null as is_suspected, exists (
        select from books.labels as labels where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id
    ) as is_labelled
from books.transactions as lines
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where lines.tenant_id = :tenant_id and lines.id = any(cast(:ids as uuid[]))

-- vendor_labels --
-- What was said before an instant of these vendors' lines, by sign: how many lines, and the last labels, newest first.
with label as materialized (
    select distinct on (txn_id) txn_id, account_code, labelled_at from books.labels
    where tenant_id = :tenant_id and labelled_at < cast(:at as timestamptz)
    order by txn_id, number desc
)
select vendor, is_out, max(place)::int as label_count, array_agg(account_code order by place) filter (where place <= :last) as last
from (
    select lines.vendor, lines.amount_minor < 0 as is_out, label.account_code, row_number() over (
            partition by lines.vendor, lines.amount_minor < 0
            order by label.labelled_at desc, lines.post_date desc, lines.id
        ) as place
    from label
    inner join books.transactions as lines on lines.tenant_id = :tenant_id and lines.id = label.txn_id
    where lines.vendor = any(cast(:vendors as text[])) and lines.vendor <> ''
) as labelled
group by vendor, is_out

-- vendor_amounts --
-- Median and median absolute deviation of log |amount| of these vendors' lines of two years, by sign and currency.
with amounts as materialized (
    select vendor, amount_minor < 0 as is_out, currency, post_date, ln(abs(amount_minor))::float8 as size
    from books.transactions
    where tenant_id = :tenant_id and vendor = any(cast(:vendors as text[])) and vendor <> ''
        and post_date > cast(:until as date) - 730 and post_date <= :until
), medians as (
    select vendor, is_out, currency, count(*)::int as count, min(post_date) as first_on,
        percentile_cont(0.5) within group (order by size) as median
    from amounts
    group by vendor, is_out, currency
)
select medians.vendor, medians.is_out, medians.currency, medians.count, medians.first_on, medians.median,
    percentile_cont(0.5) within group (order by abs(amounts.size - medians.median)) as mad
from medians
inner join amounts using (vendor, is_out, currency)
group by medians.vendor, medians.is_out, medians.currency, medians.count, medians.first_on, medians.median

-- unanswered --
-- Lines of some days that are neither labelled nor booked: among them are the two sides of transfers.
select lines.id, lines.post_date, lines.amount_minor, lines.currency, bank.account_code
from books.transactions as lines
inner join books.bank_accounts as bank on bank.tenant_id = lines.tenant_id and bank.id = lines.bank_account_id
where lines.tenant_id = :tenant_id and lines.post_date between :first_on and :last_on
    and not exists (
        select from books.labels as labels where labels.tenant_id = lines.tenant_id and labels.txn_id = lines.id
    )
    and not exists (
        select from books.settled_lines as settled
        where settled.tenant_id = lines.tenant_id and settled.txn_id = lines.id
    )
order by lines.post_date, lines.id

-- write --
insert into books.decisions (
    tenant_id, number, txn_id, run_id, decided_at, vendor, proposed_account, raw_p, calibrated_p, threshold, verdict,
    not_auto_post_reason, failures, is_audited, label_count, is_new_vendor, ruleset_version, model_version,
    calibrator_version, config_version, feature_hash, explain, previous_hash, hash
)
select :tenant_id, number, txn_id, :run_id, :at, vendor, proposed_account, raw_p, calibrated_p, :threshold, verdict,
    not_auto_post_reason, string_to_array(failures, ','), is_audited, label_count, is_new_vendor, :ruleset_version,
    model_version, :calibrator_version, :config_version, feature_hash, explain, previous_hash, hash
from unnest(
    cast(:number as bigint[]), cast(:txn_id as uuid[]), cast(:vendor as text[]), cast(:proposed_account as text[]),
    cast(:raw_p as numeric[]), cast(:calibrated_p as numeric[]), cast(:verdict as text[]),
    cast(:not_auto_post_reason as text[]), cast(:failures as text[]), cast(:is_audited as boolean[]),
    cast(:label_count as int[]), cast(:is_new_vendor as boolean[]), cast(:model_version as text[]),
    cast(:feature_hash as text[]), cast(:explain as jsonb[]), cast(:previous_hash as text[]), cast(:hash as text[])
) as given (
    number, txn_id, vendor, proposed_account, raw_p, calibrated_p, verdict, not_auto_post_reason, failures, is_audited,
    label_count, is_new_vendor, model_version, feature_hash, explain, previous_hash, hash
)

-- write_confidence --
insert into books.decision_confidence (tenant_id, number, confidence, seen)
select :tenant_id, number, confidence, seen
from unnest(
    cast(:numbers as bigint[]), cast(:confidence as numeric[]), cast(:seen as bytea[])
) as given (number, confidence, seen)

-- certificate --
select number, threshold, expires_at, reason from books.certificates
where tenant_id = :tenant_id
order by number desc
limit 1

-- locked_months --
select year_month from books.periods where tenant_id = :tenant_id and state = 'LOCKED'

-- bank_accounts --
select count(*) from books.bank_accounts where tenant_id = :tenant_id

-- newest_in --
-- The newest decisions of lines decided in a window, as a candidate for a rule is tried on them.
select distinct on (decisions.txn_id) decisions.txn_id, decisions.proposed_account, decisions.verdict,
    decisions.not_auto_post_reason, decisions.is_new_vendor, decisions.feature_hash, decisions.model_version, decisions.explain
from books.decisions as decisions
where decisions.tenant_id = :tenant_id and decisions.decided_at >= cast(:since as timestamptz)
order by decisions.txn_id, decisions.number desc
