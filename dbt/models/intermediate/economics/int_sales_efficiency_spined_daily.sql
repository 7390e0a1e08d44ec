{#- For each tenant-day the last fiscal quarter that had ended by then: the ARR it gained, and what the quarter
    before it spent on acquiring. -#}
with days as (
    select
        tenant_id,
        metric_date,
        -- The quarter that is under way on the day after: whatever ends today has ended.
        (
            date_trunc('month', metric_date + 1)
            - make_interval(months => (extract(month from metric_date + 1)::int - fiscal_year_start_month + 12) % 3)
        )::date as next_quarter_date
    from {{ ref('int_tenant_days') }}
    where metric_date >= {{ window_start() }} - 29
),

quarters as (
    select distinct
        tenant_id,
        next_quarter_date,
        (next_quarter_date - interval '3 months')::date as quarter_start_date,
        (next_quarter_date - interval '6 months')::date as quarter_before_start_date
    from days
),

costs as (
    select
        quarters.tenant_id,
        quarters.next_quarter_date,
        sum(costs.acquisition_cost) as acquisition_cost,
        sum(costs.acquisition_cost_rows) as acquisition_cost_rows
    from quarters
    inner join {{ ref('int_costs_spined_daily') }} as costs
        on costs.tenant_id = quarters.tenant_id
        and costs.metric_date >= quarters.quarter_before_start_date
        and costs.metric_date < quarters.quarter_start_date
    group by quarters.tenant_id, quarters.next_quarter_date
),

-- Null unless the sources cover both quarters from their first days.
efficiencies as materialized (
    select
        quarters.tenant_id,
        quarters.next_quarter_date,
        {% for column, name in [
            ('12 * (ends.mrr - starts.mrr)', 'arr_gained'), ('costs.acquisition_cost', 'acquisition_cost'),
            ('costs.acquisition_cost_rows', 'acquisition_cost_rows'),
        ] -%}
        case
            when ledger.covered_from_date <= quarters.quarter_start_date
                and revenue.covered_from_date <= quarters.quarter_before_start_date
                then {{ column }}
        end as {{ name }}{{ "," if not loop.last }}
        {% endfor %}
    from quarters
    inner join costs using (tenant_id, next_quarter_date)
    inner join {{ ref('int_mrr_spined_daily') }} as ends
        on ends.tenant_id = quarters.tenant_id and ends.metric_date = quarters.next_quarter_date - 1
    inner join {{ ref('int_mrr_spined_daily') }} as starts
        on starts.tenant_id = quarters.tenant_id and starts.metric_date = quarters.quarter_start_date - 1
    left join {{ ref('int_fact_coverage') }} as ledger
        on ledger.tenant_id = quarters.tenant_id and ledger.fact = 'subscription_ledger'
    left join {{ ref('int_fact_coverage') }} as revenue
        on revenue.tenant_id = quarters.tenant_id and revenue.fact = 'revenue_events'
)

select
    days.tenant_id,
    days.metric_date,
    efficiencies.arr_gained,
    efficiencies.acquisition_cost,
    efficiencies.acquisition_cost_rows
from days
inner join efficiencies using (tenant_id, next_quarter_date)
