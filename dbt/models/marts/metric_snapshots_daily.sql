{{ config(
    materialized='incremental',
    incremental_strategy='replace_window',
    window_column='date',
    unique_key=['tenant_id', 'date', 'metric_id', 'dimension_key'],
    volatile_columns=['computed_at', 'run_id'],
    full_refresh=false,
    on_schema_change='fail',
    indexes=[{'columns': ['tenant_id', 'metric_id', 'date']}],
    post_hook="{{ protect_rows(this) }}",
) }}

with family_rows as (
    {% for family in ['demand', 'paid', 'conversion', 'economics', 'quality'] -%}
    select * from {{ ref('metrics_' ~ family) }}
    {{ "union all" if not loop.last }}
    {% endfor %}
),

definitions as (
    select * from {{ ref('metric_definitions') }}
),

covered as (
    select
        family_rows.tenant_id,
        family_rows.metric_date as date,
        -- An id outside the dictionary becomes null here, and the contract refuses it.
        definitions.metric_id,
        family_rows.dimension,
        {{ dimension_key('family_rows.dimension') }} as dimension_key,
        family_rows.value,
        family_rows.numerator,
        family_rows.denominator,
        family_rows.sample_size,
        family_rows.window_days,
        {{ coverage_status('definitions', 'coverage', 'family_rows.metric_date', 'family_rows.window_days') }}
            as coverage_status,
        family_rows.value_status
    from family_rows
    left join definitions on definitions.metric_id = family_rows.metric_id
    left join {{ ref('int_metric_coverage') }} as coverage
        on coverage.tenant_id = family_rows.tenant_id and coverage.metric_id = family_rows.metric_id
    where {{ window_predicate('family_rows.metric_date', 'family_rows.tenant_id') }}
)

select
    covered.tenant_id,
    covered.date,
    covered.metric_id,
    covered.dimension,
    covered.dimension_key,
    case
        when covered.coverage_status = 'covered' and covered.value_status = 'ok' then covered.value
    end::numeric(38, 12) as value,
    case covered.coverage_status
        when 'covered' then covered.value_status
        when 'part' then 'undefined'
        else covered.coverage_status
    end as value_status,
    case when covered.coverage_status = 'covered' then covered.numerator end::numeric(38, 12) as numerator,
    case when covered.coverage_status = 'covered' then covered.denominator end::numeric(38, 12) as denominator,
    case when covered.coverage_status = 'covered' then coalesce(covered.sample_size, 0) else 0 end as sample_size,
    covered.window_days,
    {{ as_of() }} as computed_at,
    {{ run_id() }}::text as run_id,
    days.is_final
from covered
inner join {{ ref('int_tenant_days') }} as days
    on days.tenant_id = covered.tenant_id and days.metric_date = covered.date
where covered.coverage_status in ('covered', 'part') or covered.dimension_key = ''
