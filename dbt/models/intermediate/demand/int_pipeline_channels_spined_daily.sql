{#- The open pipeline of each kind of channel at the end of each tenant-day, by what the channel earned of each deal.
    A deal without any attribution belongs to `unattributed` whole, which has a row on every day; another channel
    has one while an open deal is attributed to it. -#}
with days as (
    select tenant_id, metric_date
    from {{ ref('int_tenant_days') }}
    where metric_date >= {{ window_start() }} - 29
),

bounds as (
    select tenant_id, min(metric_date) as first_date, max(metric_date) as last_date from days group by tenant_id
),

shares as (
    select
        deals.tenant_id,
        coalesce(channels.channel, 'unattributed') as channel,
        deals.from_date,
        deals.to_date,
        deals.amount * coalesce(channels.weight, 1) as amount
    from {{ ref('int_deal_states') }} as deals
    left join {{ ref('int_deal_channels') }} as channels using (tenant_id, opportunity_id)
    where deals.is_open
),

changes as (
    select
        shares.tenant_id,
        shares.channel,
        greatest(edge.edge_date, bounds.first_date) as metric_date,
        sum(edge.sign * shares.amount) as pipeline_amount,
        sum(edge.sign) as open_deals
    from shares
    inner join bounds using (tenant_id)
    cross join lateral (values (shares.from_date, 1), (shares.to_date, -1)) as edge (edge_date, sign)
    where edge.edge_date <= bounds.last_date
    group by shares.tenant_id, shares.channel, greatest(edge.edge_date, bounds.first_date)
),

tenant_channels as (
    select tenant_id, channel from changes
    union
    select tenant_id, 'unattributed' from bounds
),

-- Every day of every channel, changed or not: appended, for a join of so many keys is easily planned badly.
dense_changes as (
    select tenant_id, channel, metric_date, pipeline_amount, open_deals from changes
    union all
    select days.tenant_id, tenant_channels.channel, days.metric_date, 0, 0
    from days
    inner join tenant_channels using (tenant_id)
),

daily as (
    select
        tenant_id,
        channel,
        metric_date,
        coalesce(sum(sum(pipeline_amount)) over since_ever, 0) as pipeline_amount,
        sum(sum(open_deals)) over since_ever as open_deals
    from dense_changes
    group by tenant_id, channel, metric_date
    window since_ever as (partition by tenant_id, channel order by metric_date)
)

select tenant_id, metric_date, channel, pipeline_amount, open_deals
from daily
where open_deals > 0 or channel = 'unattributed'
