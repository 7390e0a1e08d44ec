{#- Recurring revenue at the end of each tenant-day, what moved it, and how much of last year's is kept. The balance
    knows every entry; what is set against other sums is of the days the ledger covers, which leaves out the entries
    that open the books. -#}
with coverage as (
    select tenant_id, covered_from_date
    from {{ ref('int_fact_coverage') }}
    where fact = 'subscription_ledger'
),

days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

first_days as (
    select tenant_id, min(metric_date) as first_date from days group by tenant_id
),

balances as (
    select
        tenant_id,
        account_id,
        effective_date,
        sum(mrr_delta) as mrr_delta,
        sum(sum(mrr_delta)) over (partition by tenant_id, account_id order by effective_date) as mrr
    from {{ ref('int_mrr_changes') }}
    group by tenant_id, account_id, effective_date
),

-- What an account paid 365 days ago changes 365 days after each of its entries: laid on the same time line,
-- one running sum tells both, and their product changes only on these days.
edges as (
    select tenant_id, account_id, effective_date as edge_date, mrr_delta, 0 as cohort_delta
    from balances
    union all
    select tenant_id, account_id, effective_date + 365, 0, greatest(mrr, 0) - greatest(mrr - mrr_delta, 0)
    from balances
),

moments as (
    select
        tenant_id,
        account_id,
        edge_date,
        sum(sum(mrr_delta)) over account as mrr,
        sum(sum(cohort_delta)) over account as cohort_mrr
    from edges
    where edge_date < {{ window_end() }}
    group by tenant_id, account_id, edge_date
    window account as (partition by tenant_id, account_id order by edge_date)
),

account_levels as (
    select
        tenant_id,
        account_id,
        edge_date,
        mrr,
        (mrr > 0)::int as is_paying,
        cohort_mrr,
        (cohort_mrr > 0)::int as is_cohort,
        case when cohort_mrr > 0 then mrr else 0 end as kept_mrr
    from moments
),

account_changes as (
    select
        tenant_id,
        edge_date,
        {% for column in ['mrr', 'is_paying', 'cohort_mrr', 'is_cohort', 'kept_mrr'] -%}
        {{ column }} - lag({{ column }}, 1, 0) over account as {{ column }}_delta{{ "," if not loop.last }}
        {% endfor %}
    from account_levels
    window account as (partition by tenant_id, account_id order by edge_date)
),

levels as (
    select
        account_changes.tenant_id,
        greatest(account_changes.edge_date, first_days.first_date) as metric_date,
        sum(account_changes.mrr_delta) as mrr,
        sum(account_changes.is_paying_delta) as paying_accounts,
        sum(account_changes.cohort_mrr_delta) as cohort_mrr,
        sum(account_changes.is_cohort_delta) as cohort_accounts,
        sum(account_changes.kept_mrr_delta) as kept_mrr
    from account_changes
    inner join first_days using (tenant_id)
    group by account_changes.tenant_id, greatest(account_changes.edge_date, first_days.first_date)
),

covered_changes as (
    select changes.*
    from {{ ref('int_mrr_changes') }} as changes
    inner join coverage
        on coverage.tenant_id = changes.tenant_id and changes.effective_date >= coverage.covered_from_date
),

flows as (
    select
        tenant_id,
        effective_date as metric_date,
        sum(mrr_delta) filter (where reason = 'new') as new_mrr,
        12 * sum(mrr_delta) filter (where reason = 'expansion') as expansion_arr,
        sum(entries) filter (where reason = 'expansion') as expansion_entries,
        -12 * sum(mrr_delta) filter (where reason = 'churn') as churned_arr,
        sum(entries) filter (where reason = 'churn') as churned_entries,
        -sum(mrr_delta) filter (where reason in ('churn', 'contraction')) as lost_mrr
    from covered_changes
    group by tenant_id, effective_date
),

-- An account counts once in 90 days, however often it was new: its day stands in the windows that end from that
-- day until its next one enters, or until it leaves after 90 days.
new_account_days as (
    select
        tenant_id,
        effective_date,
        lead(effective_date) over (partition by tenant_id, account_id order by effective_date) as next_date
    from covered_changes
    where reason = 'new'
),

new_account_changes as (
    select
        new_account_days.tenant_id,
        greatest(edge.edge_date, first_days.first_date) as metric_date,
        sum(edge.sign) as new_accounts_t90
    from new_account_days
    inner join first_days using (tenant_id)
    cross join lateral (values
        (new_account_days.effective_date, 1),
        (least(new_account_days.next_date, new_account_days.effective_date + 90), -1)
    ) as edge (edge_date, sign)
    group by new_account_days.tenant_id, greatest(edge.edge_date, first_days.first_date)
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        {% for column in ['mrr', 'paying_accounts', 'cohort_mrr', 'cohort_accounts', 'kept_mrr'] -%}
        coalesce(sum(levels.{{ column }}) over since_ever, 0) as {{ column }},
        {% endfor -%}
        coalesce(sum(new_account_changes.new_accounts_t90) over since_ever, 0) as new_accounts_t90,
        {% for column in [
            'new_mrr', 'expansion_arr', 'expansion_entries', 'churned_arr', 'churned_entries', 'lost_mrr',
        ] -%}
        coalesce(flows.{{ column }}, 0) as {{ column }}{{ "," if not loop.last }}
        {% endfor %}
    from days
    left join levels using (tenant_id, metric_date)
    left join new_account_changes using (tenant_id, metric_date)
    left join flows using (tenant_id, metric_date)
    window since_ever as (partition by days.tenant_id order by days.metric_date)
),

accrued as (
    select
        daily.*,
        case when daily.metric_date >= coverage.covered_from_date then daily.mrr else 0 end as covered_mrr,
        case when daily.metric_date >= coverage.covered_from_date then
            daily.mrr
            / extract(day from date_trunc('month', daily.metric_date) + interval '1 month' - interval '1 day')
        else 0 end as accrued_revenue
    from daily
    left join coverage using (tenant_id)
)

select
    *,
    {{ rolling_sums(['expansion_arr', 'expansion_entries', 'churned_arr', 'churned_entries']) }},
    {{ rolling_sums(['accrued_revenue'], days=[30, 90]) }},
    {{ rolling_sums(['new_mrr'], days=[90]) }},
    {{ rolling_sums(['covered_mrr', 'lost_mrr'], days=[365]) }}
from accrued
