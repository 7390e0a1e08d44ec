{{ config(materialized='view') }}

with days as (
    select * from {{ ref('int_tenant_days') }} where metric_date >= {{ window_start() }}
),

freshness as (
    select
        tenant_id,
        metric_date,
        count(*) as sources,
        case when count(*) = count(age_hours) then max(age_hours) end as worst_age_hours
    from {{ ref('int_freshness_spined_daily') }}
    group by tenant_id, metric_date
),

freshness_rows as (
    select days.tenant_id, days.metric_date, metric.*
    from days
    left join freshness using (tenant_id, metric_date)
    cross join lateral (values
        {{ metric('data_freshness_hours', 'worst_age_hours',
                  "case when worst_age_hours is null then 'undefined' else 'ok' end",
                  numerator='worst_age_hours', sample='coalesce(sources, 0)') }}
    ) as {{ metric_columns() }}
    union all
    select sources.tenant_id, sources.metric_date, metric.*
    from {{ ref('int_freshness_spined_daily') }} as sources
    cross join lateral (values
        {{ metric('data_freshness_hours', 'age_hours',
                  "case when age_hours is null then 'undefined' else 'ok' end",
                  numerator='age_hours', sample='case when age_hours is null then 0 else 1 end',
                  dimension="jsonb_build_object('source', source_system)") }}
    ) as {{ metric_columns() }}
),

attribution as (
    select daily.tenant_id, daily.metric_date, metric.*
    from {{ ref('int_attribution_spined_daily') }} as daily
    cross join lateral (values
        {{ ratio('missing_attribution_pct', 'missing_rows', 'attributable_rows', scale=100) }}
    ) as {{ metric_columns() }}
    where daily.metric_date >= {{ window_start() }}
),

duplicates as (
    select daily.tenant_id, daily.metric_date, metric.*
    from {{ ref('int_contacts_spined_daily') }} as daily
    cross join lateral (values
        {{ metric('duplicate_contact_rate', '1 - identities::numeric / nullif(contacts, 0)',
                  "case when contacts = 0 then 'undefined' else 'ok' end",
                  numerator='1 - identities::numeric / nullif(contacts, 0)', sample='contacts') }}
    ) as {{ metric_columns() }}
    where daily.metric_date >= {{ window_start() }}
),

coverage as (
    select targets.tenant_id, targets.metric_date, metric.*
    from {{ ref('int_targets_spined_daily') }} as targets
    inner join {{ ref('int_pipeline_spined_daily') }} as pipeline using (tenant_id, metric_date)
    cross join lateral (values
        {{ metric('pipeline_coverage_ratio',
                  'pipeline.qualified_closing_this_month_amount / nullif(greatest(missing_bookings, 0), 0)',
                  "case when target_bookings = 0 or missing_bookings <= 0 then 'not_applicable' else 'ok' end",
                  numerator='pipeline.qualified_closing_this_month_amount', denominator='missing_bookings',
                  sample='pipeline.qualified_closing_this_month_deals') }}
    ) as {{ metric_columns() }}
    where targets.metric_date >= {{ window_start() }}
),

-- What the five metrics no decision can do without will say on each of the 30 days.
required as (
    select tenant_id, metric_date, metric_id, value_status, window_days
    from {{ ref('metrics_demand') }}
    where metric_id = 'pipeline_total' and dimension = '{}'
    union all
    select tenant_id, metric_date, metric_id, value_status, window_days
    from {{ ref('metrics_economics') }}
    where metric_id in ('bookings_new', 'cac_blended', 'payback_months', 'gross_margin_pct') and dimension = '{}'
),

known as (
    select required.tenant_id, required.metric_date, count(*) as known_metrics
    from required
    inner join {{ ref('metric_definitions') }} as definitions using (metric_id)
    left join {{ ref('int_metric_coverage') }} as covered using (tenant_id, metric_id)
    where {{ coverage_status('definitions', 'covered', 'required.metric_date', 'required.window_days') }} = 'covered'
        and required.value_status in ('ok', 'infinite', 'not_applicable')
    group by required.tenant_id, required.metric_date
),

known_daily as (
    select
        days.tenant_id,
        days.metric_date,
        coalesce(sum(known.known_metrics) over month, 0) as known_metrics
    from {{ ref('int_tenant_days') }} as days
    left join known using (tenant_id, metric_date)
    window month as (partition by days.tenant_id order by days.metric_date rows between 29 preceding and current row)
),

completeness as (
    select daily.tenant_id, daily.metric_date, metric.*
    from known_daily as daily
    cross join lateral (values
        {{ ratio('data_coverage_pct', 'known_metrics', '150', scale=100) }}
    ) as {{ metric_columns() }}
    where daily.metric_date >= {{ window_start() }}
)

select * from freshness_rows
union all
select * from attribution
union all
select * from duplicates
union all
select * from coverage
union all
select * from completeness
