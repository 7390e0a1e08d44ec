{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_pipeline_spined_daily'}}}) }}

-- The running sums against a plain count of the open deals, on the last day.
with last_days as (
    select distinct on (tenant_id) *
    from {{ ref('int_pipeline_spined_daily') }}
    order by tenant_id, metric_date desc
),

counted as (
    select
        last_days.tenant_id,
        count(*) as open_deals,
        coalesce(sum(deals.amount), 0) as pipeline_amount,
        coalesce(sum(deals.amount) filter (
            where deals.is_qualified_open
                and date_trunc('month', deals.expected_close_date) = date_trunc('month', last_days.metric_date)
        ), 0) as qualified_closing_this_month_amount
    from last_days
    inner join {{ ref('int_deal_states') }} as deals
        on deals.tenant_id = last_days.tenant_id
        and deals.is_open
        and deals.from_date <= last_days.metric_date
        and deals.to_date > last_days.metric_date
    group by last_days.tenant_id
)

select last_days.tenant_id, last_days.metric_date
from last_days
left join counted using (tenant_id)
where last_days.open_deals <> coalesce(counted.open_deals, 0)
    or last_days.pipeline_amount <> coalesce(counted.pipeline_amount, 0)
    or last_days.qualified_closing_this_month_amount <> coalesce(counted.qualified_closing_this_month_amount, 0)
