{#- What acquiring and serving customers cost on each tenant-day, the customers won, and the revenue that is not
    recurring, with the sums of the trailing windows, from the first day that revenue events cover. -#}
with coverage as (
    select tenant_id, covered_from_date from {{ ref('int_fact_coverage') }} where fact = 'revenue_events'
),

days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

-- What finance said of a month holds for the next ones until it closes them, three at most.
cost_shares as (
    select distinct on (finance.tenant_id, share.month_start_date)
        finance.tenant_id,
        share.month_start_date,
        finance.variable_cost_share
    from {{ ref('stg_spine__finance_inputs') }} as finance
    cross join generate_series(0, 3) as months_back
    cross join lateral (
        values ((finance.month_start_date + make_interval(months => months_back))::date)
    ) as share (month_start_date)
    where {{ in_scope('finance.tenant_id') }}
    order by finance.tenant_id, share.month_start_date, months_back
),

events as (
    select
        events.tenant_id,
        events.effective_date,
        events.revenue_type,
        events.amount,
        events.net_revenue,
        events.is_sales_marketing_cost,
        -- Null when nobody said how much of the cost varies with revenue.
        case
            when not events.is_cost or events.cost_class = 'fixed' then 0
            when events.cost_class = 'variable' or events.revenue_type = 'cogs' then events.amount
            else events.amount * cost_shares.variable_cost_share
        end as variable_cost
    from {{ ref('int_revenue_events') }} as events
    left join cost_shares
        on cost_shares.tenant_id = events.tenant_id
        and cost_shares.month_start_date = date_trunc('month', events.effective_date)::date
    inner join coverage
        on coverage.tenant_id = events.tenant_id and events.effective_date >= coverage.covered_from_date
    where events.is_cost or events.revenue_type in ('other_revenue', 'refund', 'discount')
),

event_days as (
    select
        tenant_id,
        effective_date as metric_date,
        sum(amount) filter (where is_sales_marketing_cost) as acquisition_cost,
        count(*) filter (where is_sales_marketing_cost) as acquisition_cost_rows,
        sum(amount) filter (where revenue_type = 'cogs') as cogs,
        count(*) filter (where revenue_type = 'cogs') as cogs_rows,
        sum(variable_cost) as variable_cost,
        count(*) filter (where variable_cost is null) as unclassed_cost_rows,
        sum(net_revenue) as single_revenue
    from events
    group by tenant_id, effective_date
),

customers as (
    select bookings.tenant_id, bookings.effective_date as metric_date, count(*) as new_customers
    from {{ ref('int_first_bookings') }} as bookings
    inner join coverage
        on coverage.tenant_id = bookings.tenant_id and bookings.effective_date >= coverage.covered_from_date
    group by bookings.tenant_id, bookings.effective_date
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        {% for column in [
            'acquisition_cost', 'acquisition_cost_rows', 'cogs', 'cogs_rows', 'variable_cost',
            'unclassed_cost_rows', 'single_revenue',
        ] -%}
        coalesce(event_days.{{ column }}, 0) as {{ column }},
        {% endfor -%}
        coalesce(customers.new_customers, 0) as new_customers
    from days
    left join event_days using (tenant_id, metric_date)
    left join customers using (tenant_id, metric_date)
)

select
    *,
    {{ rolling_sums(['cogs', 'cogs_rows', 'single_revenue'], days=[30, 90]) }},
    {{ rolling_sums([
        'acquisition_cost', 'acquisition_cost_rows', 'new_customers', 'variable_cost', 'unclassed_cost_rows',
    ], days=[90]) }}
from daily
