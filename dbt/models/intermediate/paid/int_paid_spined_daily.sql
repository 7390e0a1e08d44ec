{#- What paid channels cost and brought on each tenant-day, with the sums of the trailing windows. -#}
with days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

paid_channels as (
    select tenant_id, channel_id
    from {{ ref('stg_spine__campaign_channels') }}
    where is_paid and {{ in_scope() }}
),

spend as (
    select
        spend.tenant_id,
        spend.spend_date as metric_date,
        count(*) as spend_rows,
        sum({{ converted('spend.spend', 'spend.currency') }}) as spend,
        sum(spend.impressions) as impressions,
        sum(spend.clicks) as clicks,
        sum(spend.leads) as leads,
        sum(spend.opportunities) as opportunities
    from {{ ref('stg_spine__channel_spend') }} as spend
    inner join paid_channels using (tenant_id, channel_id)
    {{ fx_join('spend', 'currency', 'spend.spend_date') }}
    where {{ in_scope('spend.tenant_id') }}
    group by spend.tenant_id, spend.spend_date
),

revenue as (
    select
        tenant_id,
        effective_date as metric_date,
        sum(net_revenue * paid_share) as revenue,
        count(*) filter (where paid_share > 0) as revenue_events
    from {{ ref('int_paid_revenue_events') }}
    group by tenant_id, effective_date
),

customers as (
    select
        bookings.tenant_id,
        bookings.effective_date as metric_date,
        sum(events.paid_share) as weighted_customers,
        count(*) filter (where events.paid_share > 0) as customers
    from {{ ref('int_first_bookings') }} as bookings
    inner join {{ ref('int_paid_revenue_events') }} as events using (tenant_id, revenue_event_id)
    group by bookings.tenant_id, bookings.effective_date
),

-- From this day on every source of ad spend is covered, so that no spend means none.
complete_from as (
    select tenant_id, max(covered_from_date) as complete_from_date
    from {{ ref('stg_ops__source_coverage') }}
    where fact = 'channel_spend_daily' and {{ in_scope() }}
    group by tenant_id
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        complete_from.complete_from_date,
        exists (select from paid_channels where paid_channels.tenant_id = days.tenant_id) as has_paid_channel,
        {% for column in ['spend_rows', 'spend', 'impressions', 'clicks', 'leads', 'opportunities'] -%}
        coalesce(spend.{{ column }}, 0) as {{ column }},
        {% endfor -%}
        coalesce(revenue.revenue, 0) as revenue,
        coalesce(revenue.revenue_events, 0) as revenue_events,
        coalesce(customers.weighted_customers, 0) as weighted_customers,
        coalesce(customers.customers, 0) as customers
    from days
    left join spend using (tenant_id, metric_date)
    left join revenue using (tenant_id, metric_date)
    left join customers using (tenant_id, metric_date)
    left join complete_from using (tenant_id)
)

select
    *,
    {{ rolling_sums([
        'spend_rows', 'spend', 'impressions', 'clicks', 'leads', 'revenue', 'revenue_events',
    ]) }},
    {{ rolling_sums(['opportunities'], days=[30]) }},
    {{ rolling_sums(['weighted_customers', 'customers'], days=[90]) }}
from daily
