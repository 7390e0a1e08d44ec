{{ config(
    group='warehouse',
    severity='warn',
    meta={'dagster': {'ref': {'name': 'int_freshness_spined_daily'}}},
) }}

-- A source whose clock is ahead, or a hand-over filed under the wrong local day, shows as an age below 0.
select tenant_id, metric_date, source_system, age_hours
from {{ ref('int_freshness_spined_daily') }}
where age_hours < 0
