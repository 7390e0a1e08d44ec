-- Every cost and every customer belongs to one row by channel. A deal whose weights exceed 1 breaks it.
{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'metric_snapshots_daily'}}}) }}

select tenant_id, date, sum(denominator) filter (where dimension_key <> '') as customers_by_channel
from {{ ref('metric_snapshots_daily') }}
where metric_id = 'cac_by_channel' and {{ window_predicate('date') }}
group by tenant_id, date
having
    abs(sum(case when dimension_key = '' then 1 else -1 end * numerator)) > 0.000001
    or abs(sum(case when dimension_key = '' then 1 else -1 end * denominator)) > 0.000001
