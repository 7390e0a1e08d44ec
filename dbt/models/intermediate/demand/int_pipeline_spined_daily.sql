{#- The open pipeline at the end of each tenant-day and what moved it that day. A deal adds to a level on the day
    it opens and takes the same away on the day that state ends: one pass over the states, then running sums. -#}
with days as (
    select tenant_id, metric_date from {{ ref('int_tenant_days') }}
),

first_days as (
    select tenant_id, min(metric_date) as first_date from days group by tenant_id
),

paid_weights as (
    select tenant_id, opportunity_id, sum(paid_weight) as paid_weight
    from {{ ref('int_deal_channels') }}
    group by tenant_id, opportunity_id
),

states as (
    select
        deals.tenant_id,
        deals.from_date,
        deals.to_date,
        deals.is_open,
        deals.was_open,
        deals.is_qualified_open,
        deals.stage,
        deals.amount,
        deals.previous_amount,
        deals.win_probability,
        deals.expected_close_date,
        coalesce(paid_weights.paid_weight, 0) as paid_weight,
        -- The part of the state inside the calendar month the deal is expected to close in.
        greatest(deals.from_date, date_trunc('month', deals.expected_close_date)::date) as closing_from_date,
        least(deals.to_date, (date_trunc('month', deals.expected_close_date) + interval '1 month')::date)
            as closing_to_date,
        first_days.first_date
    from {{ ref('int_deal_states') }} as deals
    inner join first_days using (tenant_id)
    left join paid_weights using (tenant_id, opportunity_id)
    where deals.from_date < {{ window_end() }}
),

levels as (
    select
        states.tenant_id,
        greatest(edge.edge_date, states.first_date) as metric_date,
        sum(edge.sign * states.amount) as pipeline_amount,
        sum(edge.sign) as open_deals,
        sum(edge.sign) filter (where states.amount is null) as unvalued_deals,
        sum(edge.sign * states.amount) filter (where states.is_qualified_open) as qualified_amount,
        sum(edge.sign) filter (where states.is_qualified_open) as qualified_deals,
        sum(edge.sign * states.amount * states.win_probability) as weighted_amount,
        sum(edge.sign * states.amount * states.paid_weight) as paid_amount,
        sum(edge.sign) filter (where states.paid_weight > 0) as paid_deals
    from states
    cross join lateral (values (states.from_date, 1), (states.to_date, -1)) as edge (edge_date, sign)
    where states.is_open and edge.edge_date < {{ window_end() }}
    group by states.tenant_id, greatest(edge.edge_date, states.first_date)
),

closing as (
    select
        states.tenant_id,
        greatest(edge.edge_date, states.first_date) as metric_date,
        sum(edge.sign * states.amount) as qualified_closing_this_month_amount,
        sum(edge.sign) as qualified_closing_this_month_deals
    from states
    cross join lateral (
        values (states.closing_from_date, 1), (states.closing_to_date, -1)
    ) as edge (edge_date, sign)
    where states.is_qualified_open
        and states.expected_close_date is not null
        and states.closing_from_date < states.closing_to_date
        and edge.edge_date < {{ window_end() }}
    group by states.tenant_id, greatest(edge.edge_date, states.first_date)
),

moves as (
    select
        tenant_id,
        from_date as metric_date,
        sum(amount) filter (where is_open and was_open is not true) as added_amount,
        sum(previous_amount) filter (where was_open and stage = 'closed_won') as won_amount,
        sum(previous_amount) filter (where was_open and stage = 'closed_lost') as lost_amount,
        sum(coalesce(amount, 0) - coalesce(previous_amount, 0)) filter (where is_open and was_open)
            as resized_amount
    from states
    group by tenant_id, from_date
),

daily as (
    select
        days.tenant_id,
        days.metric_date,
        {% for column in [
            'pipeline_amount', 'open_deals', 'unvalued_deals', 'qualified_amount', 'qualified_deals',
            'weighted_amount', 'paid_amount', 'paid_deals',
        ] -%}
        coalesce(sum(levels.{{ column }}) over since_ever, 0) as {{ column }},
        {% endfor -%}
        {% for column in ['qualified_closing_this_month_amount', 'qualified_closing_this_month_deals'] -%}
        coalesce(sum(closing.{{ column }}) over since_ever, 0) as {{ column }},
        {% endfor -%}
        coalesce(moves.added_amount, 0) as added_amount,
        coalesce(moves.won_amount, 0) as won_amount,
        coalesce(moves.lost_amount, 0) as lost_amount,
        coalesce(moves.resized_amount, 0) as resized_amount
    from days
    left join levels using (tenant_id, metric_date)
    left join closing using (tenant_id, metric_date)
    left join moves using (tenant_id, metric_date)
    window since_ever as (partition by tenant_id order by days.metric_date)
)

select
    *,
    lag(pipeline_amount, 30) over (partition by tenant_id order by metric_date) as pipeline_amount_30_days_before,
    {{ rolling_sums(['added_amount', 'won_amount', 'lost_amount', 'resized_amount'], days=[30]) }}
from daily
