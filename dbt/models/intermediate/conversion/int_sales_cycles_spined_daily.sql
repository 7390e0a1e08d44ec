{#- How long the deals won in the last 90 days took, and how old the open ones are, at the end of each tenant-day. -#}
with days as (
    select * from {{ ref('int_tenant_days') }} where metric_date >= {{ window_start() }}
),

deals as (
    select
        states.*,
        opportunities.created_at,
        (extract(epoch from states.closed_at - opportunities.created_at) / 86400)::numeric as cycle_days
    from {{ ref('int_deal_states') }} as states
    inner join {{ ref('stg_spine__opportunities') }} as opportunities using (tenant_id, opportunity_id)
),

won as (
    select
        days.tenant_id,
        days.metric_date,
        count(*) as won_deals,
        sum(deals.cycle_days) as won_cycle_days,
        array_agg(deals.cycle_days order by deals.cycle_days) as cycles
    from days
    inner join deals
        on deals.tenant_id = days.tenant_id
        and deals.stage = 'closed_won'
        and days.metric_date >= deals.from_date
        and days.metric_date < least(deals.to_date, deals.closed_date + 90)
    group by days.tenant_id, days.metric_date
),

first_days as (
    select tenant_id, min(metric_date) as first_date from days group by tenant_id
),

opened as (
    select
        deals.tenant_id,
        greatest(edge.edge_date, first_days.first_date) as metric_date,
        sum(edge.sign) as open_deals,
        sum(edge.sign * extract(epoch from deals.created_at)) as created_seconds
    from deals
    inner join first_days using (tenant_id)
    cross join lateral (values (deals.from_date, 1), (deals.to_date, -1)) as edge (edge_date, sign)
    where deals.is_open and edge.edge_date < {{ window_end() }}
    group by deals.tenant_id, greatest(edge.edge_date, first_days.first_date)
)

select
    days.tenant_id,
    days.metric_date,
    coalesce(won.won_deals, 0) as won_deals,
    coalesce(won.won_cycle_days, 0) as won_cycle_days,
    -- Linear between the two nearest ranks, as percentile_cont does, which would leave numeric for floating point.
    {% for name, share in [('median', 0.5), ('p90', 0.9)] -%}
    won.cycles[floor({{ share }} * (won.won_deals - 1))::int + 1]
        + (won.cycles[ceil({{ share }} * (won.won_deals - 1))::int + 1]
            - won.cycles[floor({{ share }} * (won.won_deals - 1))::int + 1])
        * ({{ share }} * (won.won_deals - 1) - floor({{ share }} * (won.won_deals - 1))) as {{ name }}_cycle_days,
    {% endfor -%}
    coalesce(sum(opened.open_deals) over since_ever, 0) as open_deals,
    (coalesce(sum(opened.open_deals) over since_ever, 0) * extract(epoch from days.day_end_at)
        - coalesce(sum(opened.created_seconds) over since_ever, 0)) / 86400 as open_deal_days
from days
left join won using (tenant_id, metric_date)
left join opened using (tenant_id, metric_date)
window since_ever as (partition by days.tenant_id order by days.metric_date)
