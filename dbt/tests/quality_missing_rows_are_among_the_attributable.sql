{{ config(group='warehouse', meta={'dagster': {'ref': {'name': 'int_attribution_spined_daily'}}}) }}

select tenant_id, metric_date
from {{ ref('int_attribution_spined_daily') }}
where missing_rows not between 0 and attributable_rows
