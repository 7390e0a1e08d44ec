{{ config(
    group='warehouse',
    severity='warn',
    meta={'dagster': {'ref': {'name': 'int_pipeline_channels_spined_daily'}}},
) }}

-- Fails for a tenant whose attribution gives more than the whole of a deal away.
select
    channels.tenant_id,
    channels.metric_date,
    sum(channels.pipeline_amount) as channels_amount,
    pipeline.pipeline_amount
from {{ ref('int_pipeline_channels_spined_daily') }} as channels
inner join {{ ref('int_pipeline_spined_daily') }} as pipeline using (tenant_id, metric_date)
group by channels.tenant_id, channels.metric_date, pipeline.pipeline_amount
having sum(channels.pipeline_amount) <> pipeline.pipeline_amount
