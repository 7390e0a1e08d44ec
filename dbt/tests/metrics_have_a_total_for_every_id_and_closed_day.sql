-- Whoever asks for a metric gets a value or the reason there is none. That no total comes twice is the primary key.
{{ config(meta={'dagster': {'ref': {'name': 'metric_snapshots_daily'}}}) }}

select days.tenant_id, days.metric_date, definitions.metric_id
from {{ ref('int_tenant_days') }} as days
cross join {{ ref('metric_definitions') }} as definitions
left join {{ ref('metric_snapshots_daily') }} as snapshots
    on snapshots.tenant_id = days.tenant_id
    and snapshots.date = days.metric_date
    and snapshots.metric_id = definitions.metric_id
    and snapshots.dimension_key = ''
where snapshots.metric_id is null and {{ window_predicate('days.metric_date', 'days.tenant_id') }}
