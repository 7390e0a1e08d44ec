{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_conversion_spined_daily'}}}) }}

-- The running sums against a plain count, on the last day.
with last_days as (
    select distinct on (tenant_id) *
    from {{ ref('int_conversion_spined_daily') }}
    order by tenant_id, metric_date desc
),

counted as (
    select
        last_days.tenant_id,
        count(*) as closed_deals,
        coalesce(sum(deals.amount) filter (where deals.stage = 'closed_won'), 0) as won_amount
    from last_days
    inner join {{ ref('int_deal_states') }} as deals
        on deals.tenant_id = last_days.tenant_id
        and deals.from_date <= last_days.metric_date
        and deals.to_date > last_days.metric_date
        and deals.closed_date > last_days.metric_date - 90
    group by last_days.tenant_id
)

select last_days.tenant_id, last_days.metric_date
from last_days
left join counted using (tenant_id)
where last_days.closed_deals <> coalesce(counted.closed_deals, 0)
    or last_days.won_amount <> coalesce(counted.won_amount, 0)
