-- A metric is what its definition says; a row without a definition says nothing.
{{ config(meta={'dagster': {'ref': {'name': 'metric_snapshots_daily'}}}) }}

select snapshots.metric_id, count(*) as rows_found
from {{ ref('metric_snapshots_daily') }} as snapshots
left join {{ ref('metric_definitions') }} as definitions using (metric_id)
where definitions.metric_id is null and {{ window_predicate('snapshots.date', 'snapshots.tenant_id') }}
group by snapshots.metric_id
