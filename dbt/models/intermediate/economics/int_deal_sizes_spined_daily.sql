{#- Amounts of the deals that stand won at the end of each tenant-day and were won in the 90 days before it. -#}
with days as (
    select tenant_id, metric_date
    from {{ ref('int_tenant_days') }}
    where metric_date >= {{ window_start() }} - 29
),

won as (
    select tenant_id, amount, from_date, least(to_date, closed_date + 90) as until_date
    from {{ ref('int_deal_states') }}
    where stage = 'closed_won' and amount is not null and least(to_date, closed_date + 90) > {{ window_start() }} - 29
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
