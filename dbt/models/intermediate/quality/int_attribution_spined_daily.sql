{#- Rows that should name a campaign, and those that do not, over the 30 days to each tenant-day. -#}
with attributable as (
    select tenant_id, occurred_date as metric_date, campaign_id
    from {{ ref('stg_spine__events') }}
    where event_type in ('lead_created', 'mql_reached', 'landing_form_submit', 'meeting_booked') and {{ in_scope() }}
    union all
    select tenant_id, effective_date, campaign_id
    from {{ ref('int_revenue_events') }}
    where revenue_type in ('new_booking', 'expansion')
),

counted as (
    select
        tenant_id,
        metric_date,
        count(*) as attributable_rows,
        count(*) filter (where campaign_id is null) as missing_rows
    from attributable
    group by tenant_id, metric_date
)

select
    days.tenant_id,
    days.metric_date,
    coalesce(sum(counted.attributable_rows) over month, 0) as attributable_rows,
    coalesce(sum(counted.missing_rows) over month, 0) as missing_rows
from {{ ref('int_tenant_days') }} as days
left join counted using (tenant_id, metric_date)
window month as (partition by days.tenant_id order by days.metric_date rows between 29 preceding and current row)
