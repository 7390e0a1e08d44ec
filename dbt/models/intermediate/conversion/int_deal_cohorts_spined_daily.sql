{#- Of the deals created in the 90 days that have had twice the median cycle to close, how many stand won. -#}
with cohorts as (
    select cycles.tenant_id, cycles.metric_date, created_date::date as created_date
    from {{ ref('int_sales_cycles_spined_daily') }} as cycles
    cross join generate_series(
        cycles.metric_date - cycles.maturity_days - 89, cycles.metric_date - cycles.maturity_days, interval '1 day'
    ) as created_date
),

created as (
    select tenant_id, created_date, count(*) as deals
    from {{ ref('stg_spine__opportunities') }}
    where {{ in_scope() }}
    group by tenant_id, created_date
),

-- A deal is in one state a day, so that no day counts it twice.
won as (
    select opportunities.tenant_id, opportunities.created_date, states.from_date, states.to_date, count(*) as deals
    from {{ ref('int_deal_states') }} as states
    inner join {{ ref('stg_spine__opportunities') }} as opportunities using (tenant_id, opportunity_id)
    where states.stage = 'closed_won'
    group by opportunities.tenant_id, opportunities.created_date, states.from_date, states.to_date
),

created_deals as (
    select cohorts.tenant_id, cohorts.metric_date, sum(created.deals) as created_deals
    from cohorts
    inner join created using (tenant_id, created_date)
    group by cohorts.tenant_id, cohorts.metric_date
),

won_deals as (
    select cohorts.tenant_id, cohorts.metric_date, sum(won.deals) as won_deals
    from cohorts
    inner join won using (tenant_id, created_date)
    where cohorts.metric_date >= won.from_date and cohorts.metric_date < won.to_date
    group by cohorts.tenant_id, cohorts.metric_date
)

-- Without a median there is no cohort; with one it may be empty, which is another thing.
select
    cycles.tenant_id,
    cycles.metric_date,
    case when cycles.maturity_days is not null then coalesce(created_deals.created_deals, 0) end as created_deals,
    case when cycles.maturity_days is not null then coalesce(won_deals.won_deals, 0) end as won_deals
from {{ ref('int_sales_cycles_spined_daily') }} as cycles
left join created_deals using (tenant_id, metric_date)
left join won_deals using (tenant_id, metric_date)
