{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_paid_spined_daily'}}}) }}

-- A join that doubles or loses rows shows here first.
with counted as (
    select spend.tenant_id, spend.spend_date as metric_date, count(*) as spend_rows
    from {{ ref('stg_spine__channel_spend') }} as spend
    inner join {{ ref('stg_spine__campaign_channels') }} as channels using (tenant_id, channel_id)
    where channels.is_paid and {{ in_scope('spend.tenant_id') }}
    group by spend.tenant_id, spend.spend_date
)

select daily.tenant_id, daily.metric_date
from {{ ref('int_paid_spined_daily') }} as daily
left join counted using (tenant_id, metric_date)
where daily.spend_rows <> coalesce(counted.spend_rows, 0)
