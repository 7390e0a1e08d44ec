{#- Amounts of the deals that stand won at the end of each tenant-day and were won in the 90 days before it. -#}
with days as (
    select tenant_id, metric_date
    from {{ ref('int_tenant_days') }}
    where metric_date >= {{ window_start() }} - 29
),

won as (
    select
        deals.tenant_id,
        deals.amount,
        deals.from_date,
        least(deals.to_date, deals.closed_date + 90) as until_date
    from {{ ref('int_deal_states') }} as deals
    inner join {{ ref('int_fact_coverage') }} as coverage
        on coverage.tenant_id = deals.tenant_id
        and coverage.fact = 'opportunity_stage_history'
        and deals.closed_date >= coverage.covered_from_date
    where deals.stage = 'closed_won'
        and deals.amount is not null
        and least(deals.to_date, deals.closed_date + 90) > {{ window_start() }} - 29
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        count(*) as won_deals,
        sum(won.amount) as won_amount,
        array_agg(won.amount order by won.amount) as amounts
    from days
    inner join won
        on won.tenant_id = days.tenant_id and days.metric_date >= won.from_date and days.metric_date < won.until_date
    group by days.tenant_id, days.metric_date
)

select
    tenant_id,
    metric_date,
    won_deals,
    won_amount,
    -- percentile_cont would leave numeric for floating point.
    (amounts[(won_deals + 1) / 2] + amounts[won_deals / 2 + 1]) / 2 as median_amount
from daily
