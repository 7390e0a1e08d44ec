{{ config(materialized='view') }}

{%- set paid_only -%} case when paid.has_paid_channel then 'ok' else 'not_applicable' end {%- endset -%}

{%- set cac_status -%}
  case
    when paid.weighted_customers_t90 > 0 then 'ok'
    when paid.spend_t90 > 0 then 'infinite'
    else 'undefined'
  end
{%- endset -%}

with paid as (
    select * from {{ ref('int_paid_spined_daily') }}
    where metric_date >= {{ window_start() }} - 29
)

select paid.tenant_id, paid.metric_date, metric.*
from paid
inner join {{ ref('int_pipeline_spined_daily') }} as pipeline using (tenant_id, metric_date)
cross join lateral (values
    {#- Without spend a day, or a window, is 0 only when every source of spend speaks for the whole of it. -#}
    {% for suffix, days, dimension in [
        ('', 1, '{}'), ('_t7', 7, '{"window": "T7"}'), ('_t30', 30, '{"window": "T30"}'),
        ('_t90', 90, '{"window": "T90"}'),
    ] -%}
    {%- set spend_status -%}
      case
        when not paid.has_paid_channel then 'not_applicable'
        when paid.spend{{ suffix }} = 0 and paid.metric_date - {{ days - 1 }} < paid.complete_from_date then 'undefined'
        else 'ok'
      end
    {%- endset -%}
    {{ metric('spend_paid_total', 'paid.spend' ~ suffix, spend_status, 'paid.spend' ~ suffix,
              sample='paid.spend_rows' ~ suffix, window=days, dimension="'" ~ dimension ~ "'::jsonb") }},
    {% endfor -%}
    {{ flow('impressions_paid', 'paid.impressions', 'paid.spend_rows', paid_only) }},
    {{ flow('clicks_paid', 'paid.clicks', 'paid.spend_rows', paid_only) }},
    {{ flow('leads_from_paid', 'paid.leads', 'paid.spend_rows', paid_only) }},
    {{ flow('revenue_from_paid', 'paid.revenue', 'paid.revenue_events') }},
    {{ state('pipeline_from_paid', 'pipeline.paid_amount', 'pipeline.paid_deals') }},
    {{ metric('cac_paid', 'paid.spend_t90 / nullif(paid.weighted_customers_t90, 0)', cac_status, 'paid.spend_t90',
              'paid.weighted_customers_t90', 'paid.customers_t90', 90) }},
    {{ ratio('cpl_paid', 'paid.spend_t30', 'paid.leads_t30') }},
    {{ ratio('ctr_paid', 'paid.clicks_t30', 'paid.impressions_t30') }},
    {{ ratio('cpc_paid', 'paid.spend_t30', 'paid.clicks_t30') }},
    {{ ratio('cost_per_opportunity_paid', 'paid.spend_t30', 'paid.opportunities_t30') }},
    {{ ratio('roas_paid', 'paid.revenue_t30', 'paid.spend_t30', sample='paid.spend_rows_t30') }},
    {{ ratio('roas_paid', 'paid.revenue_t90', 'paid.spend_t90', sample='paid.spend_rows_t90', window=90,
             dimension="'{\"window\": \"T90\"}'::jsonb") }}
) as {{ metric_columns() }}
