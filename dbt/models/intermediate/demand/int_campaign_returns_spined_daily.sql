{#- Revenue attributed to each campaign and what was spent on it over the trailing 90 days, on every day on which the
    window holds either. -#}
with days as (
    select tenant_id, metric_date
    from {{ ref('int_tenant_days') }}
    where metric_date >= {{ window_start() }} - 118
),

bounds as (
    select tenant_id, min(metric_date) as first_date, max(metric_date) as last_date from days group by tenant_id
),

campaign_days as (
    select
        events.tenant_id,
        events.campaign_id,
        events.effective_date as metric_date,
        count(*) as events,
        sum(events.net_revenue) as revenue,
        coalesce(sum(events.amount) filter (where events.revenue_type = 'marketing_spend'), 0) as spend,
        count(*) filter (where events.revenue_type = 'marketing_spend') as spend_events
    from {{ ref('int_revenue_events') }} as events
    inner join bounds
        on bounds.tenant_id = events.tenant_id
        and events.effective_date between bounds.first_date and bounds.last_date
    where events.campaign_id is not null
        and events.revenue_type in (
            'new_booking', 'expansion', 'other_revenue', 'refund', 'discount', 'marketing_spend'
        )
    group by events.tenant_id, events.campaign_id, events.effective_date
),

-- Only as many days as a campaign matters, so that short campaigns cost little.
lifetimes as (
    select tenant_id, campaign_id, min(metric_date) as first_date, max(metric_date) + 89 as last_date
    from campaign_days
    group by tenant_id, campaign_id
),

-- Every day of a campaign, eventful or not: appended, for a join of so many keys is easily planned badly.
dense_days as (
    select tenant_id, campaign_id, metric_date, events, revenue, spend, spend_events from campaign_days
    union all
    select lifetimes.tenant_id, lifetimes.campaign_id, days.metric_date, 0, 0, 0, 0
    from lifetimes
    inner join days
        on days.tenant_id = lifetimes.tenant_id
        and days.metric_date between lifetimes.first_date and lifetimes.last_date
),

daily as (
    select
        tenant_id,
        metric_date,
        campaign_id,
        sum(sum(events)) over quarter as events_t90,
        sum(sum(revenue)) over quarter as revenue_t90,
        sum(sum(spend)) over quarter as spend_t90,
        sum(sum(spend_events)) over quarter as spend_events_t90
    from dense_days
    group by tenant_id, campaign_id, metric_date
    window quarter as (
        partition by tenant_id, campaign_id order by metric_date rows between 89 preceding and current row
    )
)

select tenant_id, metric_date, campaign_id, revenue_t90, spend_t90, spend_events_t90
from daily
where events_t90 > 0 and metric_date >= {{ window_start() }} - 29
