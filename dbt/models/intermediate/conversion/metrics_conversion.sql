{{ config(materialized='view') }}

with counted as (
    select daily.tenant_id, daily.metric_date, metric.*
    from {{ ref('int_conversion_spined_daily') }} as daily
    cross join lateral (values
        {{ ratio('win_rate', 'won_deals', 'closed_deals', window=90, minimum=10) }},
        {{ ratio('win_rate', 'won_amount', 'closed_amount', sample='valued_deals', window=90, minimum=10,
                 dimension="'{\"basis\": \"value\"}'::jsonb") }},
        {{ ratio('stage_conversion_lead_to_opp', 'leads_with_deal', 'leads') }},
        {{ ratio('follow_up_rate', 'leads_in_time', 'leads_due') }},
        {{ ratio('no_show_rate', 'no_shows', 'meetings') }},
        {{ ratio('proposal_acceptance_rate', 'accepted', 'proposals', window=90) }}
    ) as {{ metric_columns() }}
    where daily.metric_date >= {{ window_start() }}
),

cycles as (
    select daily.tenant_id, daily.metric_date, metric.*
    from {{ ref('int_sales_cycles_spined_daily') }} as daily
    cross join lateral (values
        {{ ratio('avg_sales_cycle_days', 'won_cycle_days', 'won_deals', window=90) }},
        {% for stat in ['median', 'p90'] -%}
        {{ metric('avg_sales_cycle_days', stat ~ '_cycle_days',
                  "case when won_deals > 0 then 'ok' else 'undefined' end",
                  numerator=stat ~ '_cycle_days', sample='won_deals', window=90,
                  dimension="'{\"stat\": \"" ~ stat ~ "\"}'::jsonb") }},
        {% endfor -%}
        {{ ratio('avg_sales_cycle_days', 'open_deal_days', 'open_deals', window=90,
                 dimension="'{\"stat\": \"open_age\"}'::jsonb") }}
    ) as {{ metric_columns() }}
),

cohorts as (
    select daily.tenant_id, daily.metric_date, metric.*
    from {{ ref('int_deal_cohorts_spined_daily') }} as daily
    cross join lateral (values
        {{ ratio('stage_conversion_opp_to_close', 'won_deals', 'created_deals', window=90) }}
    ) as {{ metric_columns() }}
),

waits as (
    select days.tenant_id, days.metric_date, metric.*
    from {{ ref('int_tenant_days') }} as days
    cross join (values (false, '{}'::jsonb), (true, '{"basis": "business_hours"}'::jsonb))
        as bases (in_business_hours, dimension)
    left join {{ ref('int_lead_waits_spined_daily') }} as waits using (tenant_id, metric_date, in_business_hours)
    cross join lateral (values
        {{ metric('speed_to_lead_hours', 'waits.median_hours',
                  "case when waits.leads is null then 'undefined' when waits.median_hours is null then 'infinite'"
                  ~ " else 'ok' end",
                  numerator='waits.median_hours', sample='waits.leads', window=30, dimension='bases.dimension') }}
    ) as {{ metric_columns() }}
    where days.metric_date >= {{ window_start() }}
)

select * from counted
union all
select * from cycles
union all
select * from cohorts
union all
select * from waits
