-- ARR is 12 x MRR, the margin in percent 100 x the margin; the total by channel is the blended one.
{{ config(meta={'dagster': {'ref': {'name': 'metric_snapshots_daily'}}}) }}

with pairs as (
    select *
    from (values
        ('arr_total', 'mrr_total', 12), ('gross_margin_pct', 'gross_margin', 100), ('cac_by_channel', 'cac_blended', 1),
        ('channel_contribution', 'pipeline_total', 1)
    ) as pairs (derived_id, source_id, factor)
)

select derived.tenant_id, derived.date, derived.metric_id, derived.value, source.value as source_value
from pairs
inner join {{ ref('metric_snapshots_daily') }} as derived on derived.metric_id = pairs.derived_id
left join {{ ref('metric_snapshots_daily') }} as source
    on source.tenant_id = derived.tenant_id
    and source.date = derived.date
    and source.metric_id = pairs.source_id
    and source.dimension_key = derived.dimension_key
where {{ window_predicate('derived.date', 'derived.tenant_id') }}
    and (derived.dimension_key = '' or derived.metric_id = 'gross_margin_pct')
    and (
        derived.value_status is distinct from source.value_status
        or abs(derived.value - pairs.factor * source.value) > 0.000001
    )
