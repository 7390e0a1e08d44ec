{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_pipeline_spined_daily'}}}) }}

select tenant_id, metric_date
from {{ ref('int_pipeline_spined_daily') }}
where pipeline_amount - pipeline_amount_30_days_before
    <> added_amount_t30 - won_amount_t30 - lost_amount_t30 + resized_amount_t30
