{{ config(materialized='table', post_hook="{{ protect_rows(this) }}") }}

select
    tenant_id,
    date_trunc('hour', due_at, 'UTC') as hour_at,
    count(*) as jobs,
    percentile_cont(0.95) within group (order by wait_seconds)::numeric(18, 3) as wait_p95_seconds
from {{ ref('int_delivery_job_waits') }}
group by 1, 2
