{#- Cost of acquiring and customers won over the trailing 90 days, by kind of channel: on each day the kinds with
    either in the window, and `unattributed`, which takes what belongs to no kind of channel we know. -#}
{%- set known_channels = [
    'email', 'sms', 'paid_search', 'paid_social', 'linkedin', 'voice', 'direct_mail', 'events', 'content',
    'organic_social',
] -%}
{%- set known_or_unattributed -%}
case when attributed_channel in ('{{ known_channels | join("', '") }}') then attributed_channel else 'unattributed' end
{%- endset -%}

with days as (
    select days.tenant_id, days.metric_date
    from {{ ref('int_tenant_days') }} as days
    inner join {{ ref('int_fact_coverage') }} as coverage
        on coverage.tenant_id = days.tenant_id
        and coverage.fact = 'revenue_events'
        and days.metric_date >= coverage.covered_from_date
    where days.metric_date >= {{ window_start() }} - 118
),

costs as (
    select tenant_id, {{ known_or_unattributed }} as channel, effective_date as metric_date, amount
    from {{ ref('int_revenue_events') }}
    where is_sales_marketing_cost
),

customers as (
    select
        bookings.tenant_id,
        coalesce(channels.channel, {{ known_or_unattributed }}) as channel,
        bookings.effective_date as metric_date,
        coalesce(channels.weight, 1) as share
    from {{ ref('int_first_bookings') }} as bookings
    left join {{ ref('int_deal_channels') }} as channels using (tenant_id, opportunity_id)
),

entries as (
    select tenant_id, channel, metric_date, amount as cost, 1 as cost_rows, 0 as customers, 0 as customer_rows
    from costs
    inner join days using (tenant_id, metric_date)
    union all
    select tenant_id, channel, metric_date, 0, 0, share, 1
    from customers
    inner join days using (tenant_id, metric_date)
),

channels as (
    select distinct tenant_id, channel from entries
    union
    select distinct tenant_id, 'unattributed' from days
),

-- Days without an entry count nothing: adding them to the entries makes every window whole.
daily as (
    select
        tenant_id,
        channel,
        metric_date,
        sum(cost) as cost,
        sum(cost_rows) as cost_rows,
        sum(customers) as customers,
        sum(customer_rows) as customer_rows
    from (
        select * from entries
        union all
        select channels.tenant_id, channels.channel, days.metric_date, 0, 0, 0, 0
        from channels
        inner join days using (tenant_id)
    ) as spined
    group by tenant_id, channel, metric_date
),

quarters as (
    select
        tenant_id,
        channel,
        metric_date,
        sum(cost) over quarter as cost_t90,
        sum(cost_rows) over quarter as cost_rows_t90,
        sum(customers) over quarter as customers_t90,
        sum(customer_rows) over quarter as customer_rows_t90
    from daily
    window quarter as (
        partition by tenant_id, channel order by metric_date rows between 89 preceding and current row
    )
)

select * from quarters
where metric_date >= {{ window_start() }} - 29
    and (cost_rows_t90 > 0 or customer_rows_t90 > 0 or channel = 'unattributed')
