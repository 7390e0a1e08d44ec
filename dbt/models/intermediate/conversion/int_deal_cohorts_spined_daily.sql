{#- Of the deals created in the 90 days that have had twice the median cycle to close, how many stand won. -#}
with days as (
    select
        tenant_id,
        metric_date,
        least(ceil(2 * median_cycle_days), 365)::int as maturity_days
    from {{ ref('int_sales_cycles_spined_daily') }}
    where median_cycle_days is not null
),

won as (
    select tenant_id, opportunity_id, from_date, to_date
    from {{ ref('int_deal_states') }}
    where stage = 'closed_won'
)

select
    days.tenant_id,
    days.metric_date,
    count(distinct opportunities.opportunity_id) as created_deals,
    count(distinct won.opportunity_id) as won_deals
from days
inner join {{ ref('stg_spine__opportunities') }} as opportunities
    on opportunities.tenant_id = days.tenant_id
    and opportunities.created_date > days.metric_date - days.maturity_days - 90
    and opportunities.created_date <= days.metric_date - days.maturity_days
left join won
    on won.tenant_id = opportunities.tenant_id
    and won.opportunity_id = opportunities.opportunity_id
    and days.metric_date >= won.from_date
    and days.metric_date < won.to_date
group by days.tenant_id, days.metric_date
