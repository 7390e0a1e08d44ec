{#- How long the deals won in the last 90 days took, and how old the open ones are, at the end of each tenant-day. -#}
with days as (
    select * from {{ ref('int_tenant_days') }} where metric_date >= {{ window_start() }}
),

deals as (
    select
        states.*,
        opportunities.created_at,
        extract(epoch from states.closed_at - opportunities.created_at) as cycle_seconds
    from {{ ref('int_deal_states') }} as states
    inner join {{ ref('stg_spine__opportunities') }} as opportunities using (tenant_id, opportunity_id)
),

won as (
    select
        deals.tenant_id,
        day::date as metric_date,
        count(*) as won_deals,
        sum(deals.cycle_seconds) as won_cycle_seconds,
        array_agg(deals.cycle_seconds order by deals.cycle_seconds) as cycles
    from deals
    -- The days the deal stands won and was won in the last 90 days.
    cross join generate_series(
        greatest(deals.from_date, {{ window_start() }}),
        least(deals.to_date, deals.closed_date + 90, {{ window_end() }}) - 1,
        interval '1 day'
    ) as day
    where deals.stage = 'closed_won'
    group by deals.tenant_id, day
),

-- Linear between the two nearest ranks, as percentile_cont does, which would leave numeric for floating point.
percentiles as (
    select
        tenant_id,
        metric_date,
        won_deals,
        won_cycle_seconds,
        {% for name, share in [('median', 0.5), ('p90', 0.9)] -%}
        cycles[floor({{ share }} * (won_deals - 1))::int + 1]
            + (cycles[ceil({{ share }} * (won_deals - 1))::int + 1]
                - cycles[floor({{ share }} * (won_deals - 1))::int + 1])
            * ({{ share }} * (won_deals - 1) - floor({{ share }} * (won_deals - 1))) as {{ name }}_cycle_seconds
            {{- "," if not loop.last }}
        {% endfor -%}
    from won
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
    coalesce(percentiles.won_deals, 0) as won_deals,
    coalesce(percentiles.won_cycle_seconds / 86400, 0) as won_cycle_days,
    percentiles.median_cycle_seconds / 86400 as median_cycle_days,
    percentiles.p90_cycle_seconds / 86400 as p90_cycle_days,
    -- least() passes over a null, and a day without a median has no cohort.
    case when percentiles.median_cycle_seconds is not null then
        least(ceil(2 * percentiles.median_cycle_seconds / 86400), 365)::int
    end as maturity_days,
    coalesce(sum(opened.open_deals) over since_ever, 0) as open_deals,
    (coalesce(sum(opened.open_deals) over since_ever, 0) * extract(epoch from days.day_end_at)
        - coalesce(sum(opened.created_seconds) over since_ever, 0)) / 86400 as open_deal_days
from days
left join percentiles using (tenant_id, metric_date)
left join opened using (tenant_id, metric_date)
window since_ever as (partition by days.tenant_id order by days.metric_date)
