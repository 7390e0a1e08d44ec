{{ config(materialized='table', post_hook="{{ protect_rows(this) }}") }}

select
    tenant_id,
    due_date as date,
    channel,
    count(*) as jobs,
    count(*) filter (where not is_begun) as waiting_jobs,
    {% for percent in [50, 95, 99] -%}
    percentile_cont(0.{{ percent }}) within group (order by wait_seconds)::numeric(18, 3) as start_p{{ percent }}_seconds,
    {% endfor -%}
    {% for percent in [50, 95, 99] -%}
    percentile_cont(0.{{ percent }}) within group (order by work_seconds)::numeric(18, 3)
        as end_p{{ percent }}_seconds{{ "," if not loop.last }}
    {% endfor %}
from {{ ref('int_delivery_job_waits') }}
group by tenant_id, due_date, channel
