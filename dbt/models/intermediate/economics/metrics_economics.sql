{{ config(materialized='view') }}

with daily as (
    select
        days.tenant_id,
        days.metric_date,
        mrr.mrr,
        mrr.paying_accounts,
        mrr.new_accounts_t90,
        mrr.new_mrr_t90,
        {% for column in ['kept_mrr', 'cohort_mrr', 'cohort_accounts'] -%}
        case when ledger.covered_from_date <= days.metric_date - 365 then mrr.{{ column }} end as {{ column }},
        {% endfor -%}
        mrr.lost_mrr_t365,
        mrr.covered_mrr_t365,
        mrr.accrued_revenue_t30 + costs.single_revenue_t30 as revenue_t30,
        mrr.accrued_revenue_t90 + costs.single_revenue_t90 as revenue_t90,
        costs.cogs_t30,
        costs.cogs_rows_t30,
        costs.cogs_t90,
        costs.cogs_rows_t90,
        costs.variable_cost_t90,
        costs.unclassed_cost_rows_t90,
        costs.acquisition_cost_t90,
        costs.acquisition_cost_rows_t90,
        costs.new_customers_t90,
        {#- How many days of a window its sources speak for. -#}
        least(days.metric_date - ledger.covered_from_date + 1, 365) as ledger_days_t365,
        {% for n in [30, 90] -%}
        least(days.metric_date - greatest(ledger.covered_from_date, revenue.covered_from_date) + 1, {{ n }})
            as margin_days_t{{ n }}{{ "," if not loop.last }}
        {% endfor %}
    from {{ ref('int_tenant_days') }} as days
    inner join {{ ref('int_mrr_spined_daily') }} as mrr using (tenant_id, metric_date)
    inner join {{ ref('int_costs_spined_daily') }} as costs using (tenant_id, metric_date)
    left join {{ ref('int_fact_coverage') }} as ledger
        on ledger.tenant_id = days.tenant_id and ledger.fact = 'subscription_ledger'
    left join {{ ref('int_fact_coverage') }} as revenue
        on revenue.tenant_id = days.tenant_id and revenue.fact = 'revenue_events'
    where days.metric_date >= {{ window_start() }} - 29
),

-- What the derived metrics are made of: null where a part has no value itself.
parts as (
    select
        *,
        {{ acquisition_cost_status('acquisition_cost_t90', 'acquisition_cost_rows_t90', 'new_customers_t90') }}
            as cac_status,
        case when acquisition_cost_rows_t90 > 0 then acquisition_cost_t90 / nullif(new_customers_t90, 0) end as cac,
        {% for n in [30, 90] -%}
        case when revenue_t{{ n }} > 0 and cogs_rows_t{{ n }} > 0 then
            (revenue_t{{ n }} - cogs_t{{ n }}) / revenue_t{{ n }}
        end as gross_margin_t{{ n }},
        {% endfor -%}
        case when unclassed_cost_rows_t90 = 0 then revenue_t90 - variable_cost_t90 end as contribution_t90,
        lost_mrr_t365 * 365 / 12 / nullif(ledger_days_t365, 0) as lost_mrr_per_month,
        covered_mrr_t365 / nullif(ledger_days_t365, 0) as mean_mrr
    from daily
),

unit_economics as (
    select
        *,
        new_mrr_t90 / nullif(new_accounts_t90, 0) * gross_margin_t90 as new_account_margin,
        case when churn_rate > 0 then least(1 / churn_rate, 60) when churn_rate <= 0 then 60 end as lifetime_months
    from (
        select *, case when ledger_days_t365 >= 90 then lost_mrr_per_month / nullif(mean_mrr, 0) end as churn_rate
        from parts
    ) as churned
),

lifetimes as (
    select *, mrr * gross_margin_t90 * lifetime_months as lifetime_margin from unit_economics
),

totals as (
    select economics.tenant_id, economics.metric_date, metric.*
    from lifetimes as economics
    cross join lateral (values
        {{ state('mrr_total', 'economics.mrr', 'economics.paying_accounts') }},
        {{ state('arr_total', '12 * economics.mrr', 'economics.paying_accounts') }},
        {{ ratio('net_revenue_retention', 'economics.kept_mrr', 'economics.cohort_mrr',
                 sample='economics.cohort_accounts', window=365) }},
        {% for id in ['cac_blended', 'cac_by_channel'] -%}
        {{ metric(id, 'economics.cac', 'economics.cac_status', 'economics.acquisition_cost_t90',
                  'economics.new_customers_t90', 'economics.new_customers_t90', 90) }},
        {% endfor -%}
        {% for id, scale in [('gross_margin', 1), ('gross_margin_pct', 100)] -%}
        {% for n, dimension in [(90, '{}'), (30, '{"window": "T30"}')] -%}
        {{ metric(id, 'economics.gross_margin_t' ~ n ~ (' * 100' if scale == 100 else ''),
                  "case when economics.gross_margin_t" ~ n ~ " is null then 'undefined' else 'ok' end",
                  'economics.revenue_t' ~ n ~ ' - economics.cogs_t' ~ n, 'economics.revenue_t' ~ n,
                  'economics.margin_days_t' ~ n, n, "'" ~ dimension ~ "'::jsonb") }},
        {% endfor -%}
        {% endfor -%}
        {{ metric('contribution_margin_pct', 'economics.contribution_t90 / nullif(economics.revenue_t90, 0) * 100',
                  "case when economics.contribution_t90 is null or economics.revenue_t90 <= 0 then 'undefined'"
                  ~ " else 'ok' end",
                  'economics.contribution_t90', 'economics.revenue_t90', 'economics.margin_days_t90', 90) }},
        {{ metric('payback_months', 'economics.cac / nullif(economics.new_account_margin, 0)',
                  "case when economics.cac_status = 'infinite' or economics.new_account_margin <= 0 then 'infinite'"
                  ~ " when economics.cac is null or economics.new_account_margin is null then 'undefined'"
                  ~ " else 'ok' end",
                  'economics.cac', 'economics.new_account_margin', 'economics.new_accounts_t90', 90) }},
        {{ ratio('churn_rate', 'economics.lost_mrr_per_month', 'economics.mean_mrr',
                 sample='economics.ledger_days_t365', window=365, minimum=90) }},
        {{ ratio('ltv_avg', 'economics.lifetime_margin', 'economics.paying_accounts', window=365) }},
        {{ ratio('ltv_to_cac', 'economics.lifetime_margin / nullif(economics.paying_accounts, 0)', 'economics.cac',
                 sample='economics.new_customers_t90', window=365) }}
    ) as {{ metric_columns() }}
),

flows as (
    select mrr.tenant_id, mrr.metric_date, metric.*
    from {{ ref('int_mrr_spined_daily') }} as mrr
    inner join {{ ref('int_bookings_daily') }} as bookings using (tenant_id, metric_date)
    cross join lateral (values
        {{ flow('bookings_new', 'bookings.bookings_amount', 'bookings.booking_rows') }},
        {{ flow('bookings_count', 'bookings.bookings_count') }},
        {{ flow('expansion_revenue', 'mrr.expansion_arr', 'mrr.expansion_entries') }},
        {{ flow('churn_revenue', 'mrr.churned_arr', 'mrr.churned_entries') }}
    ) as {{ metric_columns() }}
    where mrr.metric_date >= {{ window_start() }} - 29
),

channels as (
    select channels.tenant_id, channels.metric_date, metric.*
    from {{ ref('int_acquisition_channels_spined_daily') }} as channels
    cross join lateral (values
        {{ metric('cac_by_channel', 'channels.cost_t90 / nullif(channels.customers_t90, 0)',
                  acquisition_cost_status('channels.cost_t90', 'channels.cost_rows_t90', 'channels.customers_t90'),
                  'channels.cost_t90', 'channels.customers_t90', 'channels.customer_rows_t90', 90,
                  "jsonb_build_object('channel', channels.channel)") }}
    ) as {{ metric_columns() }}
),

deals as (
    select days.tenant_id, days.metric_date, metric.*
    from {{ ref('int_tenant_days') }} as days
    left join {{ ref('int_deal_sizes_spined_daily') }} as deals using (tenant_id, metric_date)
    cross join lateral (values
        {{ ratio('avg_deal_size', 'coalesce(deals.won_amount, 0)', 'coalesce(deals.won_deals, 0)', window=90) }},
        {{ metric('avg_deal_size', 'deals.median_amount',
                  "case when deals.won_deals is null then 'undefined' else 'ok' end", 'deals.median_amount',
                  sample='deals.won_deals', window=90, dimension="'{\"stat\": \"median\"}'::jsonb") }}
    ) as {{ metric_columns() }}
    where days.metric_date >= {{ window_start() }} - 29
),

finance as (
    select finance.tenant_id, finance.metric_date, metric.*
    from (
        select
            finance.tenant_id,
            finance.metric_date,
            finance.finance_status,
            {#- Nothing is said of a month that is too old. -#}
            {% for column in ['headcount_fte', 'cash_balance', 'net_burn', 'burn_months'] -%}
            case when finance.finance_status = 'ok' then finance.{{ column }} end as {{ column }},
            {% endfor -%}
            case when finance.finance_status = 'ok' then 12 * mrr.mrr end as arr
        from {{ ref('int_finance_spined_daily') }} as finance
        inner join {{ ref('int_mrr_spined_daily') }} as mrr using (tenant_id, metric_date)
    ) as finance
    cross join lateral (values
        {{ metric('revenue_per_fte', 'finance.arr / nullif(finance.headcount_fte, 0)',
                  "case when finance.finance_status <> 'ok' then finance.finance_status"
                  ~ " when coalesce(finance.headcount_fte, 0) = 0 then 'undefined' else 'ok' end",
                  'finance.arr', 'finance.headcount_fte', "(finance.finance_status = 'ok')::int", 30) }},
        {{ metric('burn_rate', 'finance.net_burn',
                  "case when finance.finance_status <> 'ok' then finance.finance_status"
                  ~ " when finance.net_burn is null then 'undefined' else 'ok' end",
                  'finance.net_burn', sample='finance.burn_months', window=90) }},
        {{ metric('cash_runway_months', 'finance.cash_balance / nullif(finance.net_burn, 0)',
                  "case when finance.finance_status <> 'ok' then finance.finance_status"
                  ~ " when finance.cash_balance is null or finance.net_burn is null then 'undefined'"
                  ~ " when finance.net_burn <= 0 then 'not_applicable' else 'ok' end",
                  'finance.cash_balance', 'finance.net_burn', 'finance.burn_months', 90) }}
    ) as {{ metric_columns() }}
),

sales_efficiency as (
    select quarters.tenant_id, quarters.metric_date, metric.*
    from {{ ref('int_sales_efficiency_spined_daily') }} as quarters
    cross join lateral (values
        {{ ratio('sales_efficiency_ratio', 'quarters.arr_gained', 'quarters.acquisition_cost',
                 sample='quarters.acquisition_cost_rows', window=90) }}
    ) as {{ metric_columns() }}
)

select * from totals
union all
select * from flows
union all
select * from channels
union all
select * from deals
union all
select * from finance
union all
select * from sales_efficiency
