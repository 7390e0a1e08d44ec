{{ config(materialized='view') }}

{#- Total and components; the total is added - won - lost + resized. -#}
{%- set velocities = [('pipeline.pipeline_amount - pipeline.pipeline_amount_30_days_before', '{}')] -%}
{%- for component in ['added', 'won', 'lost', 'resized'] -%}
  {%- do velocities.append(('pipeline.' ~ component ~ '_amount_t30', '{"component": "' ~ component ~ '"}')) -%}
{%- endfor %}

with inflows as (
    select daily.tenant_id, daily.metric_date, metric.*
    from {{ ref('int_demand_spined_daily') }} as daily
    cross join lateral (values
        {{ flow('leads_created', 'daily.leads_created') }},
        {{ flow('mqls_created', 'daily.mqls_created') }},
        {{ flow('qualified_opps_created', 'daily.qualified_opps_created') }},
        {{ flow('opps_created', 'daily.opps_created') }}
    ) as {{ metric_columns() }}
    where daily.metric_date >= {{ window_start() }} - 29
),

pipeline as (
    select pipeline.tenant_id, pipeline.metric_date, metric.*
    from {{ ref('int_pipeline_spined_daily') }} as pipeline
    left join {{ ref('int_fact_coverage') }} as history
        on history.tenant_id = pipeline.tenant_id and history.fact = 'opportunity_stage_history'
    -- Whether the day to compare with is covered, too.
    cross join lateral (
        values (coalesce(history.covered_from_date <= pipeline.metric_date - 30, false))
    ) as comparison (looks_back)
    cross join lateral (values
        {{ state('pipeline_total', 'pipeline.pipeline_amount', 'pipeline.open_deals') }},
        {{ state('pipeline_total', 'pipeline.qualified_amount', 'pipeline.qualified_deals',
                 dimension="'{\"basis\": \"qualified\"}'::jsonb") }},
        {{ state('pipeline_total', 'pipeline.weighted_amount', 'pipeline.open_deals',
                 dimension="'{\"basis\": \"weighted\"}'::jsonb") }},
        {{ state('pipeline_total', 'pipeline.unvalued_deals', 'pipeline.unvalued_deals',
                 dimension="'{\"basis\": \"unvalued_count\"}'::jsonb") }},
        {{ state('channel_contribution', 'pipeline.pipeline_amount', 'pipeline.open_deals') }},
        {% for amount, dimension in velocities -%}
        {{ metric('pipeline_velocity', '(' ~ amount ~ ') / 30', "case when looks_back then 'ok' else 'undefined' end",
                  numerator='case when looks_back then ' ~ amount ~ ' end',
                  denominator='case when looks_back then 30 end', sample='case when looks_back then 30 else 0 end', window=30,
                  dimension="'" ~ dimension ~ "'::jsonb") }}{{ "," if not loop.last }}
        {% endfor %}
    ) as {{ metric_columns() }}
    where pipeline.metric_date >= {{ window_start() }} - 29
),

channels as (
    select channels.tenant_id, channels.metric_date, metric.*
    from {{ ref('int_pipeline_channels_spined_daily') }} as channels
    cross join lateral (values
        {{ state('channel_contribution', 'channels.pipeline_amount', 'channels.open_deals',
                 dimension="jsonb_build_object('channel', channels.channel)") }}
    ) as {{ metric_columns() }}
),

margins as (
    select margins.tenant_id, margins.metric_date, margins.value as gross_margin
    from {{ ref('metrics_economics') }} as margins
    inner join {{ ref('metric_definitions') }} as definitions using (metric_id)
    left join {{ ref('int_metric_coverage') }} as covered using (tenant_id, metric_id)
    where {{ coverage_status('definitions', 'covered', 'margins.metric_date', 'margins.window_days') }} = 'covered'
        and margins.metric_id = 'gross_margin'
        and margins.dimension = '{}'
        and margins.value_status = 'ok'
),

total_returns as (
    select days.tenant_id, days.metric_date, metric.*
    from {{ ref('int_tenant_days') }} as days
    left join (
        select
            tenant_id,
            metric_date,
            sum(revenue_t90) as revenue_t90,
            sum(spend_t90) as spend_t90,
            sum(spend_events_t90) as spend_events_t90
        from {{ ref('int_campaign_returns_spined_daily') }}
        group by tenant_id, metric_date
    ) as returns using (tenant_id, metric_date)
    cross join lateral (values
        {{ ratio('campaign_roas', 'coalesce(returns.revenue_t90, 0)', 'coalesce(returns.spend_t90, 0)',
                 sample='coalesce(returns.spend_events_t90, 0)', window=90) }}
    ) as {{ metric_columns() }}
    where days.metric_date >= {{ window_start() }} - 29
),

campaign_returns as (
    select returns.tenant_id, returns.metric_date, metric.*
    from {{ ref('int_campaign_returns_spined_daily') }} as returns
    left join margins using (tenant_id, metric_date)
    cross join lateral (values
        {{ ratio('campaign_roas', 'returns.revenue_t90', 'returns.spend_t90', sample='returns.spend_events_t90',
                 window=90, dimension="jsonb_build_object('campaign', returns.campaign_id)") }},
        {{ ratio('campaign_roas', 'returns.revenue_t90 * margins.gross_margin', 'returns.spend_t90',
                 sample='returns.spend_events_t90', window=90,
                 dimension="jsonb_build_object('basis', 'margin', 'campaign', returns.campaign_id)") }}
    ) as {{ metric_columns() }}
),

outreach as (
    select outreach.tenant_id, outreach.metric_date, metric.*
    from {{ ref('int_outreach_spined_daily') }} as outreach
    cross join lateral (values
        {{ ratio('email_reply_rate', 'outreach.replied_recipients', 'outreach.recipients', minimum=50) }},
        {{ ratio('meeting_book_rate', 'outreach.booked_contacts', 'outreach.attempted_contacts') }}
    ) as {{ metric_columns() }}
)

select * from inflows
union all
select * from pipeline
union all
select * from channels
union all
select * from total_returns
union all
select * from campaign_returns
union all
select * from outreach
