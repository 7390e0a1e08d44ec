-- What is shown beside a ratio is what it was divided from.
{{ config(meta={'dagster': {'ref': {'name': 'metric_snapshots_daily'}}}) }}

select snapshots.tenant_id, snapshots.date, snapshots.metric_id, snapshots.dimension_key
from {{ ref('metric_snapshots_daily') }} as snapshots
inner join {{ ref('metric_definitions') }} as definitions using (metric_id)
where {{ window_predicate('snapshots.date', 'snapshots.tenant_id') }}
    and snapshots.value is not null
    and (
        snapshots.numerator is null
        or abs(
            snapshots.value
            - snapshots.numerator * case when definitions.unit = 'percent' then 100 else 1 end
            / coalesce(snapshots.denominator, 1)
        ) > 0.000001 * greatest(1, abs(snapshots.value))
    )
